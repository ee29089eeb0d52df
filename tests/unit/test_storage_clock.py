"""The service's clock, told from Date headers of whole seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.storage.clock import Onward, ServiceClock


@given(
    st.floats(-100.0, 100.0),
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 0.3), st.booleans()), min_size=1, max_size=30),
)
def test_storage_moments_move_on_while_the_clock_is_learned(off: float, steps: list[tuple[float, float, bool]]) -> None:
    here = [1_000_000.0]
    clock = ServiceClock(lambda: here[0], lambda: here[0] + off)
    clock.observe(float(int(here[0])), here[0], here[0])
    onward = Onward(clock)
    told = onward.now()
    for pause, took, learns in steps:
        here[0] += pause
        asked = here[0]
        here[0] += took
        if learns:
            clock.observe(float(int(asked + took / 2)), asked, here[0])
        now = onward.now()
        # Who is told a time later is told a later one: the order of what one worker takes in hangs on it.
        assert now > told
        assert abs(now - here[0]) <= 1.5 or now == clock.now()
        told = now


def test_storage_moments_follow_a_service_whose_clock_was_set_back() -> None:
    here = [1_000_000.0]
    clock = ServiceClock(lambda: here[0], lambda: here[0])
    clock.observe(1_000_000.0, here[0], here[0])
    onward = Onward(clock)
    before = onward.now()
    here[0] += 1.0
    clock.observe(999_000.0, here[0], here[0])
    assert onward.now() < before - 900
