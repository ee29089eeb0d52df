"""What must never be blocked, and why. One file a guard.

To add one: write `shared/guard/<name>.py` with a pure function `Indicator -> Problem | None`, name it in `GUARDS` (and
in `TYPES`, when it has nothing to say of most types), and test it in `tests/unit/test_guard_<name>.py`. A guard that
needs a list loads it at its first use, never at import.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.guard import addresses, suffixes
from shared.indicators.model import Indicator, IndicatorType
from shared.indicators.problem import Problem

type Guard = Callable[[Indicator], Problem | None]

# In order of cost; the first problem is the answer.
GUARDS: tuple[Guard, ...] = (addresses.check, suffixes.check)
# Of which types a guard may say something; one that is not named here is asked about all.
TYPES: dict[Guard, frozenset[IndicatorType]] = {addresses.check: addresses.TYPES, suffixes.check: suffixes.TYPES}
_BY_TYPE = {kind: tuple(guard for guard in GUARDS if kind in TYPES.get(guard, IndicatorType)) for kind in IndicatorType}


def check(indicator: Indicator) -> Problem | None:
    """Why `indicator` must not be published, or None."""
    for guard in _BY_TYPE[indicator.type]:
        problem = guard(indicator)
        if problem is not None:
            return problem
    return None


def check_all(indicator: Indicator) -> list[Problem]:
    """Every guard's reason why not; those that nobody may override come first."""
    problems = [problem for guard in GUARDS if (problem := guard(indicator)) is not None]
    return sorted(problems, key=lambda problem: problem.overridable)
