"""The pages' figures of camera health and of corruptions are those of the benchmarks' files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bevstack.types.health import CameraState
from tests.sources import ROOT

RESULTS = ROOT / "benchmarks" / "results"
# Faults by the name of their state, where the names differ.
FAULT_OF = {"out_of_order": "reordered"}
AXES = {"yaw": "vertical", "pitch": "horizontal", "roll": "optical"}
LEVELS = ("easy", "moderate", "hard")
MASKED = "corruptions_tiny_cpu_t4.json"
BLACK = "corruptions_tiny_cpu_t4_black.json"
HEALTH = "corruptions_tiny_cpu_t4_health.json"


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text("utf-8"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def found_cells(row: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    return [
        f"{row['detected']} of {row['trials']}",
        f"{row['rate']:.3f} ({low:.3f} to {high:.3f})",
        f"{row['limit_s']:g} s",
    ]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def health_lines(result: dict[str, Any]) -> list[str]:
    """Return a row for each state, and one for each axis of turned cameras."""
    lines = []
    for state in CameraState:
        if state is CameraState.OK:
            continue
        alarms = result["false_alarms"]["states"][state.value]
        rate = f"{alarms['per_camera_hour']:.2f} (to {alarms['interval'][1]:.2f})"
        counts = [str(alarms["alarms"]), rate]
        name = f"`{state.name}`"
        if state is not CameraState.TURNED:
            found = result["detection"][FAULT_OF.get(state.value, state.value)]
            lines.append(line([name, *counts, *found_cells(found)]))
            continue
        for suffix, degrees in (("", "3 to 6"), ("_far", "6 to 9")):
            for axis, title in AXES.items():
                cells = found_cells(result["detection"][f"turned_{axis}{suffix}"])
                title = f"{name} by {degrees} degrees, {title} axis"
                lines.append(line([title, *counts, *cells]))
                counts = ["", ""]
    return lines


def test_the_page_of_health_holds_the_rates_of_the_file() -> None:
    text, result = page("health.md"), read("health.json")
    lines = health_lines(result)
    assert len(lines) == 19
    assert [row for row in lines if row not in text] == []
    assert f"{result['false_alarms']['camera_hours']:.1f} camera-hours" in text


def nds(result: dict[str, Any], name: str) -> list[str]:
    row = result["corruptions"][name]
    return [*(f"{row[level]['NDS']:.3f}" for level in LEVELS), f"{row['RR']:.3f}"]


def test_the_page_of_corruptions_holds_the_scores_of_the_file() -> None:
    text, result = page("corruptions.md"), read(MASKED)
    for name in result["corruptions"]:
        assert line([name, *nds(result, name)]) in text
    assert f"| {result['clean']['NDS']:.3f} |" in text
    assert f"reached) | | | | {result['mRR']:.3f} |" in text


def test_the_page_of_corruptions_holds_the_scores_with_and_without_health() -> None:
    text, off, on = page("corruptions.md"), read(BLACK), read(HEALTH)
    for key in ("model", "data", "clean"):
        kept = [{k: v for k, v in one[key].items() if k != "seconds"} for one in (off, on)]
        assert kept[0] == kept[1], key
    assert off["mode"] == {**on["mode"], "health": False} and on["mode"]["health"]
    for name in off["corruptions"]:
        rates = [one["corruptions"][name]["RR"] for one in (off, on)]
        cells = [f"{rate:.3f}" for rate in rates] + [f"{rates[1] - rates[0]:+.3f}"]
        levels = [f"{one['corruptions'][name][k]['NDS']:.3f}" for k in LEVELS for one in (off, on)]
        pairs = [f"{levels[i]}, {levels[i + 1]}" for i in (0, 2, 4)]
        assert line([name, *pairs, *cells]) in text
    means = [one["mRR"] for one in (off, on)]
    cells = [f"{mean:.3f}" for mean in means] + [f"{means[1] - means[0]:+.3f}"]
    assert line(["mean (mRR)", "", "", "", *cells]) in text


@pytest.mark.parametrize("name", ["CameraCrash", "FrameLost"])
def test_the_page_of_corruptions_holds_the_cost_of_lost_cameras(name: str) -> None:
    text, result = page("corruptions.md"), read(HEALTH)
    clean = result["clean"]["mAP"]
    for level in LEVELS:
        row = result["corruptions"][name][level]
        rates = [n / (clean * row["cameras"]) for n in (row["mAP"], row["clean_mAP_left"])]
        cells = [f"{row['cameras']:.3f}", f"{row['mAP']:.3f}", *(f"{rate:.3f}" for rate in rates)]
        cells.append(("reached" if rates[0] >= 0.85 else "missed") if name == "CameraCrash" else "")
        assert line([f"{name} {level}", *cells]) in text


def test_lost_cameras_that_health_finds_cost_what_known_ones_do() -> None:
    found, known = read(HEALTH), read(MASKED)
    for name in ("CameraCrash", "FrameLost"):
        for level in LEVELS:
            one, other = (result["corruptions"][name][level]["NDS"] for result in (found, known))
            assert one == pytest.approx(other, abs=1e-6)  # the metric's own rounding


DAMAGES = {
    "black": "black, noise of {} levels",
    "over_exposed": "over-exposed, light times {}",
    "noise": "noise of {} levels",
    "blurred": "blur of {}/1000 of the width",
    "covered": "covered, {} of the area",
}


def test_the_page_of_health_holds_the_scores_of_masks() -> None:
    text, result = page("health.md"), read("masking.json")
    half = result["half_of_the_cameras"]
    rows = [
        (DAMAGES[kind].format(strength), "half", scores, half["masked"])
        for kind, found in half["not_masked"].items()
        for strength, scores in found.items()
    ]
    rows += [
        (f"{name} {level}", "all", scores["not_masked"], scores["masked"])
        for name, found in result["all_cameras"].items()
        for level, scores in found.items()
    ]
    assert len(rows) == 16
    for name, cameras, bare, masked in rows:
        assert line([name, cameras, f"{bare['mAP']:.3f}", f"{masked['mAP']:.3f}"]) in text


def test_the_page_of_corruptions_holds_the_scores_of_the_trial() -> None:
    text, trial, packaged = page("corruptions.md"), read("corruptions_trained.json"), read(HEALTH)
    assert trial["data"] == packaged["data"] and trial["mode"] == packaged["mode"]
    clean = [f"{one['clean']['NDS']:.3f}" for one in (packaged, trial)]
    assert line(["none", ", ".join(clean), "", "", "", ""]) in text
    rates: list[tuple[float, float]] = []
    for name, levels in trial["corruptions"].items():
        before = packaged["corruptions"][name]
        assert set(levels) == set(LEVELS)
        rate = sum(row["NDS"] for row in levels.values()) / len(LEVELS) / trial["clean"]["NDS"]
        rates.append((before["RR"], rate))
        cells = [f"{before[level]['NDS']:.3f}, {levels[level]['NDS']:.3f}" for level in LEVELS]
        assert line([name, *cells, f"{before['RR']:.3f}", f"{rate:.3f}"]) in text
    assert len(rates) == 8
    means = [f"{sum(column) / len(column):.3f}" for column in zip(*rates, strict=True)]
    assert line(["mean (mRR)", "", "", "", *means]) in text
