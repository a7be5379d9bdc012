"""A wall meter's readings laid over stretches of time: exact where it can be, additive always, refused where it must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.joules.wall_meter import Quantity, UncoveredError, WallMeter

T0 = 1_777_636_800.0
SHARES = st.floats(0.0, 1.0)


def meter(times_s, values, quantity=Quantity.WATTS):
    return WallMeter("wall.csv", quantity, T0 + np.array(times_s, dtype=float), np.array(values, dtype=float))


@st.composite
def readings(draw, quantity=None):
    """A meter that reads at uneven steps, none of them a pause."""
    steps_s = draw(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=30))
    values = draw(st.lists(st.floats(0.0, 500.0), min_size=len(steps_s) + 1, max_size=len(steps_s) + 1))
    chosen = draw(st.sampled_from(Quantity)) if quantity is None else quantity
    times_s = np.concatenate([[0.0], np.cumsum(steps_s)])
    return meter(times_s, np.cumsum(values) if chosen is Quantity.JOULES else values, chosen)


def at(one, share):
    # Not beyond the last reading by a rounding.
    return min(one.times_s[0] + share * (one.times_s[-1] - one.times_s[0]), one.times_s[-1])


@given(readings(), SHARES, SHARES, SHARES)
def test_joules_of_neighbouring_stretches_add_up(one, a, b, c):
    start, middle, end = sorted(at(one, share) for share in (a, b, c))
    parts = one.energy_j(start, middle) + one.energy_j(middle, end)
    assert parts == pytest.approx(one.energy_j(start, end), rel=1e-6, abs=1e-3)
    assert one.energy_j(start, end) >= 0.0
    assert one.energy_j(middle, middle) == 0.0


@given(readings(Quantity.WATTS), SHARES, SHARES)
def test_joules_lie_between_the_least_and_the_most_power(one, a, b):
    start, end = sorted((at(one, a), at(one, b)))
    joules, span = one.energy_j(start, end), end - start
    assert one.values.min() * span - 1e-6 <= joules <= one.values.max() * span + 1e-6


@given(readings(Quantity.WATTS), SHARES, SHARES, st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_reading_on_the_line_between_two_changes_nothing(one, a, b, where, which):
    gap = which % (len(one.times_s) - 1)
    time_s = one.times_s[gap] + where * (one.times_s[gap + 1] - one.times_s[gap])
    watts = np.interp(time_s, one.times_s, one.values)
    more = WallMeter(
        one.source, one.quantity, np.insert(one.times_s, gap + 1, time_s), np.insert(one.values, gap + 1, watts)
    )
    start, end = sorted((at(one, a), at(one, b)))
    # Finer steps make a usual one shorter: what is a pause is asked of the first meter alone.
    widest_s = np.diff(more.times_s).max()
    if widest_s > 10.0 * more.interval_s:
        return
    assert more.energy_j(start, end) == pytest.approx(one.energy_j(start, end), rel=1e-6, abs=1e-3)


@given(st.floats(0.0, 1000.0), st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_even_power_is_watts_times_seconds_and_the_same_from_counted_joules(watts, a, b):
    start, end = sorted((a, b))
    times_s = np.arange(0.0, 21.0)
    by_watts = meter(times_s, np.full(21, watts))
    by_joules = meter(times_s, 1234.0 + watts * times_s, Quantity.JOULES)
    expected = pytest.approx(watts * (end - start), rel=1e-6, abs=1e-3)
    assert by_watts.energy_j(T0 + start, T0 + end) == expected
    assert by_joules.energy_j(T0 + start, T0 + end) == expected


@given(st.floats(0.0, 9.0), st.floats(0.0, 9.0))
def test_power_that_rises_evenly_is_integrated_exactly(a, b):
    start, end = sorted((a, b))
    one = meter(np.arange(10.0), 3.0 * np.arange(10.0))
    assert one.energy_j(T0 + start, T0 + end) == pytest.approx(1.5 * (end**2 - start**2), rel=1e-6, abs=1e-3)


@given(readings(), SHARES, SHARES, st.floats(-1e6, 1e6))
def test_both_clocks_may_be_shifted_together(one, a, b, shift_s):
    start, end = sorted((at(one, a), at(one, b)))
    moved = WallMeter(one.source, one.quantity, one.times_s + shift_s, one.values)
    inside = [min(max(time_s + shift_s, moved.times_s[0]), moved.times_s[-1]) for time_s in (start, end)]
    assert moved.energy_j(*inside) == pytest.approx(one.energy_j(start, end), rel=1e-5, abs=1e-2)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (-1.5, 3.0, "starts 1.5 s too late"),
        (3.0, 12.0, "ends 3.0 s too early"),
        (-1.0, 10.0, "starts 1.0 s too late and ends 1.0 s too early"),
        (20.0, 21.0, "ends 12.0 s too early"),
    ],
)
def test_a_stretch_beyond_the_readings_is_refused(start, end, said):
    one = meter(range(10), [5.0] * 10)
    with pytest.raises(UncoveredError, match="check that both clocks are set") as refused:
        one.energy_j(T0 + start, T0 + end)
    assert said in str(refused.value)


def test_a_pause_of_the_meter_is_refused_where_it_matters_and_nowhere_else():
    times = [*range(10), *range(30, 40)]
    one = meter(times, [5.0] * 20)
    assert one.interval_s == 1.0
    assert one.energy_j(T0 + 1.0, T0 + 8.5) == pytest.approx(37.5)
    assert one.energy_j(T0 + 30.0, T0 + 39.0) == pytest.approx(45.0)
    for start, end in ((8.5, 31.0), (12.0, 13.0), (9.5, 9.6)):
        with pytest.raises(UncoveredError, match=r"no reading for 21.0 s .* usually has one every 1 s"):
            one.energy_j(T0 + start, T0 + end)


def test_an_end_before_its_start_is_no_stretch():
    with pytest.raises(InvalidRequestError, match="was the clock of this machine set back"):
        meter(range(10), [5.0] * 10).energy_j(T0 + 2.0, T0 + 1.0)
