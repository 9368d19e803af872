"""The task "detection2d": learning from real pictures, and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bevstack.config.detection2d import DETECTION2D
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.models.weights import write_safetensors
from bevstack.tasks.detection2d import Detection2D
from bevstack.training import train
from tests.conftest import shared_dir

# Small enough for a processor: 41 s of processor time.
FAST = (
    "training.num_steps=90",
    "training.checkpoint_every=90",
    "training.evaluate_every=90",
    "pictures.long_side=448",
    "pictures.short_side=320",
    "rpn.scale=5",
)


# A few steps on small pictures; and the configuration as it is, 6 minutes of processor time.
# Measured: box and mask AP 0.483 and 0.382, and 0.953 and 0.813, for 33 objects. The same steps
# give the same weights on a machine; other ones round differently.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "box_ap", "mask_ap"), [(FAST, 0.4, 0.3), ((), 0.9, 0.75)], ids=["few", "all"]
)
def test_a_small_detector_learns_two_real_pictures(
    overrides: tuple[str, ...], box_ap: float, mask_ap: float, tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools")
    shared = shared_dir()
    if shared is None:
        pytest.skip("no real pictures: neither ../shared nor $BEVSTACK_SHARED")
    config = load_picture_detector("mask_rcnn_nano", overrides)
    data = CocoDataset(shared / "data" / "coco2", "train", class_names=config.class_names)
    task = Detection2D(config, data, held_out=data)
    result = train(task, tmp_path)
    score = task.evaluate(task.read_weights(result.weights), tmp_path, _Alone())
    assert score.figures["box_ap"] > box_ap
    assert score.figures["mask_ap"] > mask_ap


class _Alone:
    """A training of one process."""

    rank, world_size, device = 0, 1, torch.device("cpu")

    def barrier(self) -> None:
        """Wait for no process."""


def test_weights_of_a_file_without_the_task_give_the_backbone_alone(tmp_path: Path) -> None:
    config = load_picture_detector("mask_rcnn_nano")
    task = Detection2D(config)
    torch.manual_seed(1)
    source = task.build_model()
    backbone = {k: v for k, v in source.state_dict().items() if k.startswith("backbone.")}
    write_safetensors(tmp_path / "backbone.safetensors", backbone, {})
    read = task.read_weights(tmp_path / "backbone.safetensors")
    assert read.keys() == source.state_dict().keys()
    assert all(torch.equal(read[name], value) for name, value in backbone.items())
    assert not torch.equal(read["rpn.conv.weight"], source.state_dict()["rpn.conv.weight"])
    task.write_model(tmp_path / "whole.safetensors", source.state_dict(), {})
    again = task.read_weights(tmp_path / "whole.safetensors")
    assert all(torch.equal(again[k], v) for k, v in source.state_dict().items())
    assert task.names == (DETECTION2D,)
    assert task.differences(task.to_json(), ()) == []
