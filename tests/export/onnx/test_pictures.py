"""Exported models of single pictures: equal to ours in every runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from bevstack.config import InternImageConfig
from bevstack.config.detection2d import Detection2DConfig, PictureConfig, RoIConfig, RPNConfig
from bevstack.config.segmentation import LabelHeadConfig, SegmentationConfig
from bevstack.export.onnx import regions
from bevstack.export.onnx.errors import FailedCheckError
from bevstack.export.onnx.picture_info import PictureInfo, read_picture_info
from bevstack.export.onnx.pictures import IMAGES, detect_whole, export_pictures, verify_pictures
from bevstack.export.onnx.regions import RegionDetectorGraph, suppress_fixed
from bevstack.export.runtimes import installed_backends, open_file
from bevstack.models.detection2d.model import RegionDetector
from bevstack.models.layers.nms import suppress_within
from bevstack.models.segmentation.model import Segmenter
from tests.models.small_models import randomise

SIZE = (64, 104)  # not a multiple of 32: padded
BACKBONE = InternImageConfig(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8))
STDS = (0.1, 0.1, 0.2, 0.2)
HALF = (0.05, 0.05, 0.1, 0.1)
CONFIG = Detection2DConfig(
    name="small",
    class_names=("a", "b", "c"),
    pictures=PictureConfig(long_side=104, short_side=64),
    backbone=BACKBONE,
    channels=16,
    rpn=RPNConfig(candidates=60, proposals=80),
    roi=RoIConfig(hidden_channels=32, num_mask_convs=1, detections=20),
)
CASCADE = replace(
    CONFIG,
    roi=RoIConfig(
        hidden_channels=32,
        num_convs=1,
        num_linear=1,
        num_mask_convs=1,
        detections=20,
        stds=(STDS, HALF),
        ious=(0.5, 0.6),
        weights=(1.0, 0.5),
    ),
)


def detector(config: Detection2DConfig) -> RegionDetector:
    torch.manual_seed(3)
    model = randomise(RegionDetector(config), scale=0.1).eval()
    for stage in model.stages:  # some objects, with scores apart
        nn.init.normal_(stage.box_head.logits.weight, std=0.1)
        nn.init.normal_(stage.box_head.codes.weight, std=0.05)
    nn.init.normal_(model.rpn.logits.weight, std=0.1)
    nn.init.normal_(model.rpn.codes.weight, std=0.01)
    return model


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    random = np.random.default_rng(4)
    coarse = random.integers(0, 256, (2, 8, 13, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2))


def info(kind: str, size: tuple[int, int], names: tuple[str, ...]) -> PictureInfo:
    return PictureInfo(
        name="small", kind=kind, weights="digest", image_size=size, class_names=names
    )


@pytest.mark.parametrize("config", [CONFIG, CASCADE], ids=["one stage", "cascade"])
def test_exported_detectors_equal_ours_in_every_runtime(
    config: Detection2DConfig, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    path, model = tmp_path / "small.onnx", detector(config)
    facts = info("detection2d", SIZE, config.class_names)
    reports = export_pictures(path, model, facts, pictures)
    assert [report.backend.split()[0] for report in reports] == installed_backends()
    for report in reports:
        assert report.compared >= 10, "a comparison of a few objects shows little"
        assert report.passed
    assert json.loads(path.with_name("small.onnx.check.json").read_text())["passed"]
    file = open_file(path)
    assert read_picture_info(file.metadata, "it") == facts
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    got = file.run({IMAGES: pictures[:1]})
    detections, cells = config.roi.detections, 2 * config.roi.mask_cells
    assert {name: value.shape for name, value in got.items()} == {
        "boxes": (detections, 4),
        "scores": (detections,),
        "labels": (detections,),
        "masks": (detections, cells, cells),
        "complete": (),
    }
    nothing = got["labels"] < 0
    assert not got["boxes"][nothing].any() and not got["scores"][nothing].any()
    other = detector(config)
    nn.init.normal_(other.stages[0].box_head.logits.weight, std=0.1)
    with pytest.raises(FailedCheckError, match="must equal ours"):
        verify_pictures([file], other, pictures, path)


def test_the_graph_without_a_runtime_equals_the_detector(pictures: NDArray[np.uint8]) -> None:
    model = detector(CONFIG)
    graph = RegionDetectorGraph(model, SIZE).eval()
    for picture in pictures:
        ours = detect_whole(model, picture)
        with torch.inference_mode():
            got = graph(torch.from_numpy(picture)[None])
        count = len(ours)
        assert bool(got.complete) and count > 3
        torch.testing.assert_close(got.boxes[:count], ours.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(got.scores[:count], ours.scores, rtol=0, atol=1e-5)
        assert torch.equal(got.labels[:count], ours.labels)
        assert ours.mask_values is not None
        torch.testing.assert_close(got.masks[:count], ours.mask_values, rtol=0, atol=1e-4)
        assert (got.labels[count:] == -1).all()


def test_a_picture_without_objects_gives_none() -> None:
    model = detector(CONFIG)
    for stage in model.stages:
        nn.init.zeros_(stage.box_head.logits.weight)  # all classes have 1 / 4
        stage.box_head.logits.bias.data = torch.tensor([-9.0, -9.0, -9.0, 9.0])
    with torch.inference_mode():
        got = RegionDetectorGraph(model, SIZE).eval()(torch.zeros(1, *SIZE, 3, dtype=torch.uint8))
    assert bool(got.complete)
    assert (got.labels == -1).all() and not got.scores.any() and not got.masks.any()


def boxes_in_a_chain(count: int) -> Tensor:  # (count, 4), each suppresses the next
    left = torch.arange(count) * 2.0
    return torch.stack((left, left * 0, left + 10, left * 0 + 10), -1)


def test_suppression_equals_the_greedy_one_and_reports_too_few_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(5)
    low = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat((low, low + 5 + torch.rand(60, 2, generator=generator) * 20), 1)
    labels = torch.randint(0, 3, (60,), generator=generator)
    scores = torch.linspace(1, 0, 60)
    valid = torch.rand(60, generator=generator) > 0.2
    kept, settled = suppress_fixed(boxes[None], labels[None], valid[None], 0.4)
    wanted = valid.nonzero()[:, 0][suppress_within(boxes[valid], scores[valid], labels[valid], 0.4)]
    assert bool(settled)
    assert kept[0].nonzero()[:, 0].tolist() == wanted.tolist()
    chain = boxes_in_a_chain(40)[None]
    same, every = torch.zeros(1, 40, dtype=torch.int64), torch.ones(1, 40, dtype=torch.bool)
    assert not bool(suppress_fixed(chain, same, every, 0.5)[1])
    monkeypatch.setattr(regions, "ROUNDS", 41)
    kept, settled = suppress_fixed(chain, same, every, 0.5)
    assert bool(settled) and kept[0].tolist() == [True, False] * 20


def test_exported_segmenters_equal_ours_in_every_runtime(tmp_path: Path) -> None:
    config = SegmentationConfig(
        name="small",
        class_names=("a", "b", "c"),
        num_outputs=5,
        backbone=BACKBONE,
        head=LabelHeadConfig(channels=16, pool_cells=(1, 2), auxiliary_channels=0),
    )
    torch.manual_seed(6)
    model = randomise(Segmenter(config), scale=0.1).eval()
    size, path = (64, 96), tmp_path / "labels.onnx"
    random = np.random.default_rng(7)
    pictures = random.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    facts = info("segmentation", size, config.class_names)
    reports = export_pictures(path, model, facts, pictures)
    assert [report.backend.split()[0] for report in reports] == installed_backends()
    assert all(report.passed and report.compared == 2 * 64 * 96 for report in reports)
    labels = open_file(path).run({IMAGES: pictures[:1]})["labels"]
    assert labels.shape == (1, *size)
    assert len(np.unique(labels)) > 1
    with pytest.raises(ValueError, match="multiples of 32"):
        export_pictures(path, model, replace(facts, image_size=SIZE), pictures)
