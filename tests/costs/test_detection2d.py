"""Counts of the packaged 2D detectors against the published ones."""

from __future__ import annotations

import pytest

from bevstack.cli.main import main
from bevstack.costs.detection2d import count_detection_model, detection_models

# Published parameters in millions and operations in GFLOP, which are multiply-accumulates
# (README of the released code), for one picture of 800 x 1280.
PUBLISHED = {
    "mask_rcnn_internimage_t": (49, 270),
    "mask_rcnn_internimage_s": (69, 340),
    "mask_rcnn_internimage_b": (115, 501),
    "cascade_mask_rcnn_internimage_l": (277, 1399),
    "cascade_mask_rcnn_internimage_xl": (387, 1782),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_equal_the_published_ones(name: str) -> None:
    millions, giga = PUBLISHED[name]
    count = count_detection_model(name)
    assert round(count.parameters / 1e6) == millions
    # The published tools count biases and elementwise operations too: 0.3 percent.
    assert count.macs / 1e9 == pytest.approx(giga, rel=0.004)


def test_every_region_detector_has_a_published_count() -> None:
    known = {name for name in detection_models() if "rcnn" in name}
    assert known - {"mask_rcnn_nano"} == set(PUBLISHED)


def test_a_transformer_is_counted_without_regions() -> None:
    count = count_detection_model("dino_internimage_t", (256, 320))
    assert count.parameters == 48_736_828
    assert "regions" not in count.lines()[0]
    part = {own.name: own for own in count.parts}["transformer"]
    assert part.parameters == 18_556_236
    assert 0 < part.macs < count.macs


def test_doctor_prints_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "mask_rcnn_internimage_t"]) == 0
    printed = capsys.readouterr().out
    assert "800 x 1280" in printed
    assert "48,920,544" in printed
    assert main(["doctor", "--model", "mask_rcnn_internimage_q"]) != 0
    assert "mask_rcnn_internimage_t" in capsys.readouterr().err
