"""Names of lights over time: accuracy, false green, delays, flashing, the asymmetric rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bevstack.config.cues import LightConfig
from bevstack.planning.lights import (
    STATE_NAMES,
    LightLooks,
    LightMemory,
    update_lights,
)
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS
from tests.planning.light_cycles import ROW, Run, run_cycles

CONFIG = LightConfig()


@pytest.fixture(scope="module")
def cycles() -> Run:
    """Return 150 lights over 45 s at 10 Hz, with 30 % of the frames dropped."""
    return run_cycles(150, 450, seed=1)


@pytest.fixture(scope="module")
def flashes() -> Run:
    """Return 200 lights over 2 s at 10 Hz, half of them flashing, no frame dropped."""
    return run_cycles(200, 21, drop=0.0, flashing=0.5, seed=2)


def test_states_are_right_per_element_second(cycles: Run) -> None:
    assert (cycles.truth == cycles.named)[10:].mean() >= 0.97


def test_green_is_hardly_ever_named_at_red(cycles: Run) -> None:
    red = cycles.truth == ROW["red"]
    red_s = red.sum() / cycles.hz
    false_s = (red & (cycles.named == ROW["green"])).sum() / cycles.hz
    assert red_s >= 3000
    assert false_s / red_s < 1e-3


def test_changes_are_named_soon(cycles: Run) -> None:
    delays = {state: cycles.delays_s(state) for state in ("red", "yellow", "green")}
    assert all(len(values) > 50 for values in delays.values())
    assert np.median(delays["red"]) <= 0.2 and delays["red"].mean() <= 0.2
    assert np.median(delays["green"]) <= 0.4 and delays["green"].mean() <= 0.4


def test_flashing_is_distinguished_from_steady_within_two_seconds(flashes: Run) -> None:
    truth, named = flashes.truth[-1], flashes.named[-1]
    flashing = truth >= ROW["flashing_red"]
    assert (truth == named)[flashing].mean() >= 0.9
    assert (named < ROW["flashing_red"])[~flashing].mean() >= 0.9


def test_flashing_is_named_within_its_first_period() -> None:
    """At 12 Hz half of the flashing lights have their name after 0.6 s, nine of ten after 1 s."""
    run = run_cycles(300, 24, hz=12.0, drop=0.0, flashing=1.0, seed=4)
    right = run.truth == run.named
    first_s = np.where(right.any(0), right.argmax(0) / run.hz, np.inf)
    assert np.median(first_s) <= 0.6 and np.quantile(first_s, 0.9) <= 1.0
    assert right[12:].mean() >= 0.9


@pytest.mark.parametrize(("dark", "most"), [("random", 0.001), ("led", 0.002), ("beat", 0.01)])
def test_dark_exposures_hardly_ever_become_flashing(dark: str, most: float) -> None:
    """Share of the time in which a steady light is named flashing, over 3,000 s at 12 Hz."""
    run = run_cycles(150, 240, hz=12.0, drop=0.0, dark=dark, seed=5)
    flashing = (run.named >= ROW["flashing_red"]) & (run.named <= ROW["flashing_green"])
    assert flashing.mean() < most


def test_flashing_green_obeys_the_rule_of_green() -> None:
    """It is named after two successive images of green alone, and one of red ends it."""
    off, green = look("off"), look("green")
    period = [off, off, off, off, green, green, green, green]
    frames = [(k / 12, period[k % 8]) for k in range(37)]
    found = names([*frames, (37 / 12, look("red"))])
    assert found[35] == "flashing_green" and found[37] == "red"
    first = found.index("flashing_green")
    assert [frames[first - 1][1], frames[first][1]] == [green, green]


def test_flashing_is_not_guessed_from_two_images_a_second() -> None:
    run = run_cycles(60, 20, hz=2, drop=0.0, flashing=0.5, seed=3)
    assert not (
        np.isin(run.named, [ROW[f"flashing_{c}"] for c in ("red", "yellow", "green")])
    ).any()
    assert not run.memory.flashing_observable(9_500_000, CONFIG).any()


def test_flashing_is_observable_at_eight_hertz_and_not_at_five() -> None:
    for hz, expected in ((8.0, True), (12.0, True), (5.0, False)):
        run = run_cycles(3, round(2 * hz) + 1, hz=hz, drop=0.0)
        assert (run.memory.flashing_observable(2_000_000, CONFIG) == expected).all(), hz


def look(
    color: str, certainty: float = 0.96, seen: bool = True, lamp: str = "circle"
) -> LightLooks:
    scores = np.full((1, len(LIGHT_COLORS)), (1 - certainty) / 4)
    scores[0, LIGHT_COLORS.index(color)] = certainty
    shape = np.full((1, len(LAMP_SHAPES)), 0.02)
    shape[0, LAMP_SHAPES.index(lamp)] = 0.8
    return LightLooks(np.array([seen]), scores, shape, np.array([0.98]), np.zeros(1))


def names(looks: list[tuple[float, LightLooks]], config: LightConfig = CONFIG) -> list[str]:
    memory, result = LightMemory.start(1, 0), []
    for time_s, item in looks:
        memory = update_lights(memory, item, round(time_s * 1e6), config)
        result.append(STATE_NAMES[int(memory.named[0])])
    return result


GREEN = [(0.1 * k, look("green")) for k in range(10)]


def test_one_strong_frame_ends_green_and_two_start_it() -> None:
    found = names([*GREEN, (1.0, look("red")), (1.1, look("green")), (1.2, look("green"))])
    assert found[0] == "unknown" and found[2:10] == ["green"] * 8
    assert found[10] == "red"
    assert found[11] == "unknown"


def test_a_weak_frame_or_a_dark_one_does_not_end_green() -> None:
    assert names([*GREEN, (1.0, look("red", 0.4))])[-1] == "green"
    assert names([*GREEN, (1.0, look("off"))])[-1] == "green"


@pytest.mark.parametrize("lamp", ["left", "pedestrian"])
def test_a_dark_light_of_a_rare_shape_is_as_dark_as_a_full_lamp(lamp: str) -> None:
    """Housings of arrows and of lights for people are read although no lamp is lit."""
    frames = [(k / 12, "red") for k in range(5)] + [(k / 12, "off") for k in range(5, 9)]
    dark = [(k / 12, "off") for k in range(6)]
    for some in (frames, dark):
        full = names([(t, look(color, 0.9)) for t, color in some])
        other = names([(t, look(color, 0.9, lamp=lamp)) for t, color in some])
        assert other == full
        assert full[-1] == ("flashing_red" if some is frames else "off")


def gap(probability: float = 0.98) -> LightLooks:
    """Return a frame in which the head finds no box where the light is."""
    return replace(look("red", seen=False), missed=np.array([probability]))


def blinking(dark: LightLooks) -> list[tuple[float, LightLooks]]:
    """Return four frames of a red lamp and four of a dark one, by turns, at 12 Hz."""
    return [(k / 12, look("red", 0.9) if k % 8 < 4 else dark) for k in range(34)]


def test_a_flashing_light_is_named_though_its_dark_housing_has_no_box() -> None:
    assert names(blinking(gap()))[-1] == "flashing_red"
    assert names(blinking(look("red", seen=False)))[-1] == "red"  # frames that were not processed
    assert names(blinking(gap(0.0)))[-1] == "red"  # it is outside the image, or hardly exists


@pytest.mark.parametrize("color", ["red", "green"])
def test_a_light_that_a_vehicle_hides_keeps_its_steady_state(color: str) -> None:
    steady = [(k / 12, look(color)) for k in range(12)]
    hidden = [(1 + k / 12, gap()) for k in range(11)]
    again = [(2 + k / 12, look(color)) for k in range(6)]
    found = names([*steady, *hidden, *again])
    assert set(found[3:]) == {color}


def test_gaps_are_no_evidence_that_a_light_is_off_or_green() -> None:
    config = replace(CONFIG, stale_after_s=30.0)
    red = [(k / 12, look("red")) for k in range(6)]
    hidden = [(0.5 + k / 12, gap()) for k in range(60)]
    assert set(names([*red, *hidden], config)[3:]) == {"red"}


def test_frames_in_which_the_head_misses_lit_lamps_name_hardly_any_flashing() -> None:
    """Every tenth lit lamp has no box, beside the frames that are dropped."""
    run = run_cycles(100, 240, hz=12.0, drop=0.1, lit_boxes=0.9, seed=5)
    flashes = (run.named >= ROW["flashing_red"]) & (run.named <= ROW["flashing_green"])
    assert flashes.mean() < 0.005
    assert (run.truth == run.named)[10:].mean() >= 0.97


def test_most_flashing_lights_are_named_though_half_of_their_dark_frames_have_no_box() -> None:
    run = run_cycles(200, 25, hz=12.0, drop=0.0, flashing=0.5, dark_boxes=0.4, seed=2)
    truth, named = run.truth[-1], run.named[-1]
    flashing = truth >= ROW["flashing_red"]
    assert (truth == named)[flashing].mean() >= 0.9
    assert (named < ROW["flashing_red"])[~flashing].mean() >= 0.9


def test_green_is_kept_for_a_second_without_a_look_and_not_longer() -> None:
    hidden = look("green", seen=False)
    assert names([*GREEN, (1.8, hidden)])[-1] == "green"
    assert names([*GREEN, (1.8, hidden), (1.95, hidden)])[-1] == "unknown"


def test_green_never_starts_from_memory() -> None:
    """The rates expect green after red; without a look, it is not named."""
    config = replace(CONFIG, red_to_green=10.0, stale_after_s=30.0)
    red = [(0.1 * k, look("red")) for k in range(5)]
    hidden = [(1.0 + k, look("red", seen=False)) for k in range(10)]
    assert "green" not in names([*red, *hidden], config)


def test_a_stale_light_names_its_last_state() -> None:
    memory = LightMemory.start(1, 0)
    for k in range(5):
        memory = update_lights(memory, look("red"), 100_000 * k, CONFIG)
    memory = update_lights(memory, look("red", seen=False), 2_000_000, CONFIG)
    assert STATE_NAMES[int(memory.named[0])] == "unknown"
    assert STATE_NAMES[int(memory.last_known[0])] == "red"


def test_times_that_go_back_are_refused() -> None:
    memory = update_lights(LightMemory.start(1, 0), look("red"), 100_000, CONFIG)
    with pytest.raises(ValueError, match=r"must not lie before .*; got 50000"):
        update_lights(memory, look("red"), 50_000, CONFIG)


@pytest.mark.slow
def test_false_green_stays_rare_over_many_cycles() -> None:
    run = run_cycles(400, 1500, seed=8)
    red = run.truth == ROW["red"]
    assert red.sum() / run.hz > 20_000
    assert (red & (run.named == ROW["green"])).sum() / red.sum() < 1e-3
