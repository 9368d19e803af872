"""Exported classifiers: equal to ours on real pictures, in every runtime and batch."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from bevstack.config import InternImageConfig
from bevstack.export.onnx.classifier import (
    IMAGES,
    LOGITS,
    ClassifierGraph,
    export_classifier,
    verify_classifier,
)
from bevstack.export.onnx.classifier_info import ClassifierInfo, read_classifier_info
from bevstack.export.onnx.errors import FailedCheckError
from bevstack.export.runtimes import installed_backends, open_file, open_session
from bevstack.models.classification.internimage_heads import InternImageClassifier
from tests.conftest import shared_dir
from tests.models.small_models import randomise

SIZE = (64, 96)
CONFIG = InternImageConfig(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8))


def info(batch: int | None, **changes: object) -> ClassifierInfo:
    facts = {"name": "small", "weights": "digest", "image_size": SIZE, "classes": 7, "batch": batch}
    return ClassifierInfo(**{**facts, **changes})


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Return three real pictures."""
    shared = shared_dir()
    if shared is None:
        pytest.skip("no stored pictures: neither ../shared nor $BEVSTACK_SHARED")
    paths = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))[:3]
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return np.stack([cv2.resize(image, SIZE[::-1]) for image in images])


@pytest.fixture(scope="module")
def model() -> InternImageClassifier:
    torch.manual_seed(2)
    return randomise(InternImageClassifier(CONFIG, 7), scale=0.1).eval()


@pytest.mark.parametrize("batch", [None, 2])
def test_logits_equal_ours_in_every_runtime(
    model: InternImageClassifier, pictures: NDArray[np.uint8], tmp_path: Path, batch: int | None
) -> None:
    path = tmp_path / "c.onnx"
    reports = export_classifier(path, model, info(batch), pictures)
    assert [report.backend.split()[0] for report in reports] == installed_backends()
    assert all(report.batches == ((2,) if batch else (1, 2, 3)) for report in reports)
    written = json.loads((tmp_path / "c.onnx.check.json").read_text("utf-8"))
    assert written["passed"] and len(written["reports"]) == len(reports)
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    assert {node.domain for node in graph.graph.node} == {""}
    sizes = [5, 1] if batch is None else [2]
    for backend in installed_backends():
        file = open_file(path, backend, threads=1)
        assert file.shapes == {IMAGES: (-1 if batch is None else batch, *SIZE, 3)}
        assert read_classifier_info(file.metadata, "c.onnx") == info(batch)
        for size in sizes:  # also more than the export was traced with
            images = np.concatenate([pictures, pictures[::-1]])[:size].copy()
            with torch.inference_mode():
                wanted = ClassifierGraph(model)(torch.from_numpy(images)).numpy()
            assert np.ptp(wanted) > 0.1
            np.testing.assert_allclose(file.run({IMAGES: images})[LOGITS], wanted, atol=1e-4)


def test_the_attention_pooling_head_is_exported(
    pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    config = InternImageConfig(
        channels=16,
        depths=(1, 1, 1, 1),
        groups=(1, 2, 4, 8),
        classification_head="attention_pooling",
    )
    torch.manual_seed(3)
    model = randomise(InternImageClassifier(config, 7), scale=0.05).eval()
    reports = export_classifier(tmp_path / "c.onnx", model, info(None), pictures)
    assert all(report.passed and report.images == 6 for report in reports)


def test_other_weights_fail_the_check(
    model: InternImageClassifier, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "c.onnx"
    export_classifier(path, model, info(None), pictures)
    other = randomise(InternImageClassifier(CONFIG, 7), scale=0.1).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.head.fc.weight[3] *= 1.01
    with pytest.raises(FailedCheckError, match="must equal ours; got logits of onnxruntime"):
        verify_classifier([open_file(path)], other, pictures, path)
    assert not json.loads((tmp_path / "c.onnx.check.json").read_text("utf-8"))["passed"]


def test_a_file_that_fails_its_check_is_removed(
    model: InternImageClassifier,
    pictures: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bevstack.export.onnx.classifier.TOLERANCE", -1.0)
    monkeypatch.setattr("bevstack.export.onnx.classifier.LogitsReport.passed", False)
    with pytest.raises(FailedCheckError):
        export_classifier(tmp_path / "c.onnx", model, info(2), pictures)
    assert [path.name for path in tmp_path.iterdir()] == ["c.onnx.check.json"]


def test_files_of_the_other_kind_are_refused(
    model: InternImageClassifier, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    export_classifier(tmp_path / "c.onnx", model, info(2), pictures)
    with pytest.raises(ValueError, match="must be a detector of `bevstack export --onnx`"):
        open_session(tmp_path / "c.onnx")
    with pytest.raises(ValueError, match="must be a classifier of `bevstack export --onnx`"):
        read_classifier_info({"bevstack.format": "bevstack-detector-1"}, "m.onnx")
    with pytest.raises(ValueError, match=r"metadata must be complete; got m\.onnx, KeyError"):
        read_classifier_info({"bevstack.format": "bevstack-classifier-1"}, "m.onnx")


def test_pictures_of_another_size_are_refused(
    model: InternImageClassifier, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="pictures must be at least 3 of 32x32 pixels"):
        export_classifier(tmp_path / "c.onnx", model, info(2, image_size=(32, 32)), pictures)
    with pytest.raises(ValueError, match="pictures must be at least 3"):
        export_classifier(tmp_path / "c.onnx", model, info(2), pictures[:2])
