"""Trust in sectors travels with the results of streams, of single frames and of files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bevstack
from bevstack.calibration_file import write_calibration
from bevstack.models.build import save_model
from bevstack.runtime.detections_file import read_detections, write_detections
from bevstack.runtime.detector import Detector, with_config
from bevstack.runtime.frame_detections_file import FrameDetectionsWriter, read_frame_detections
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.stream_protocol import sector_trust
from bevstack.runtime.streaming import step_together
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types.sectors import SectorTrust
from bevstack.uncertainty.sector_watch import SectorWatch
from tests.uncertainty.rigs import odd_sector_model


@pytest.fixture(scope="module")
def calibrated(detector):
    return Detector(detector.model, detector.config, sector_model=odd_sector_model())


def without(frame, *cameras: int):
    """Return the frame with some cameras lost."""
    images = [None if i in cameras else image for i, image in enumerate(frame.images)]
    return replace(frame, images=images, camera_mask=None)


def expected(frames) -> list[np.ndarray]:
    watch = SectorWatch(odd_sector_model())
    return [watch.look(frame, {}).trust for frame in frames]


def test_streams_carry_the_trust_of_their_own_history(calibrated, frames):
    drive = [frames[0], without(frames[1], 0, 2), without(frames[2], 0)]
    stream = calibrated.stream()
    assert stream.sectors is None  # before the first frame
    for frame, wanted in zip(drive, expected(drive), strict=True):
        stream.step(frame)
        assert np.array_equal(stream.sectors.trust, wanted)
        assert stream.state.sectors is stream.sectors
    lone = expected([drive[1]])[0]
    assert (expected(drive)[1] > lone + 0.01).any()  # the history counts


def test_two_rigs_in_one_step_keep_their_own_sectors(calibrated, frames):
    streams = [calibrated.stream() for _ in range(2)]
    pair = [without(frames[0], 1), frames[3]]  # of two scenes with different rigs
    step_together(streams, pair)
    for stream, frame in zip(streams, pair, strict=True):
        assert np.array_equal(stream.sectors.trust, expected([frame])[0])
    assert not np.array_equal(streams[0].sectors.trust, streams[1].sectors.trust)


def test_tracked_streams_have_it_and_other_boxes_do_not(calibrated, frames):
    tracked = TrackedDetector(calibrated).stream()
    tracked.step(frames[0])
    assert np.array_equal(tracked.sectors.trust, expected([frames[0]])[0])
    mirrored = MirroredDetector(calibrated)
    stream = mirrored.stream()
    stream.step(frames[0])
    assert stream.sectors is None and stream.state.sectors is None
    assert sector_trust(mirrored, frames[0]) is None
    assert with_config(calibrated, calibrated.config).sector_trust(frames[0]) is None


def test_without_a_calibration_there_is_no_trust(detector, frames):
    stream = detector.stream()
    stream.step(frames[0])
    assert stream.sectors is None and stream.state.sectors is None
    assert sector_trust(detector, frames[0]) is None


def test_a_refused_frame_without_cameras_has_the_trust_of_the_blind(calibrated, frames):
    stream = calibrated.stream()
    with pytest.raises(ValueError, match="all are lost"):
        stream.step(without(frames[0], *range(len(frames[0].images))))
    assert (stream.sectors.trust < 0.05).all()


def test_weights_are_loaded_with_it(detector, frames, tmp_path: Path):
    path = tmp_path / "own.safetensors"
    save_model(path, detector.model, detector.config)
    assert bevstack.load(path).sector_model is None
    write_calibration(path, "sectors", odd_sector_model().to_entry())
    loaded = bevstack.load(path)
    assert np.array_equal(loaded.sector_trust(frames[0]).trust, expected([frames[0]])[0])
    assert bevstack.load(path, calibrated=False).sector_model is None


def test_files_hold_it_and_are_read_again(calibrated, frames, tmp_path: Path):
    detections, trust = calibrated.predict(frames[0]), calibrated.sector_trust(frames[0])
    write_detections(tmp_path / "one.json", detections, calibrated.class_names, 7, sectors=trust)
    content = json.loads((tmp_path / "one.json").read_text())
    assert SectorTrust.from_entry("f", content["sectors"]).trust.tolist() == trust.trust.tolist()
    assert len(read_detections(tmp_path / "one.json")[0]) == len(detections)
    buffer = io.BytesIO()
    writer = FrameDetectionsWriter(buffer, class_names=calibrated.class_names)
    writer.add(frames[0], detections, sectors=trust)
    writer.add(replace(frames[1], timestamp_us=frames[0].timestamp_us + 9), detections)
    writer.finish()
    (tmp_path / "many.json").write_bytes(buffer.getvalue())
    found = list(read_frame_detections(tmp_path / "many.json")[0])
    assert np.array_equal(found[0].sectors.trust, trust.trust) and found[1].sectors is None
