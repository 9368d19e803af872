"""Distances to the sides of image boxes: a form that cannot die in our own configurations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bevstack.config import load_config
from bevstack.losses.perspective_loss import PerspectiveCriterion
from bevstack.models.build import load_model
from bevstack.models.layers.nms import suppress
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.runtime.shipped import weights_path
from tests.models.perspective.perspective_cases import (
    SHAPES,
    SMALL,
    changed,
    some_annotations,
    some_intrinsics,
)

CONFIGS = Path(__file__).parents[3] / "configs"


def killed_head(activation: str, strides_below: float) -> PerspectiveHead:
    """Return a head whose four distances are the same negative number of strides, untrained."""
    torch.manual_seed(0)
    config = changed(SMALL, sides_activation=activation)
    head = PerspectiveHead(config, channels=32)
    torch.nn.init.zeros_(head.ltrb.weight)
    torch.nn.init.constant_(head.ltrb.bias, -strides_below)
    return head


def pyramid() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 32, *shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("strides_below", [0.5, 4.0, 10.0])
def test_softplus_learns_on_where_a_rectified_branch_is_dead(strides_below: float) -> None:
    annotations = [some_annotations(9, seed=seed) for seed in (1, 2)]
    sizes = torch.tensor([h * w for h, w in SHAPES])
    strides = torch.tensor(SMALL.strides).repeat_interleave(sizes)
    share_of_stride = {"relu": 0.0, "softplus": math.log1p(math.exp(-strides_below))}
    for activation, share in share_of_stride.items():
        head = killed_head(activation, strides_below)
        output = head(pyramid())
        wanted = (share * strides)[:, None].expand(2, -1, 4)
        torch.testing.assert_close(output.ltrb_px, wanted)
        losses = PerspectiveCriterion(head.config)(output, annotations, some_intrinsics(2))
        losses.total.backward()
        learns = head.ltrb.bias.grad.abs() > 0
        assert learns.all() if activation == "softplus" else not learns.any()


def test_large_distances_are_those_of_dd3d() -> None:
    outputs = []
    for activation in ("relu", "softplus"):
        head = killed_head(activation, 0.0)
        torch.nn.init.constant_(head.ltrb.bias, 30.0)  # strides
        outputs.append(head(pyramid()).ltrb_px)
    assert torch.equal(*outputs)


def test_boxes_with_sides_suppress_each_other_and_dead_ones_do_not() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    for sides, kept in ((0.0, [True, True]), (0.5, [True, False])):
        box = torch.tensor((8.0 - sides, 8 - sides, 8 + sides, 8 + sides))
        boxes = torch.stack((box, box))[None]
        valid = torch.ones(1, 2, dtype=torch.bool)
        assert suppress(boxes, labels[None], valid=valid, iou=0.5).tolist() == [kept]


def test_our_own_configurations_cannot_die_and_published_ones_are_as_published() -> None:
    seen = set()
    for path in CONFIGS.glob("*.py"):
        if path.stem.startswith("_"):
            continue
        perspective = load_config(path.stem).perspective
        if perspective is None:
            continue
        ours = path.stem.startswith(("tiny", "traffic"))
        seen.add(ours)
        changes = perspective.changes
        form = (changes.sides_activation, changes.choice, changes.min_visibility)
        assert form == (("softplus", "nearest", 2) if ours else ("relu", "smallest", 0)), path.stem
    assert seen == {True, False}


def test_the_packaged_weights_predict_sides_as_they_learned_them() -> None:
    model, config = load_model(weights_path("tiny_cpu_t4"))
    assert config.perspective is not None
    assert config.perspective.changes.sides_activation == "relu"
    assert model.perspective_head.config.changes.sides_activation == "relu"
    # They are the start of further trainings of the present configuration.
    load_model(weights_path("tiny_cpu_t4"), expected=load_config("tiny_cpu_t4"))
