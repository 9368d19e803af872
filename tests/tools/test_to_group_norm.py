"""A backbone's batch norms as group norms: the same of a usual image, in loops and as a program."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.models.build import build_model, load_model, save_model
from bevstack.runtime.detector import Detector
from bevstack.types import Frame
from tests.models.small_models import randomise
from tests.small_world import CONFIG, SPEC, dataset, small_world

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))  # as the program is run

import to_group_norm

BATCH_NORM = replace(CONFIG, backbone=replace(CONFIG.backbone, norm_layer="SyncBN"))
GROUPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    model = randomise(build_model(BATCH_NORM))
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):  # of some size, as a variance is
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return Detector(model.eval(), BATCH_NORM)


def test_statistics_are_those_of_each_image_and_group() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(count, 5, 7, 6, generator=generator) * 3 + 1 for count in (2, 3)]
    statistics = to_group_norm.Statistics(2)
    for x in batches:
        statistics.look(x)
    mean, deviation = statistics.usual()
    for group in range(2):
        parts = [image[..., 3 * group : 3 * group + 3].double() for x in batches for image in x]
        wanted = np.mean([part.mean() for part in parts])
        assert float(mean[group]) == pytest.approx(wanted, rel=1e-5)
        wanted = np.mean([np.sqrt(part.numpy().var() + 1e-5) for part in parts])
        assert float(deviation[group]) == pytest.approx(wanted, rel=1e-5)


def test_what_was_seen_once_is_seen_the_same(detector: Detector, root: Path) -> None:
    """Of the one image that its statistics are of, a detector with group norms says the same."""
    data = dataset(root, "synth_val")
    frame, other = (
        Frame(images=f.images[:1], intrinsics=f.intrinsics[:1], ego_from_cam=f.ego_from_cam[:1])
        for f in (data.frame(0), data.frame(3))
    )
    model, config = to_group_norm.with_group_norms(
        detector.model, detector.config, [frame], groups=GROUPS
    )
    assert config == replace(
        BATCH_NORM,
        backbone=replace(BATCH_NORM.backbone, norm_layer="GN", norm_groups=GROUPS),
    )
    grouped = Detector(model, config)
    wanted, got = detector.predict(frame), grouped.predict(frame)
    # float32 through a whole detector: norms in another order of sums
    torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.boxes.center, wanted.boxes.center, rtol=1e-4, atol=1e-4)
    elsewhere = (grouped.predict(other).scores - detector.predict(other).scores).abs().max()
    assert elsewhere > 1e-4  # its statistics are others


def test_the_program_writes_a_model_to_train_on(
    detector: Detector, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "batch.safetensors", tmp_path / "group.safetensors"
    save_model(source, detector.model, detector.config)
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_val"]
    told = ["--to", str(target), *where, "--groups", str(GROUPS)]
    assert to_group_norm.main([str(source), *told, "--samples", "3"]) == 0
    model, config = load_model(target)
    assert config.backbone.norm_layer == "GN"
    data = dataset(root, "synth_val")
    frames = [data.frame(index) for index in (0, 2, 5)]  # of six, evenly
    wanted, _ = to_group_norm.with_group_norms(
        detector.model, detector.config, frames, groups=GROUPS
    )
    for name, value in wanted.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert to_group_norm.main([str(source), *told, "--samples", "7"]) == 2
    assert "--samples must lie in 1..6; got 7" in capsys.readouterr().err
    assert to_group_norm.main([str(target), *told, "--samples", "1"]) == 2
    assert "InternImage with BN or SyncBN; got GN" in capsys.readouterr().err


def test_no_frame_is_refused(detector: Detector) -> None:
    with pytest.raises(ValueError, match="frames must hold one frame at least; got none"):
        to_group_norm.with_group_norms(detector.model, detector.config, [], groups=GROUPS)
