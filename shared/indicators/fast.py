"""A constructor for frozen dataclasses that costs a sixth of the ordinary one.

A frozen dataclass sets each field through `object.__setattr__`, which for an Indicator takes longer than decoding,
normalising and guarding it. Here the values go into an open class with the very same slots, whose class then changes:
Python allows that where the layouts are equal, and refuses it (TypeError) where they are not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def constructor[T](frozen: type[T]) -> Callable[..., T]:
    """A function that takes all fields of the frozen, slotted dataclass `frozen` by position, and makes one.

    Raises:
        TypeError: when the layout of `frozen` cannot be matched.
    """
    names = [field.name for field in dataclasses.fields(frozen)]  # type: ignore[arg-type]
    opened: Callable[..., Any] = dataclasses.make_dataclass(f"Open{frozen.__name__}", names, slots=True, eq=False)

    def construct(*values: Any) -> T:
        made = opened(*values)
        made.__class__ = frozen
        return made  # type: ignore[no-any-return]

    construct(*names)  # so that a layout that does not match is found at import
    return construct
