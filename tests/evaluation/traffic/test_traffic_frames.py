from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from bevstack.evaluation.traffic.traffic_frames import (
    TrafficFrame,
    read_traffic_frames,
    write_traffic_frames,
    writing_traffic_frames,
)
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.traffic_detections import TrafficDetections
from tests.evaluation.traffic import traffic_samples
from tests.sources import ROOT

SCHEMA = json.loads((ROOT / "docs" / "traffic_frames.schema.json").read_text())


def samples(count: int = 4) -> list[TrafficFrame]:
    rng = np.random.default_rng(5)
    return [traffic_samples.frame(rng, i, with_optional=i % 3 != 2) for i in range(count)]


def assert_same(first: Any, second: Any) -> None:
    """Compare dataclasses that hold arrays, bit for bit."""
    assert type(first) is type(second)
    if dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


def test_frames_return_from_a_file_bit_for_bit(tmp_path: Path) -> None:
    frames = samples()
    # A frame without elements has no optional fields.
    frames[0] = dataclasses.replace(frames[0], elements=TrafficDetections.empty())
    path = tmp_path / "out" / "cues.json"
    write_traffic_frames(path, frames, {"weights": "tiny"})
    back = read_traffic_frames(path)
    assert back.meta == {"weights": "tiny"}
    assert_same(back.frames, tuple(frames))


def test_a_compressed_file_holds_the_same_frames_and_the_same_bytes_each_time(
    tmp_path: Path,
) -> None:
    frames = samples()[1:]  # of which each has elements
    plain, packed, again = (tmp_path / name for name in ("a.json", "a.json.gz", "b.json.gz"))
    for path in (plain, packed, again):
        write_traffic_frames(path, frames, {"weights": "tiny"})
    assert packed.read_bytes() == again.read_bytes()
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.stat().st_size < 0.7 * plain.stat().st_size  # random numbers hardly shrink
    assert_same(read_traffic_frames(packed).frames, tuple(frames))
    renamed = packed.rename(tmp_path / "c.json")  # the first bytes count, not the name
    assert_same(read_traffic_frames(renamed).frames, tuple(frames))


@pytest.mark.parametrize("damage", ["cut", "flipped", "head"])
def test_damaged_compressed_files_are_refused_in_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.json.gz"
    write_traffic_frames(path, samples(), {})
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[5 if damage == "head" else len(data) // 2] ^= 255
        data[3] ^= 0 if damage == "flipped" else 4  # an extra field that is not there
    path.write_bytes(data)
    with pytest.raises(ValueError, match="must be whole; got compressed data"):
        read_traffic_frames(path)


def test_a_compressed_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b" " * 100_000))
    module = "bevstack.evaluation.traffic.traffic_frames._MAX_BYTES"
    monkeypatch.setattr(module, 10_000)
    with pytest.raises(ValueError, match="must unpack to at most 10000 bytes; got more: predict"):
        read_traffic_frames(path)


def test_a_file_fits_the_schema_and_the_schema_has_every_field(tmp_path: Path) -> None:
    path = tmp_path / "cues.json"
    write_traffic_frames(path, samples(), {})
    content = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(content, SCHEMA)
    assert len(path.read_text().splitlines()) == 2 + len(content["frames"])
    types = {"frame": TrafficFrame, "cue": TrafficCue, "ego_cue": EgoCue}
    for name, kind in types.items():
        fields = {field.name for field in dataclasses.fields(kind)}
        assert set(SCHEMA["$defs"][name]["properties"]) == fields
    fields = {field.name for field in dataclasses.fields(TrafficDetections)}
    renamed = fields - {"boxes_px", "scores"} | {"box_px", "score"}
    assert set(SCHEMA["$defs"]["element"]["properties"]) == renamed


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing_traffic_frames(tmp_path / "a.json", {}) as w:
        w.add(samples()[1])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_values_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    frame = samples()[3]
    undefined = dataclasses.replace(frame.elements, heading_rad=np.full(3, np.nan))
    unsorted = dataclasses.replace(frame.elements, scores=np.array([0.1, 0.9, 0.2]))
    for elements, message in ((undefined, "must be finite"), (unsorted, "sorted by score")):
        with pytest.raises(ValueError, match=message):
            write_traffic_frames(
                tmp_path / "a.json", [dataclasses.replace(frame, elements=elements)], {}
            )


DELETE = object()
ELEMENT, CUE, EGO = ("elements", 1), ("cues", 0), ("ego_cues", 0)
W = r"of frame 3 of .*a\.json"
FAULTS = [
    (("timestamp_us",), -1, rf"timestamp_us {W} must be from 0"),
    (("cameras",), ["CAM_FRONT", 3], rf"cameras {W}\[1\] must be a text"),
    (("speed",), 3, r"frame 3 of .* must have the fields .* and no other; got 'speed'"),
    (("sample_token",), "sample1", rf"sample_token {W} must occur once; got that of frame 1"),
    (("world_from_ego",), [1], rf"world_from_ego {W} must be 4 lists of 4 numbers"),
    ((*ELEMENT, "camera"), "CAM", rf"camera of elements\[1\] {W} must be one of CAM_FRONT, CAM_BA"),
    ((*ELEMENT, "score"), 1.5, rf"score of elements\[1\] {W} must be from 0 to 1"),
    ((*ELEMENT, "score"), 1.0, rf"score of elements\[1\] {W} must not exceed the one before"),
    ((*ELEMENT, "color", "red"), DELETE, rf"color of elements\[1\] {W} must have the field 'red'"),
    ((*ELEMENT, "color", "blue"), 0.1, rf"color of elements\[1\] {W} must have .*no other"),
    ((*ELEMENT, "box_px", 2), None, rf"box_px of elements\[1\] {W}\[2\] must be a number"),
    ((*ELEMENT, "pedestrian"), DELETE, rf"elements\[1\] {W} must have the field 'pedestrian'"),
    ((*ELEMENT, "lamp_box"), 1, rf"lamp_box of elements\[1\] {W} must be true or false"),
    ((*CUE, "kind"), "lamp", rf"kind of cues\[0\] {W} must be one of light, sign"),
    ((*CUE, "last_seen_s"), -0.1, rf"last_seen_s of cues\[0\] {W} must not be negative"),
    ((*CUE, "state", 0, "lamp", "color"), "blue", rf"color of lamp of state of cues\[0\] {W}\[0\]"),
    ((*CUE, "yaw_rad"), float("inf"), rf"yaw_rad of cues\[0\] {W} must be finite"),
    ((*CUE, "applies_to"), ["back"], rf"applies_to of cues\[0\] {W}\[0\] must be one of straight"),
    ((*EGO, "advice"), "run", rf"advice of ego_cues\[0\] {W} must be one of go, stop"),
    ((*EGO, "reason"), "", rf"reason of ego_cues\[0\] {W} must be 1 to 1024 printable"),
]


@pytest.mark.parametrize(("place", "value", "message"), FAULTS)
def test_a_fault_is_named_with_frame_index_and_field(
    place: tuple[Any, ...], value: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    write_traffic_frames(path, samples(), {})
    content = json.loads(path.read_text())
    holder = content["frames"]
    *above, last = (3, *place)
    for key in above:
        holder = holder[key]
    if value is DELETE:
        del holder[last]
    else:
        holder[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_traffic_frames(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ([], {}, {"format": "bevstack-frames-1"}):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"format of .* must be 'bevstack-traffic-1'"):
            read_traffic_frames(path)
    content = {"format": "bevstack-traffic-1", "meta": {"a": 1}, "frames": []}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a of meta of .* must be a text"):
        read_traffic_frames(path)
