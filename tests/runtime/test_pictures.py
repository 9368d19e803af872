"""Pictures of results files: the right samples and boxes, and errors that name the mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.evaluation.results.submission import write_submission
from bevstack.render import SheetStyle
from bevstack.render.colors import CLASS_COLORS
from bevstack.runtime.pictures import PictureOptions, draw_frame, draw_results, draw_rig_results
from bevstack.types import Annotations, Boxes3D, Detections, Frame
from bevstack.vocabulary import DETECTION_CLASSES
from tests.render.scenes import NAMES, make_frame, random_detections
from tests.runtime.test_detections_file import entry, write
from tests.tables.tiny_root import VERSION, write_tiny_root

SMALL = SheetStyle(tile_width_px=120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def perfect_detections(frame: Frame) -> Detections:
    """Return the true boxes as detections, with scores from 0.9 down."""
    assert frame.annotations is not None
    count = len(frame.annotations)
    scores = torch.linspace(0.9, 0.5, count)
    return Detections(frame.annotations.boxes, scores, frame.annotations.labels)


@pytest.fixture
def results(root: Path, tmp_path: Path) -> Path:
    """Write true boxes as predictions for scene-0103 and the first sample of scene-0916."""
    dataset = NuScenesDataset(root, VERSION)
    frames = [dataset.frame(index) for index in range(5)]
    write_submission(
        tmp_path / "results.json",
        {
            f.sample_token: results_of_frame(perfect_detections(f), f, dataset.class_names)
            for f in frames
        },
    )
    return tmp_path / "results.json"


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_every_sample_of_the_results_becomes_a_picture(
    root: Path, results: Path, tmp_path: Path
) -> None:
    paths = draw_results(root, VERSION, results, tmp_path / "out", sheet=SMALL)
    assert names_of(paths) == [*(f"scene-0103_00{i}.jpg" for i in range(4)), "scene-0916_000.jpg"]
    assert all(cv2.imread(str(path)) is not None for path in paths)
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())


def test_scenes_samples_and_their_number_can_be_chosen(
    root: Path, results: Path, tmp_path: Path
) -> None:
    def draw(**choice: object) -> list[str]:
        out = tmp_path / "out"
        return names_of(draw_results(root, VERSION, results, out, sheet=SMALL, **choice))  # type: ignore[arg-type]

    assert draw(scenes=["scene-0916"]) == ["scene-0916_000.jpg"]
    assert draw(max_samples=2) == ["scene-0103_000.jpg", "scene-0103_001.jpg"]
    token = NuScenesDataset(root, VERSION).sample_token(2)
    assert draw(samples=[token]) == ["scene-0103_002.jpg"]


def test_boxes_written_and_read_back_are_drawn_where_they_were(
    root: Path, results: Path, tmp_path: Path
) -> None:
    frame = NuScenesDataset(root, VERSION).frame(1)
    options = PictureOptions(sheet=SMALL)
    direct = draw_frame(
        frame, perfect_detections(frame), DETECTION_CLASSES, title="scene-0103_001", options=options
    )
    (path,) = draw_results(
        root, VERSION, results, tmp_path, samples=[frame.sample_token], sheet=SMALL
    )
    written = cv2.imread(str(path))[..., ::-1]
    assert written.shape == direct.shape
    # JPEG at quality 92, and a conversion to world coordinates and back: no line may move.
    assert np.abs(written.astype(int) - direct).mean() < 4


def test_same_results_give_the_same_bytes(root: Path, results: Path, tmp_path: Path) -> None:
    first, second = (
        draw_results(root, VERSION, results, tmp_path / name, max_samples=1, sheet=SMALL)[0]
        for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


def test_truth_and_weak_boxes_can_be_left_out() -> None:
    boxes = random_detections(20, 5)
    truth = Annotations(boxes.boxes, boxes.labels, torch.ones(20, dtype=torch.int64))
    frame = make_frame([(90, 160)], annotations=truth)
    nothing = Detections(Boxes3D.empty(), torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    def draw(detections: Detections, **options: object) -> np.ndarray:
        return draw_frame(frame, detections, NAMES, options=PictureOptions(**options))  # type: ignore[arg-type]

    with_truth, without = draw(boxes), draw(boxes, with_truth=False)
    assert with_truth.shape[1] > without.shape[1]  # true boxes have a view of their own
    bare = draw_frame(replace(frame, annotations=None), boxes, NAMES)
    np.testing.assert_array_equal(without, bare)
    weak = draw(boxes, min_score=2.0, with_truth=False)
    empty = draw(nothing, min_score=2.0, with_truth=False)
    # Below the header, which counts the boxes.
    np.testing.assert_array_equal(weak[40:], empty[40:])
    assert (draw(boxes, max_boxes=1)[40:] != draw(boxes)[40:]).any()


def test_true_boxes_without_points_are_left_out() -> None:
    boxes = random_detections(6, 5).boxes
    label = torch.zeros(6, dtype=torch.int64)
    frame = make_frame([(90, 160)], annotations=Annotations(boxes, label, label))
    empty = replace(frame, annotations=Annotations.empty())
    shown = [draw_frame(f, None, NAMES) for f in (frame, empty)]
    np.testing.assert_array_equal(shown[0], shown[1])


def test_frame_of_any_rig_without_names_pose_or_truth_is_drawn() -> None:
    frame = make_frame([(100, 50), None, (90, 160)])
    picture = draw_frame(frame, random_detections(10, 0), NAMES, title="mine")
    assert picture.dtype == np.uint8 and picture.ndim == 3


def test_unknown_samples_and_scenes_are_named(root: Path, results: Path, tmp_path: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    with pytest.raises(ValueError, match="'nowhere'"):
        draw_results(root, VERSION, results, tmp_path, samples=["nowhere"])
    with pytest.raises(ValueError, match=r"must be one of the 5 samples of the results file"):
        draw_results(root, VERSION, results, tmp_path, samples=[dataset.sample_token(6)])
    write_submission(tmp_path / "none.json", {})
    with pytest.raises(ValueError, match=r"must hold samples of scene-0103, scene-0916"):
        draw_results(root, VERSION, tmp_path / "none.json", tmp_path)


def test_missing_image_is_named(root: Path, results: Path, tmp_path: Path) -> None:
    (root / "samples/CAM_FRONT/scene-0103_0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"CAM_FRONT/scene-0103_0\.jpg"):
        draw_results(root, VERSION, results, tmp_path, max_samples=1)


def test_boxes_of_a_rig_are_drawn_without_tables(tmp_path: Path) -> None:
    camera = {
        "name": "front",
        "width": 160,
        "height": 90,
        "intrinsics": [[120.0, 0, 80], [0, 120.0, 45], [0, 0, 1]],
        "ego_from_cam": {"rotation_wxyz": [0.5, -0.5, 0.5, -0.5], "translation_m": [1, 0, 1.5]},
    }
    rig = {"format": "bevstack-rig-1", "cameras": [camera]}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    cv2.imwrite(str(tmp_path / "front.png"), np.zeros((90, 160, 3), np.uint8))
    boxes = write(tmp_path / "boxes.json", entry(score=0.9), entry(score=0.1, center_m=[9, 9, 1]))
    path = draw_rig_results(tmp_path / "rig.json", tmp_path, boxes, tmp_path / "out", sheet=SMALL)
    assert path == tmp_path / "out" / "boxes.jpg"
    picture = cv2.imread(str(path))[..., ::-1].astype(int)
    assert (np.abs(picture - CLASS_COLORS["car"]).sum(-1) < 60).sum() > 20


def test_negative_number_of_boxes_is_refused() -> None:
    with pytest.raises(ValueError, match="max_boxes must be 0 or more; got -1"):
        PictureOptions(max_boxes=-1)


@pytest.mark.oracle("data_render_scene0103")
def test_true_boxes_sit_on_the_cars_of_a_real_frame(oracle_dir: Path) -> None:
    """Check a car alone on a bridge: its box holds texture, a box beside it holds asphalt."""
    root = oracle_dir.parent / "data" / "nuscenes_minival"
    dataset = NuScenesDataset(root, "v1.0-mini", scenes=["scene-0103"])
    frame = dataset.frame(3)
    assert frame.annotations is not None
    cars = frame.annotations.labels == DETECTION_CLASSES.index("car")
    boxes = frame.annotations.boxes[cars]
    behind = boxes[
        int(boxes.center[:, 0].where(boxes.center[:, 0] < -4, torch.tensor(-1e9)).argmax())
    ]
    camera = frame.camera_names.index("CAM_BACK")
    corners = behind.corners()[None].reshape(1, 8, 3)
    uv, depth = frame.rig().project(corners[0])
    assert bool((depth[camera] > 1).all())
    low, high = uv[camera].amin(0).tolist(), uv[camera].amax(0).tolist()
    image = frame.images[camera]
    assert image is not None
    width = high[0] - low[0]

    def texture(shift: float) -> float:
        left, right = round(low[0] + shift + 0.15 * width), round(high[0] + shift - 0.15 * width)
        part = image[round(low[1]) + 3 : round(high[1]) - 3, left:right]
        return float(cv2.Laplacian(part, cv2.CV_64F).std())

    assert texture(0) > 1.5 * texture(-1.5 * width)
