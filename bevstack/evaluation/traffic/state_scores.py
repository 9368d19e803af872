"""Scores of reported states of traffic lights over time, against their true timelines.

A reported state holds from its time stamp to the next one. A true state lasts from its change to
the next one. Seconds are integrals over these intervals, so no sampling rate enters.

A light is in sight as long as its housing is. Its state can be known from the first image on that
shows its lamps: seen before and hidden now, it is remembered. Accuracy counts the seconds from then
on; false green, delays and flashing count all seconds in sight.

Names of states are those of ``TrafficCue.state_name``: a colour of ``LIGHT_COLORS``, "flashing_"
and a colour, or "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bevstack.types.cues import UNKNOWN
from bevstack.types.traffic import ElementTimeline, Lamp, light_color

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FLASHING = "flashing_"
RED_STATES = ("red", "red_yellow", "flashing_red")
GREEN_STATES = ("green", "flashing_green")
FLASHING_WITHIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class ReportedStates:
    """The reports about one light at N times, beside its true states.

    Raises:
        ValueError: lengths differ, or the times do not ascend.
    """

    timeline: ElementTimeline
    timestamp_us: Ints  # (N,) ascending
    names: tuple[str, ...]  # N reported states; "unknown" without a report
    counted: Bools  # (N,) False: the light was out of sight, so the time until the next is left out
    observable: Bools  # (N,) False: images come too slowly to see a lamp flash
    knowable: Bools  # (N,) True from the first image on that shows its lamps

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.counted), len(self.observable), len(self.knowable)}
        if lengths != {len(self.timestamp_us)}:
            raise ValueError(
                f"ReportedStates must have {len(self.timestamp_us)} names and flags, as times; "
                f"got {sorted(lengths)}"
            )
        if (np.diff(self.timestamp_us) <= 0).any():
            raise ValueError("ReportedStates.timestamp_us must ascend; got a time twice or earlier")

    def held_at(self, timestamp_us: int) -> int:
        """Return the index of the report that holds at a time; -1 before the first."""
        return int(np.searchsorted(self.timestamp_us, timestamp_us, side="right")) - 1


@dataclass(frozen=True, kw_only=True)
class StateSums:
    """Sums over lights from which the scores are formed."""

    element_s: float = 0.0  # counted seconds with a known true state, once it can be known
    correct_s: float = 0.0  # of them, with the reported state equal; "unknown" never is
    in_sight_s: float = 0.0  # counted seconds with a known true state
    correct_in_sight_s: float = 0.0  # of them, with the reported state equal
    red_s: float = 0.0  # counted seconds with a true state of RED_STATES
    false_green_s: float = 0.0  # of them, with a reported state of GREEN_STATES
    red_delays_s: tuple[float, ...] = ()  # of each counted change to red; infinite: missed
    green_delays_s: tuple[float, ...] = ()
    flashing_count: int = 0  # true flashing states of at least FLASHING_WITHIN_S
    flashing_right: int = 0
    steady_count: int = 0
    steady_right: int = 0
    not_observable: int = 0  # states that are left out as the images come too slowly

    def __add__(self, other: StateSums) -> StateSums:
        """Return the sums of both."""
        values = {
            name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__
        }
        return StateSums(**values)


@dataclass(frozen=True, kw_only=True)
class StateScores:
    """Scores of reported states; NaN where nothing was counted."""

    element_s: float
    accuracy: float  # correct seconds / element seconds; "unknown" is wrong
    in_sight_s: float
    accuracy_in_sight: float  # the same over all seconds in sight, lamps never shown included
    red_s: float
    false_green_per_red_s: float
    red_delay_median_s: float  # from the true change to the first report; infinite: missed
    red_delay_95_s: float
    red_missed: float  # share of changes that were not reported before the next change
    green_delay_median_s: float
    green_delay_95_s: float
    green_missed: float
    flashing_accuracy: float  # mean of the right shares of flashing and steady states
    num_flashing: int
    num_not_observable: int
    num_changes: int = field(default=0)


def true_state_name(lamps: tuple[Lamp, ...]) -> str:
    """Return the name of a true state; "unknown" of lamps whose colours do not stand together."""
    try:
        color = light_color(lamps)
    except ValueError:
        return UNKNOWN
    flashes = color != "off" and any(lamp.status == "flashing" for lamp in lamps)
    return FLASHING + color if flashes else color


def sum_states(reports: Iterable[ReportedStates]) -> StateSums:
    """Add up the sums of several lights."""
    total = StateSums()
    for report in reports:
        total = total + _seconds(report) + _changes(report) + _flashing(report)
    return total


def score_states(sums: StateSums) -> StateScores:
    """Form the scores of sums.

    Delays are quantiles over all counted changes, with a missed one as infinite; a quantile is the
    least delay that at least this share of the changes does not exceed.
    """
    flashing = [
        _share(sums.flashing_right, sums.flashing_count),
        _share(sums.steady_right, sums.steady_count),
    ]
    return StateScores(
        element_s=sums.element_s,
        accuracy=_share(sums.correct_s, sums.element_s),
        in_sight_s=sums.in_sight_s,
        accuracy_in_sight=_share(sums.correct_in_sight_s, sums.in_sight_s),
        red_s=sums.red_s,
        false_green_per_red_s=_share(sums.false_green_s, sums.red_s),
        red_delay_median_s=delay_quantile(sums.red_delays_s, 0.5),
        red_delay_95_s=delay_quantile(sums.red_delays_s, 0.95),
        red_missed=_missed(sums.red_delays_s),
        green_delay_median_s=delay_quantile(sums.green_delays_s, 0.5),
        green_delay_95_s=delay_quantile(sums.green_delays_s, 0.95),
        green_missed=_missed(sums.green_delays_s),
        flashing_accuracy=float(np.mean(flashing)),
        num_flashing=sums.flashing_count,
        num_not_observable=sums.not_observable,
        num_changes=len(sums.red_delays_s) + len(sums.green_delays_s),
    )


def delay_quantile(delays_s: Sequence[float], share: float) -> float:
    """Return the least delay that at least a share of the delays does not exceed; NaN of none."""
    if not delays_s:
        return float("nan")
    rank = int(np.ceil(share * len(delays_s))) - 1
    return sorted(delays_s)[rank]


def _seconds(report: ReportedStates) -> StateSums:
    """Sum over the pieces between all reports and changes of state."""
    times = report.timestamp_us
    if len(times) < 2:
        return StateSums()
    changes = report.timeline.timestamp_us
    inner = changes[(changes > times[0]) & (changes < times[-1])]
    edges = np.unique(np.concatenate((times, inner)))
    starts, lengths = edges[:-1], np.diff(edges) * 1e-6
    held = np.searchsorted(times, starts, side="right") - 1
    reported = np.array(report.names)[held]
    true = _true_names(report.timeline, starts)
    counted = report.counted[held] & (true != UNKNOWN)
    knowable = counted & report.knowable[held]
    is_red = counted & np.isin(true, RED_STATES)
    is_false = is_red & np.isin(reported, GREEN_STATES)
    return StateSums(
        element_s=float(lengths[knowable].sum()),
        correct_s=float(lengths[knowable & (true == reported)].sum()),
        in_sight_s=float(lengths[counted].sum()),
        correct_in_sight_s=float(lengths[counted & (true == reported)].sum()),
        red_s=float(lengths[is_red].sum()),
        false_green_s=float(lengths[is_false].sum()),
    )


def _changes(report: ReportedStates) -> StateSums:
    """Measure the delays of the changes to red and to green."""
    delays: dict[tuple[str, ...], list[float]] = {RED_STATES: [], GREEN_STATES: []}
    times = report.timeline.timestamp_us
    names = [true_state_name(lamps) for lamps in report.timeline.lamps]
    for index in range(1, len(names)):
        for states, found in delays.items():
            if names[index] in states and names[index - 1] not in states:
                end = _end_of_state(names, times, index, states)
                delay = _delay(report, int(times[index]), end, states)
                found += [] if delay is None else [delay]
    return StateSums(
        red_delays_s=tuple(delays[RED_STATES]), green_delays_s=tuple(delays[GREEN_STATES])
    )


def _end_of_state(
    names: Sequence[str], times: Ints, index: int, states: tuple[str, ...]
) -> int | None:
    """Return the time at which the light leaves the states; None: it does not."""
    for later in range(index + 1, len(names)):
        if names[later] not in states:
            return int(times[later])
    return None


def _delay(
    report: ReportedStates, start_us: int, end_us: int | None, states: tuple[str, ...]
) -> float | None:
    """Return the seconds from a change to the first report of one of the states.

    0 if such a report holds already, infinite if none comes before the light leaves the states;
    None if the light is not counted at the change, or the reports do not cover it.
    """
    held = report.held_at(start_us)
    if held < 0 or not report.counted[held] or start_us >= report.timestamp_us[-1]:
        return None
    if report.names[held] in states:
        return 0.0
    for index in range(held + 1, len(report.names)):
        if end_us is not None and report.timestamp_us[index] >= end_us:
            break
        if report.names[index] in states:
            return float(report.timestamp_us[index] - start_us) * 1e-6
    return float("inf")


def _flashing(report: ReportedStates) -> StateSums:
    """Compare "flashes" and "is steady" two seconds after a true state came or came into sight."""
    counts = {True: [0, 0], False: [0, 0]}
    left_out = 0
    if not len(report.names):
        return StateSums()
    starts = report.timeline.timestamp_us
    first, last = int(report.timestamp_us[0]), int(report.timestamp_us[-1])
    for index, lamps in enumerate(report.timeline.lamps):
        true = true_state_name(lamps)
        begin = max(int(starts[index]), first) if index else first
        end = int(starts[index + 1]) if index + 1 < len(starts) else last + 1
        look = begin + round(FLASHING_WITHIN_S * 1e6)
        if true == UNKNOWN or look >= min(end, last + 1):
            continue
        held = report.held_at(look)
        if not report.counted[held] or not report.counted[report.held_at(begin)]:
            continue
        if not report.observable[held]:
            left_out += 1
            continue
        name, flashes = report.names[held], true.startswith(FLASHING)
        right = name != UNKNOWN and name.startswith(FLASHING) == flashes
        counts[flashes][0] += 1
        counts[flashes][1] += right
    return StateSums(
        flashing_count=counts[True][0],
        flashing_right=counts[True][1],
        steady_count=counts[False][0],
        steady_right=counts[False][1],
        not_observable=left_out,
    )


def _true_names(timeline: ElementTimeline, times_us: Ints) -> NDArray[np.str_]:
    names = np.array([true_state_name(lamps) for lamps in timeline.lamps])
    rows = np.searchsorted(timeline.timestamp_us, times_us, side="right") - 1
    true: NDArray[np.str_] = names[np.maximum(rows, 0)]
    return true


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _missed(delays_s: Sequence[float]) -> float:
    return _share(float(np.isinf(delays_s).sum()), len(delays_s))
