from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.calibration import fit_line, scaling
from edge_agent.config.model import CalibrateLinear, Delta, Median, Throttle
from edge_agent.sources.channel import ChannelFlow, PlainRows, series_def
from hardware.driver import Channel, Raw
from tests.unit.edge_agent.parts import ManualClock, Script, channel_plan, line_of, sensor_plan
from wire.reading import CellState, Quality

CENTI = Channel("temperature", "Cel", den=100, low=-40, high=85)
ABSENT = (0, CellState.ABSENT, 0)


def steps(flow: ChannelFlow, cells: list[Raw | CellState], period_s: float = 1.0) -> list[tuple[Raw, int, int]]:
    return [flow.step(cell, round(at * period_s * 1e6)) for at, cell in enumerate(cells)]


def flow_of(channel: Channel = CENTI, **said: Any) -> ChannelFlow:
    return ChannelFlow("s", channel_plan(channel, **said), PlainRows(), 0)


def test_a_plain_value_goes_through_unchanged() -> None:
    flow = flow_of()
    assert flow.step(2150, 5) == (2150, 0, 0)
    assert flow.latest is not None
    assert (flow.latest.raw, flow.latest.value_us, flow.values) == (2150, 5, 1)


def test_a_gap_is_its_reason_and_keeps_the_last_value() -> None:
    flow = flow_of()
    flow.step(2150, 5)
    assert flow.step(CellState.NO_ANSWER, 9) == (0, CellState.NO_ANSWER, 0)
    assert flow.latest is not None
    assert (flow.latest.state, flow.latest.raw, flow.latest.value_us, flow.gaps) == (CellState.NO_ANSWER, 2150, 5, 1)


def test_what_is_no_integer_count_is_a_gap_and_never_a_zero() -> None:
    assert flow_of().step(1.5, 0) == (0, CellState.DRIVER_ERROR, 0)
    assert flow_of().step(True, 0) == (0, CellState.DRIVER_ERROR, 0)
    assert flow_of().step(1 << 63, 0) == (0, CellState.BAD_DATA, 0)


@pytest.mark.parametrize(("raw", "doubt"), [(-4000, 0), (8500, 0), (8501, Quality.RANGE), (-4001, Quality.RANGE)])
def test_range_is_of_the_value_in_its_unit(raw: int, doubt: int) -> None:
    assert flow_of(low=-40.0, high=85.0).step(raw, 0)[2] == doubt


def test_range_holds_for_the_calibrated_value() -> None:
    shifted = CalibrateLinear(calibrate_linear=[(20.0, 30.0)])
    flow = flow_of(high=85.0, calibration=shifted)
    assert flow.step(7500, 0)[2] == 0
    assert flow.step(7600, 1)[2] == Quality.RANGE


def test_a_float_that_is_no_number_is_out_of_range() -> None:
    flow = flow_of(Channel("x", "V", value_type="float64"), low=0.0, high=5.0)
    raw, state, quality = flow.step(math.nan, 0)
    assert math.isnan(raw)
    assert (state, quality) == (0, Quality.RANGE)


def test_rate_of_change_is_per_second() -> None:
    flow = flow_of(rate_max=0.5)
    assert [cell[2] for cell in steps(flow, [2000, 2050, 2101, 2101])] == [0, 0, Quality.RATE, 0]
    slow = flow_of(rate_max=0.5)
    assert [cell[2] for cell in steps(slow, [2000, 2050, 2101], 10.0)] == [0, 0, 0]


def test_stuck_after_so_many_equal_raw_values() -> None:
    flow = flow_of(stuck=3)
    assert [cell[2] for cell in steps(flow, [7, 7, 7, 7, 8, 8])] == [0, 0, Quality.STUCK, Quality.STUCK, 0, 0]


def test_a_value_that_came_long_after_its_stamp_is_stale() -> None:
    flow = flow_of(stale=1.0)
    assert flow.step(5, 0, 1_000_000)[2] == 0
    assert flow.step(5, 0, 1_000_001)[2] == Quality.STALE


def test_uncalibrated_until_there_are_points() -> None:
    assert flow_of(needs_calibration=True).step(5, 0)[2] == Quality.UNCALIBRATED
    points = CalibrateLinear(calibrate_linear=[(0.0, 0.1)])
    assert flow_of(needs_calibration=True, calibration=points).step(5, 0)[2] == 0


def test_median_keeps_raw_a_count_that_was_measured() -> None:
    flow = flow_of(filters=(Median(median=3),))
    assert [cell[0] for cell in steps(flow, [10, 90, 11, 12, 13])] == [10, 10, 11, 12, 12]


def test_median_hides_a_spike_from_the_range_bit() -> None:
    flow = flow_of(filters=(Median(median=3),), high=1.0)
    assert [cell[2] for cell in steps(flow, [10, 11, 9000, 12])] == [0, 0, 0, 0]


