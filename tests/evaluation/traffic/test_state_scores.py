"""Scores of states over time against loops over every hundredth of a second."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.evaluation.traffic.state_scores import (
    ReportedStates,
    StateSums,
    score_states,
    sum_states,
    true_state_name,
)
from bevstack.types.traffic import ElementTimeline, Lamp

STEP_US = 10_000
NAMES = ("red", "green", "yellow", "red_yellow", "off", "flashing_yellow", "flashing_green")
REPORTS = (*NAMES, "unknown")


def lamps_of(name: str) -> tuple[Lamp, ...]:
    color = name.removeprefix("flashing_")
    status = "flashing" if name.startswith("flashing_") else "on"
    if color == "off":
        return ()
    return tuple(Lamp(c, "circle", status) for c in color.split("_"))


def timeline(changes: list[tuple[int, str]]) -> ElementTimeline:
    times = np.array([time for time, _ in changes], np.int64) * STEP_US
    return ElementTimeline("e", "s", times, tuple(lamps_of(name) for _, name in changes))


@st.composite
def reports(draw: st.DrawFn) -> ReportedStates:
    changes = sorted(draw(st.sets(st.integers(1, 900), max_size=5)))
    true = [(time, draw(st.sampled_from(NAMES))) for time in (0, *changes)]
    stamps = sorted(draw(st.sets(st.integers(0, 1000), min_size=1, max_size=25)))
    flags = st.lists(st.booleans(), min_size=len(stamps), max_size=len(stamps))
    return ReportedStates(
        timeline=timeline(true),
        timestamp_us=np.array(stamps, np.int64) * STEP_US,
        names=tuple(draw(st.sampled_from(REPORTS)) for _ in stamps),
        counted=np.array(draw(flags)),
        observable=np.array(draw(flags)),
        knowable=np.array(draw(flags)),
    )


def loop(report: ReportedStates) -> StateSums:
    """Visit every step of time; all times are multiples of the step."""
    stamps = (report.timestamp_us // STEP_US).tolist()
    changes = (report.timeline.timestamp_us // STEP_US).tolist()
    names = [true_state_name(lamps) for lamps in report.timeline.lamps]
    true = [names[max(i for i, t in enumerate(changes) if t <= s or not i)] for s in range(1001)]
    held = [max((i for i, t in enumerate(stamps) if t <= s), default=None) for s in range(1001)]
    red, green = ("red", "red_yellow", "flashing_red"), ("green", "flashing_green")
    seconds = ("element_s", "correct_s", "in_sight_s", "correct_in_sight_s")
    sums = dict.fromkeys((*seconds, "red_s", "false_green_s"), 0)
    for s in range(stamps[0], stamps[-1]):
        if report.counted[held[s]]:
            name = report.names[held[s]]
            known = bool(report.knowable[held[s]])
            sums["element_s"] += known
            sums["correct_s"] += known and name == true[s]
            sums["in_sight_s"] += 1
            sums["correct_in_sight_s"] += name == true[s]
            sums["red_s"] += true[s] in red
            sums["false_green_s"] += true[s] in red and name in green
    delays: list[list[float]] = [[], []]
    for group, found in zip((red, green), delays, strict=True):
        for s in range(1, 1001):
            if true[s] in group and true[s - 1] not in group:
                if s >= stamps[-1] or held[s] is None or not report.counted[held[s]]:
                    continue
                times = range(s, stamps[-1] + 1)
                later = itertools.takewhile(lambda t: true[t] in group, times)  # noqa: B023
                seen = [t for t in later if report.names[held[t]] in group]
                found.append((seen[0] - s) / 100 if seen else math.inf)
    counts = {"flashing": [0, 0], "steady": [0, 0]}
    left_out = 0
    for index, name in enumerate(names):
        begin = max(changes[index], stamps[0]) if index else stamps[0]
        end = changes[index + 1] if index + 1 < len(changes) else stamps[-1] + 1
        look = begin + 200
        if look >= end or look > stamps[-1]:
            continue
        if not (report.counted[held[look]] and report.counted[held[begin]]):
            continue
        if not report.observable[held[look]]:
            left_out += 1
            continue
        kind = "flashing" if "flashing" in name else "steady"
        reported_name = report.names[held[look]]
        counts[kind][0] += 1
        counts[kind][1] += reported_name != "unknown" and ("flashing" in reported_name) == (
            kind == "flashing"
        )
    return StateSums(
        **{name: value / 100 for name, value in sums.items()},
        red_delays_s=tuple(delays[0]),
        green_delays_s=tuple(delays[1]),
        flashing_count=counts["flashing"][0],
        flashing_right=counts["flashing"][1],
        steady_count=counts["steady"][0],
        steady_right=counts["steady"][1],
        not_observable=left_out,
    )


@settings(max_examples=60, deadline=None)
@given(reports())
def test_sums_equal_a_loop_over_time(report: ReportedStates) -> None:
    found, expected = sum_states([report]), loop(report)
    for name in StateSums.__dataclass_fields__:
        # Sums of hundredths of a second as floats.
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-9), name


def scored(
    true: list[tuple[int, str]], reported: list[tuple[int, str]], first_shown: int = 0
) -> StateSums:
    count = len(reported)
    report = ReportedStates(
        timeline=timeline(true),
        timestamp_us=np.array([time for time, _ in reported], np.int64) * STEP_US,
        names=tuple(name for _, name in reported),
        counted=np.ones(count, bool),
        observable=np.ones(count, bool),
        knowable=np.array([time >= first_shown for time, _ in reported]),
    )
    return sum_states([report])


def test_unknown_is_wrong_and_a_late_change_is_measured() -> None:
    sums = scored(
        [(0, "green"), (300, "red")],
        [(0, "green"), (100, "unknown"), (200, "green"), (320, "red"), (400, "red")],
    )
    scores = score_states(sums)
    # Of 4 s: 1 s unknown, 0.2 s green while red is lit.
    assert scores.accuracy == pytest.approx(2.8 / 4)
    assert scores.red_s == pytest.approx(1.0)
    assert scores.false_green_per_red_s == pytest.approx(0.2)
    assert scores.red_delay_median_s == pytest.approx(0.2) and scores.red_missed == 0.0
    assert math.isnan(scores.green_delay_median_s)


def test_lamps_not_shown_yet_count_for_false_green_and_not_for_accuracy() -> None:
    reported = [(0, "green"), (100, "unknown"), (200, "red"), (400, "red")]
    scores = score_states(scored([(0, "red")], reported, first_shown=100))
    assert (scores.element_s, scores.accuracy) == pytest.approx((3.0, 2 / 3))
    assert (scores.in_sight_s, scores.accuracy_in_sight) == pytest.approx((4.0, 0.5))
    assert (scores.red_s, scores.false_green_per_red_s) == pytest.approx((4.0, 0.25))
    never = score_states(scored([(0, "red")], reported, first_shown=500))
    assert never.element_s == 0.0 and math.isnan(never.accuracy) and never.red_s == 4.0


def test_a_missed_change_has_an_infinite_delay() -> None:
    sums = scored(
        [(0, "red"), (100, "green"), (200, "red"), (300, "green")],
        [(0, "red"), (310, "green"), (400, "green")],
    )
    scores = score_states(sums)
    assert sums.green_delays_s == (math.inf, pytest.approx(0.1))
    assert scores.green_missed == 0.5 and scores.green_delay_95_s == math.inf
    assert scores.green_delay_median_s == pytest.approx(0.1)
    assert scores.red_delay_median_s == 0.0  # red was reported all the time


def test_flashing_is_the_mean_over_both_kinds() -> None:
    sums = scored(
        [(0, "flashing_yellow"), (300, "red"), (600, "green")],
        [
            (0, "yellow"),
            (150, "flashing_yellow"),
            (300, "red"),
            (450, "flashing_red"),
            (900, "red"),
        ],
    )
    scores = score_states(sums)
    assert (sums.flashing_right, sums.flashing_count) == (1, 1)
    assert (sums.steady_right, sums.steady_count) == (0, 2)
    assert scores.flashing_accuracy == 0.5


def test_lamps_that_do_not_stand_together_are_unknown() -> None:
    assert true_state_name((Lamp("red"), Lamp("green", "left"))) == "unknown"
    assert true_state_name((Lamp("red"), Lamp("yellow"))) == "red_yellow"
    assert true_state_name((Lamp("red", "circle", "off"),)) == "off"


def test_reports_that_do_not_fit_are_refused() -> None:
    flags = np.ones(2, bool)
    for times, names in (([0, 0], ("red", "red")), ([0, 1], ("red",))):
        with pytest.raises(ValueError, match="ReportedStates"):
            ReportedStates(
                timeline=timeline([(0, "red")]),
                timestamp_us=np.array(times, np.int64),
                names=names,
                counted=flags,
                observable=flags,
                knowable=flags,
            )
