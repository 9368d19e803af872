"""Lenses in calibrated_sensor.json: images are undistorted, unknown models refused by name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.inspection import check_root
from bevstack.tables.lenses import lens_from_text
from bevstack.tables.reader import Tables
from tests.small_world import CONFIG
from tests.tables.tiny_root import VERSION, read_table, token, write_tables

BROWN = [-0.3, 0.08, 0.002, -0.001, 0.0]


def set_lens(root: Path, fields: dict, channel: str = "SIDE_LEFT") -> str:
    """Give a camera of scene-0916 fields of distortion; return its calibration token."""
    rows = read_table(root, "calibrated_sensor")
    changed = token("calibration", "scene-0916", channel)
    write_tables(
        root,
        {"calibrated_sensor": [r | (fields if r["token"] == changed else {}) for r in rows]},
    )
    return changed


def frame_of(root: Path, **options):
    return NuScenesDataset(root, VERSION, scenes=["scene-0916"]).frame(1, **options)


@pytest.mark.parametrize(
    "fields",
    [
        {"camera_distortion": BROWN},
        {"distortion": BROWN},
        {"distortion_coefficients": BROWN, "distortion_model": "plumb_bob"},
        {"distortion": {"model": "plumb_bob", "coefficients": BROWN}},
        {"distortion": BROWN, "camera_distortion": BROWN},
    ],
)
def test_images_of_a_distorting_lens_are_undistorted(root: Path, fields: dict) -> None:
    plain = frame_of(root)
    set_lens(root, fields)
    frame = frame_of(root)
    camera = frame.camera_names.index("SIDE_LEFT")
    matrix = plain.intrinsics[camera].numpy()
    wanted = cv2.undistort(plain.images[camera], matrix, np.array(BROWN))
    # cv2.undistort rounds its map to 1/32 pixel
    assert np.abs(frame.images[camera].astype(int) - wanted).max() <= 2
    assert np.abs(frame.images[camera].astype(int) - plain.images[camera]).max() > 10
    assert torch.equal(frame.intrinsics, plain.intrinsics)
    for other in {0, 1, 2, 3} - {camera}:
        assert np.array_equal(frame.images[other], plain.images[other])


def test_a_fisheye_changes_intrinsics_and_boxes_in_its_image(root: Path) -> None:
    plain = frame_of(root, camera_annotations=True)
    set_lens(root, {"distortion": [0.02, -0.01, 0.0, 0.0], "distortion_model": "equidistant"})
    frame = frame_of(root, camera_annotations=True)
    camera = frame.camera_names.index("SIDE_LEFT")
    assert not torch.equal(frame.intrinsics[camera], plain.intrinsics[camera])
    boxes = frame.camera_annotations[camera]
    assert len(boxes) and len(plain.camera_annotations[camera])
    bounds = torch.tensor([100.0, 50.0])
    center = boxes.center_m.double() @ frame.intrinsics[camera].T
    pixel = center[:, :2] / center[:, 2:]
    inside = ((pixel > 0) & (pixel < bounds)).all(1)
    low, high = boxes.boxes_px[:, :2], boxes.boxes_px[:, 2:]
    assert bool(((pixel > low) & (pixel < high)).all(1)[inside].all()) and bool(inside.any())
    # without images the same intrinsics and boxes
    blind = frame_of(root, load_images=False, camera_annotations=True)
    assert torch.equal(blind.intrinsics, frame.intrinsics)
    assert torch.equal(blind.camera_annotations[camera].boxes_px, boxes.boxes_px)


def test_reduced_images_have_the_intrinsics_of_the_undistorted_one(root: Path) -> None:
    set_lens(root, {"distortion": [0.02, -0.01, 0.0, 0.0], "distortion_model": "equidistant"})
    full = frame_of(root)
    reduced = frame_of(root, images_for=CONFIG)
    for camera, (small, image) in enumerate(zip(reduced.images, full.images, strict=True)):
        factor = image.shape[0] // small.shape[0]
        matrix = full.intrinsics[camera].clone()
        matrix[:2] /= factor
        assert torch.equal(reduced.intrinsics[camera], matrix)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"camera_distortion": None, "distortion_model": None},
        {"distortion": []},
        {"distortion": [0.0] * 6},
        {"distortion": [], "distortion_model": "plumb_bob"},
        {"distortion": {"model": "rational_polynomial", "coefficients": [0.0] * 8}},
    ],
)
def test_without_distortion_nothing_changes(root: Path, fields: dict) -> None:
    plain = frame_of(root)
    set_lens(root, fields)
    frame = frame_of(root)
    assert all(np.array_equal(a, b) for a, b in zip(frame.images, plain.images, strict=True))
    assert torch.equal(frame.intrinsics, plain.intrinsics)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distortion": BROWN, "distortion_model": "omnidirectional"}, "got 'omnidirectional'"),
        ({"distortion_model": "mei"}, "got 'mei': undistort the images beforehand"),
        ({"distortion": {"model": "kb8", "coefficients": [0.1] * 4}}, "got 'kb8'"),
        ({"camera_distortion": [0.1] * 6}, "4, 5, 8, 12, 14 coefficients; got 6"),
        ({"distortion": [0.1] * 3, "distortion_model": "plumb_bob"}, "4 or 5 coefficients; got 3"),
        ({"distortion": [float("nan")] * 4}, "coefficients must be finite"),
        ({"distortion": BROWN, "camera_distortion": [0.1] * 4}, "must be equal where several"),
        (
            {
                "distortion": {"model": "plumb_bob", "coefficients": BROWN},
                "distortion_model": "equidistant",
            },
            "lens model must be one; got 'plumb_bob' and 'equidistant'",
        ),
    ],
)
def test_a_lens_that_is_not_known_is_refused_by_name(
    root: Path, fields: dict, message: str
) -> None:
    where = f"SIDE_LEFT in calibrated_sensor.json (token '{set_lens(root, fields)}')"
    with pytest.raises(ValueError, match=message) as error:
        NuScenesDataset(root, VERSION)
    assert where in str(error.value)
    assert len(NuScenesDataset(root, VERSION, scenes=["scene-0103"])) == 4
    findings = [finding.sentence for finding in check_root(root, VERSION).findings]
    assert any(where in sentence for sentence in findings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distortion": "plumb_bob"}, r"^distortion in .*row \d+.* must be a list of numbers"),
        ({"distortion": [0.1, "0.2"]}, "^distortion in .* must be a list of numbers"),
        ({"distortion": [True] * 4}, "^distortion in .* must be a list of numbers"),
        ({"distortion": {"k1": 0.1}}, "^distortion in .* must be a list of numbers"),
        ({"distortion_model": 5}, "^distortion_model in .* must be a text"),
        ({"lens_distortion": BROWN}, "got the field 'lens_distortion': rename it"),
        ({"dist_coeffs": BROWN}, "got the field 'dist_coeffs': rename it"),
    ],
)
def test_a_field_of_another_kind_or_name_is_refused(root: Path, fields: dict, message: str) -> None:
    set_lens(root, fields)
    with pytest.raises(ValueError, match=message):
        _ = Tables(root, VERSION).calibrated_sensors


def test_lenses_survive_the_column_cache(root: Path) -> None:
    set_lens(root, {"camera_distortion": BROWN})
    parsed, cached = Tables(root, VERSION, cache=False), Tables(root, VERSION, cache=True)
    assert parsed.calibrated_sensors.distortion.tolist() == (
        cached.calibrated_sensors.distortion.tolist()
    )
    (text,) = {t for t in cached.calibrated_sensors.distortion.tolist() if t}
    assert lens_from_text(text, "camera").coefficients == tuple(BROWN)