def test_delta_takes_what_moved_and_the_heartbeat() -> None:
    flow = flow_of(filters=(Delta(delta=0.07, heartbeat=5.0),))
    taken = [state != CellState.ABSENT for _, state, _ in steps(flow, [0, 6, 7, 8, 14, 14, 14, 14, 14, 14])]
    assert taken == [True, False, True, False, True, False, False, False, False, True]


def test_delta_without_heartbeat_waits_for_ever() -> None:
    flow = flow_of(filters=(Delta(delta=1.0),))
    assert steps(flow, [5, 5], 1e6)[1] == ABSENT


def test_throttle_takes_at_most_one_per_period() -> None:
    flow = flow_of(filters=(Throttle(throttle=3.0),))
    taken = [state != CellState.ABSENT for _, state, _ in steps(flow, [1, 2, 3, 4, 5, 6, 7])]
    assert taken == [True, False, False, True, False, False, True]


def test_a_gap_passes_filters_once_and_the_recovery_too() -> None:
    flow = flow_of(filters=(Delta(delta=1.0), Throttle(throttle=100.0)))
    nak = CellState.NO_ANSWER
    states = [state for _, state, _ in steps(flow, [5, nak, nak, nak, CellState.TIMEOUT, 5, 5])]
    absent = CellState.ABSENT
    assert states == [0, nak, absent, absent, CellState.TIMEOUT, 0, absent]


def test_filters_count_only_what_is_taken() -> None:
    flow = flow_of(filters=(Throttle(throttle=100.0),))
    steps(flow, [1, 2, 3])
    assert flow.values == 1
    assert flow.latest is not None
    assert flow.latest.raw == 3


def test_calibration_never_touches_raw_and_names_its_version() -> None:
    plan = channel_plan(CENTI, calibration=CalibrateLinear(calibrate_linear=[(0.2, 0.0), (39.8, 40.0)], version=4))
    definition = series_def("s", plan)
    assert ChannelFlow("s", plan, PlainRows(), 0).step(2000, 0)[0] == 2000
    assert definition.calibration == 4
    values = definition.values(np.array([20, 3980]))
    assert values == pytest.approx([0.0, 40.0], abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=6),
    st.integers(-10_000, 10_000),
    st.sampled_from([Channel("a", "Cel", den=100), Channel("b", "Pa", num=3, den=256, off=7)]),
)
def test_the_integer_line_is_the_fitted_line(points: list[tuple[float, float]], raw: int, channel: Channel) -> None:
    calibration = CalibrateLinear(calibrate_linear=points)
    slope, shift = fit_line(points)
    if abs(slope) > 1e3 or abs(shift) > 1e6:
        return
    num, off, den = scaling(channel, calibration)
    measured = (raw * channel.num + channel.off) / channel.den
    assert (raw * num + off) / den == pytest.approx(slope * measured + shift, rel=1e-6, abs=1e-5)


def test_a_line_too_steep_for_63_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="63 bits"):
        scaling(CENTI, CalibrateLinear(calibrate_linear=[(0.0, 0.0), (1e-9, 1e9)]))


CELLS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**63, -(2**63), 2**63 - 1, True, 1.5, CellState.TIMEOUT, CellState.ABSENT]),
)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6))
def test_plain_cells_are_taken_as_one_by_one(rounds: list[list[Any]]) -> None:
    rows, none = PlainRows(), PlainRows()
    plans = [channel_plan(Channel(name, "count")) for name in "ab"]
    quick, slow = ([ChannelFlow("s", plan, of, place) for place, plan in enumerate(plans)] for of in (rows, none))
    assert quick[0].plain_us == 30_000_000
    for stamp_us, cells in enumerate(rounds):
        expected = [flow.step(cell, stamp_us) for flow, cell in zip(slow, cells)]
        if rows.take(cells, stamp_us):
            assert expected == [(cell, 0, 0) for cell in cells]
        else:
            assert [flow.step(cell, stamp_us) for flow, cell in zip(quick, cells)] == expected
        assert [(flow.latest, flow.values, flow.gaps) for flow in quick] == [
            (flow.latest, flow.values, flow.gaps) for flow in slow
        ]


@pytest.mark.parametrize(
    "said",
    [
        {"low": 0.0},
        {"high": 9.0},
        {"rate_max": 1.0},
        {"stuck": 3},
        {"filters": (Median(median=3),)},
        {"filters": (Delta(delta=1.0),)},
        {"needs_calibration": True},
    ],
)
def test_what_doubts_or_holds_back_is_not_plain(said: dict[str, Any]) -> None:
    assert flow_of(**said).plain_us == -1
    assert flow_of(Channel("f", "count", value_type="float64")).plain_us == -1


def test_plain_cells_that_come_too_late_are_stale() -> None:
    clock = ManualClock()
    slow = Script()
    slow.conversion_s = 0.2
    plan = sensor_plan("a", slow)
    plan = msgspec.structs.replace(plan, channels=(channel_plan(stale=0.1),))
    (tick,) = line_of(clock, plan).run_due()
    assert tick.quality == bytes([Quality.STALE])
