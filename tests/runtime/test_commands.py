"""Commanded manoeuvres: the file, the time from which each holds, and their way into the cues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames
from bevstack.runtime.commands import Commands, read_commands
from bevstack.runtime.predict_cues import CueOptions, SceneCues, recording_cues
from bevstack.runtime.with_cues import CueDetector
from bevstack.vocabulary import MANOEUVRES
from tests.runtime.traffic_scenes import START_US, BoxDetector, KnowingPredictor, street_frame

FORMAT = "bevstack-manoeuvres-1"


def write(path: Path, entries: Any, **changes: Any) -> Path:
    path.write_text(json.dumps({"format": FORMAT, "manoeuvres": entries} | changes))
    return path


def entry(time_us: Any, manoeuvre: Any) -> dict[str, Any]:
    return {"timestamp_us": time_us, "manoeuvre": manoeuvre}


def test_each_command_holds_until_the_next_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(1, 9, 20)).tolist()
    names = [None if k % 7 == 6 else MANOEUVRES[k % 4] for k in range(20)]
    entries = [entry(t, n) for t, n in zip(times, names, strict=True)]
    commands = read_commands(write(tmp_path / "m.json", entries))
    for time_us in range(times[0], times[-1] + 5):
        expected = None
        for start, name in zip(times, names, strict=True):
            if start <= time_us:
                expected = name
        assert commands.at(time_us) == (expected or "")
    assert commands.summary == "m.json"
    assert commands.give_to(street_frame(0.0)).manoeuvre == (names[-1] or "")


def test_one_command_holds_at_all_times() -> None:
    commands = Commands.always("left")
    assert [commands.at(time) for time in (0, 1, START_US)] == ["left"] * 3
    assert commands.summary == "left"
    with pytest.raises(ValueError, match="manoeuvre must be one of straight, left, right, u_turn"):
        Commands.always("back")


def test_equal_commands_have_equal_fingerprints_whatever_their_file(tmp_path: Path) -> None:
    entries = [entry(5, "left"), entry(9, "right")]
    first = read_commands(write(tmp_path / "a.json", entries))
    assert first.fingerprint() == read_commands(write(tmp_path / "b.json", entries)).fingerprint()
    other = read_commands(write(tmp_path / "c.json", [entry(5, "left"), entry(8, "right")]))
    texts = {
        SceneCues(
            CueDetector(BoxDetector(), KnowingPredictor()).cue_source,
            CueOptions(tmp_path / "o", commands=commands),
        ).fingerprint()
        for commands in (None, first, other, Commands.always("left"))
    }
    assert len(texts) == 4  # parts of other commands are not reused


def test_a_frame_before_the_first_command_or_in_another_unit_is_refused() -> None:
    commands = Commands(start_us=(START_US,), manoeuvres=("left",), source="m.json")
    with pytest.raises(ValueError, match=r"m\.json must have a manoeuvre at or before every frame"):
        commands.at(START_US - 1)
    seconds = Commands(start_us=(START_US // 1_000_000,), manoeuvres=("left",), source="m.json")
    with pytest.raises(ValueError, match="one of them in seconds"):
        seconds.at(START_US + 5_000_000)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "must hold at least one; got none"),
        ({"left": 5}, "must be a list"),
        ([entry(5, "back")], "manoeuvre must be one of straight, left, right, u_turn"),
        ([entry(5, "")], "must be 1 to 1024 printable characters"),
        ([entry(5, 1)], "must be a text; got 1"),
        ([entry(5.5, "left")], "timestamp_us must be a whole number; got 5.5"),
        ([entry(1_700_000_000_000_000_000, "left")], "nanoseconds"),
        ([entry(-5, "left")], "must be from 0"),
        ([entry(5, "left"), entry(5, "right")], "must ascend; got 5 in manoeuvre 1 after 5"),
        ([{"timestamp_us": 5}], "manoeuvre"),
        ([entry(5, "left") | {"lane": 2}], "lane"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(
    entries: Any, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.json", entries)
    with pytest.raises(ValueError, match=r"m\.json") as error:
        read_commands(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_another_format_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be 'bevstack-manoeuvres-1'; got 'other'"):
        read_commands(write(tmp_path / "m.json", [entry(5, "left")], format="other"))
    with pytest.raises(FileNotFoundError, match="file of manoeuvres must exist"):
        read_commands(tmp_path / "none.json")


def test_the_command_of_each_frame_reaches_its_cues(tmp_path: Path) -> None:
    detector = CueDetector(BoxDetector(), KnowingPredictor("red", shape="left"))
    half_us = START_US + 550_000
    commands = Commands(start_us=(START_US, half_us), manoeuvres=("right", "left"), source="m.json")
    out = tmp_path / "cues.json"
    with recording_cues(detector, CueOptions(out, commands=commands)) as record:
        for step in range(12):
            record(street_frame(0.1 * step))
    found = read_traffic_frames(out)
    assert found.meta["manoeuvre"] == "m.json"
    applies = [frame.cues[0].applies_to_ego for frame in found.frames]
    assert max(applies[:6]) < 0.5 < min(applies[6:])  # the left arrow governs left turns alone
    with recording_cues(detector, CueOptions(tmp_path / "plain.json")) as record:
        record(street_frame(0.0, manoeuvre="left"))
    plain = read_traffic_frames(tmp_path / "plain.json")
    assert plain.frames[0].cues[0].applies_to_ego > 0.5  # without commands, the frame's own
    assert "manoeuvre" not in plain.meta
