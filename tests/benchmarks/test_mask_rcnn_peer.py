"""The comparison with mmdetection, without mmdetection: what does not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import detection2d, mmdet_peer
from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import load_picture_detector


def made(shift_px: float = 0.0, label: int = 1) -> detection2d.Result:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0], [3.0, 3.0, 9.0, 7.0]]) + shift_px
    masks = torch.zeros(2, 8, 12, dtype=torch.bool)
    return boxes, torch.tensor([0.9, 0.4]), torch.tensor([0, label]), masks


def test_equal_detections_give_their_differences_and_unequal_ones_stop() -> None:
    differences = detection2d.compare(made(), made(0.01))
    assert differences["detections"] == 2
    assert differences["box_difference_px"] == pytest.approx(0.01, rel=0.1)
    boxes, scores, labels, masks = made()
    fewer = (boxes[:1], scores[:1], labels[:1], masks[:1])
    for other in (made(1.0), made(label=2), fewer):
        with pytest.raises(RuntimeError, match="detections must be equal"):
            detection2d.compare(made(), other)


def test_the_peer_has_the_sizes_of_our_configuration() -> None:
    config = load_picture_detector(detection2d.CONFIG)
    assert isinstance(config, Detection2DConfig)
    peer = mmdet_peer.peer_config(config)
    assert peer["neck"]["in_channels"] == [64, 128, 256, 512]
    assert peer["rpn_head"]["anchor_generator"]["strides"] == [4, 8, 16, 32, 64]
    assert peer["roi_head"]["bbox_head"]["num_classes"] == 80
    assert peer["test_cfg"]["rcnn"]["max_per_img"] == 100


def test_a_folder_without_the_source_is_named(tmp_path: Path) -> None:
    command = "-m benchmarks.run detection2d --source InternImage/detection --json detection2d.json"
    ran = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "--source must be the folder detection of OpenGVLab/InternImage" in ran.stderr
