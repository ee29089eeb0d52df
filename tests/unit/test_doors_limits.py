"""One caller's share: so many at a time, so many in a window, whatever the others do."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.limits import Bodies, BusyError, FullError, Share
from shared.settings import Limit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_a_time_and_the_others_unharmed() -> None:
    share = Share(2, ())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(share.of("greedy"))
        with pytest.raises(BusyError) as refused, share.of("greedy"):
            pass
        assert refused.value.retry_after == 1
        with share.of("modest"):
            pass
    with share.of("greedy"):
        pass


def test_a_place_is_given_back_when_the_request_fails() -> None:
    share = Share(1, ())
    for _ in range(3):
        with pytest.raises(RuntimeError), share.of("a"):
            raise RuntimeError


@example(  # the wait is a whole second and a rounding error
    [(1.9017102264250383, "a"), (1.1671197381042662, "a"), (1.7293704313652176, "b"), (1.2531579964784458, "b")]
    + [(1.2093846510808741, "b"), (0.3333333333333333, "b"), (0.001, "b"), (0.0, "b"), (0.7888703619362627, "a")]
    + [(0.0, "a")] * 3
)
@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab")), max_size=60))
def test_no_window_holds_more_than_its_limit(steps: list[tuple[float, str]]) -> None:
    clock = Clock()
    limits = (Limit(3, 5.0), Limit(5, 20.0))
    share = Share(10, limits, clock)
    starts: dict[str, list[float]] = {"a": [], "b": []}
    for pause, caller in steps:
        clock.now += pause
        try:
            with share.of(caller):
                starts[caller].append(clock.now)
        except BusyError as error:
            assert error.retry_after >= 1
            # It was refused for a reason: one of the windows is full.
            assert any(sum(t > clock.now - limit.seconds for t in starts[caller]) >= limit.calls for limit in limits)
            clock.now += error.retry_after
            with share.of(caller):
                starts[caller].append(clock.now)
        for limit in limits:
            times = starts[caller]
            assert all(sum(end - limit.seconds < t <= end for t in times) <= limit.calls for end in times)


def test_callers_without_number_cost_no_memory_without_bound() -> None:
    share = Share(1, (Limit(1, 60.0),))
    for number in range(5_000):
        with share.of(f"app:{number}"):
            pass
    assert len(share._starts) <= 500 and not share._busy


def test_bodies_in_hand_have_a_bound_and_one_alone_always_fits() -> None:
    bodies = Bodies(100)
    with bodies.hold(1_000) as alone:
        alone.now(90)
        with bodies.hold(10), pytest.raises(FullError), bodies.hold(1):
            raise AssertionError("there is no room")
        with pytest.raises(RuntimeError), bodies.hold(10):
            raise RuntimeError("a handler fails")
        with bodies.hold(10), bodies.hold(0):
            assert bodies.held == 100
    assert bodies.held == 0
