from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, distributed

from bevstack.config.perspective import PerspectiveConfig
from bevstack.losses.criterion import Losses
from bevstack.losses.perspective_loss import PerspectiveCriterion, corner_error, giou_loss
from bevstack.losses.perspective_targets import centerness
from bevstack.models.perspective.decode import decode_boxes
from bevstack.models.perspective.head import PerspectiveHead, PerspectiveOutput
from bevstack.types.perspective import CameraAnnotations
from tests.losses.perspective_naive import naive_losses
from tests.models.bevformer_oracle import assert_close, read_case
from tests.models.perspective.perspective_cases import (
    SHAPES,
    SMALL,
    published_annotations,
    published_boxes,
    published_head,
    some_annotations,
    some_intrinsics,
    some_output,
)
from tests.models.perspective.test_decode import published_raw

# our names of the losses, and the published ones
NAMES = {
    "class": "cls",
    "box2d": "box2d_reg",
    "centerness": "centerness",
    "quaternion": "box3d_quat",
    "projected_center": "box3d_proj_ctr",
    "depth": "box3d_depth",
    "size": "box3d_size",
    "confidence": "conf3d",
    "attribute": "attr",
    "speed": "speed",
}
PREDICTIONS = (
    "logits",
    "ltrb_px",
    "centerness",
    "quaternion",
    "center_offset_px",
    "depth",
    "size",
    "confidence",
    "attributes",
    "speed_mps",
)


def assert_same_gradient(got: Tensor | None, wanted: Tensor, tolerance: float) -> None:
    """Compare relative to the largest entry: an absolute tolerance would let zeros pass."""
    assert got is not None
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


@pytest.mark.oracle("dd3d_iou_loss")
def test_overlap_loss_and_centerness_match_the_published_code() -> None:
    case = read_case("dd3d_iou_loss")
    loss = giou_loss(case.inputs["pred"], case.inputs["target"])
    assert_close((loss * case.inputs["weight"]).sum(), case.outputs["loss"], case.tolerance)
    assert_close(centerness(case.inputs["target"]), case.outputs["centerness"], case.tolerance)


@pytest.mark.oracle("dd3d_decode_disentangled")
def test_disentangled_losses_and_gradients_match_the_published_code() -> None:
    case = read_case("dd3d_decode_disentangled")
    inputs, wanted = case.inputs, case.outputs
    raw = published_raw(case)
    leaves = [getattr(raw, name).requires_grad_() for name in vars(raw)]
    config = PerspectiveConfig(official_parity=True)
    boxes = decode_boxes(raw, inputs["labels"], inputs["locations"], inputs["inv_K"], config)
    true = published_boxes(inputs, "gt_")
    unit = torch.nn.functional.normalize(true.quaternion, dim=-1)
    true = replace(true, quaternion=unit)
    losses = PerspectiveCriterion(config).disentangled(boxes, true)
    total = torch.zeros(())
    for name, by_box in losses.items():
        loss = (inputs["weights"] * by_box).sum()  # stored before weight and division
        assert_close(loss, wanted[f"loss_{NAMES[name]}"], case.tolerance)
        total = total + loss
    assert_close(corner_error(boxes, true), wanted["entangled_l1"], case.tolerance)
    total.backward()
    size_gradient = wanted["grad_size"][:, [1, 0, 2]]
    for leaf, gradient in zip(
        leaves,
        (wanted["grad_quat"], wanted["grad_ctr"], wanted["grad_depth"], size_gradient),
        strict=True,
    ):
        assert_same_gradient(leaf.grad, gradient, case.tolerance)


@pytest.mark.oracle("dd3d_train_forward")
def test_losses_and_gradients_of_a_training_step_match_the_published_code() -> None:
    case = read_case("dd3d_train_forward")
    config = PerspectiveConfig(official_parity=True)
    head = published_head(read_case("dd3d_head_eval"), config).train()
    pyramid = [x.requires_grad_() for x in case.features("features", levels=5)]
    annotations, intrinsics = published_annotations(case)
    losses = PerspectiveCriterion(config)(head(pyramid), annotations, intrinsics)
    for ours, theirs in NAMES.items():
        got = losses.terms[f"perspective_{ours}"]
        assert_close(got, case.outputs[f"loss_{theirs}"], case.tolerance)
    losses.total.backward()
    for level, features in enumerate(pyramid):
        wanted = case.outputs[f"grad_features.{level}"]
        assert_same_gradient(features.grad, wanted, case.tolerance)


def criterion(parity: bool = False) -> PerspectiveCriterion:
    return PerspectiveCriterion(replace(SMALL, official_parity=parity))


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("counts", [(), (0,), (9,), (0, 8), (6, 0, 13)])
def test_losses_equal_loops(counts: tuple[int, ...], parity: bool) -> None:
    output = some_output(len(counts), seed=len(counts))
    annotations = [some_annotations(n, seed=n) for n in counts]
    intrinsics = some_intrinsics(len(counts))
    losses = criterion(parity)(output, annotations, intrinsics)
    wanted = naive_losses(output, annotations, intrinsics, parity=parity)
    assert list(losses.terms) == [f"perspective_{name}" for name in NAMES]
    for name, value in wanted.items():
        # float32 sums against float64 ones
        assert float(losses.terms[f"perspective_{name}"]) == pytest.approx(value, rel=2e-4), name
    assert float(losses.total) == pytest.approx(sum(wanted.values()), rel=2e-4)


def near_true_output(true: CameraAnnotations, intrinsics: Tensor) -> PerspectiveOutput:
    """Return predictions a few centimetres off everywhere: corners within beta and beyond."""
    output = some_output(1)
    a = 0
    depth = true.center_m[a, 2]
    inverse = torch.linalg.inv(intrinsics[0])
    scale = 500 * float(torch.hypot(inverse[0, 0], inverse[1, 1]))
    projected = intrinsics[0] @ true.center_m[a].double()
    offset = (projected[:2] / projected[2]).float() - output.locations_px + 0.02
    canonical = torch.tensor(SMALL.canonical_size_m[int(true.labels[a])])
    size = (true.size_m[a] / canonical * 1.02 - 1).atanh()
    return replace(
        output,
        center_offset_px=offset[None, :, :, None].expand(1, -1, -1, 4),
        depth=torch.full_like(output.depth, float(depth + 0.04) * scale),
        size=size[None, None, :, None].expand(1, 75, -1, 4),
        speed_mps=torch.full_like(output.speed_mps, float(true.speed_mps[a]) + 0.03),
    )


@pytest.mark.parametrize("parity", [False, True])
def test_small_errors_are_judged_on_both_sides_of_beta(parity: bool) -> None:
    true = some_annotations(1, seed=4)
    canonical = torch.tensor(SMALL.canonical_size_m[int(true.labels[0])])
    true = replace(true, size_m=canonical[None] * 1.1, boxes_px=torch.tensor([(8.0, 9, 50, 40)]))
    intrinsics = some_intrinsics(1)
    output = near_true_output(true, intrinsics)
    losses = criterion(parity)(output, [true], intrinsics)
    wanted = naive_losses(output, [true], intrinsics, parity=parity)
    other = naive_losses(output, [true], intrinsics, parity=not parity)
    for name in ("depth", "size", "projected_center", "speed"):
        got = float(losses.terms[f"perspective_{name}"])
        assert got == pytest.approx(wanted[name], rel=1e-3)  # differences of float32 metres
    assert wanted["depth"] != pytest.approx(other["depth"], rel=0.1)


def with_leaves(output: PerspectiveOutput) -> PerspectiveOutput:
    return replace(
        output, **{name: getattr(output, name).clone().requires_grad_() for name in PREDICTIONS}
    )


@pytest.mark.parametrize("counts", [(), (0,), (0, 0, 0)])
def test_without_positives_background_alone_is_learnt(counts: tuple[int, ...]) -> None:
    output = with_leaves(some_output(len(counts)))
    losses = criterion()(
        output, [CameraAnnotations.empty()] * len(counts), some_intrinsics(len(counts))
    )
    losses.total.backward()
    for name in NAMES:
        value = float(losses.terms[f"perspective_{name}"])
        assert (value > 0) == (name == "class" and len(counts) > 0)
    assert (output.logits.grad > 0).all()  # every logit is pushed down
    for name in PREDICTIONS[1:]:  # 0 times the prediction: in the graph, with gradient 0
        gradient = getattr(output, name).grad
        assert gradient is not None and not gradient.any()


def test_head_and_criterion_train_together_without_a_single_image() -> None:
    head = PerspectiveHead(replace(SMALL, num_convs=1), channels=6)
    pyramid = [torch.zeros(0, 6, h, w) for h, w in SHAPES]
    losses = criterion()(head(pyramid), [], some_intrinsics(0))
    losses.total.backward()
    assert float(losses.total.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_images_without_boxes_change_the_class_loss_alone() -> None:
    output, true = some_output(2, seed=3), some_annotations(9)
    both = criterion()(output, [true, CameraAnnotations.empty()], some_intrinsics(2))
    fields = {name: getattr(output, name)[:1] for name in PREDICTIONS}
    one = criterion()(replace(output, **fields), [true], some_intrinsics(1))
    for name in NAMES:
        got, wanted = (float(x.terms[f"perspective_{name}"]) for x in (both, one))
        assert got > wanted if name == "class" else got == pytest.approx(wanted, rel=1e-5)


def test_unknown_speeds_and_attributes_give_no_gradient() -> None:
    true = some_annotations(9)
    unknown = replace(
        true,
        speed_mps=torch.full((9,), math.nan),
        attributes=torch.full((9,), -1),
    )
    output = with_leaves(some_output(1))
    losses = criterion()(output, [unknown], some_intrinsics(1))
    losses.total.backward()
    assert float(losses.terms["perspective_speed"]) == 0
    assert float(losses.terms["perspective_attribute"]) == 0
    for name in PREDICTIONS:
        gradient = getattr(output, name).grad
        assert gradient is not None and gradient.isfinite().all()
        assert gradient.any() == (name not in ("speed_mps", "attributes"))


def test_one_box_adds_a_bounded_loss_except_for_parity() -> None:
    true = some_annotations(9)
    output = replace(some_output(1), depth=torch.full((1, 75, 4), 1e4))  # clamped to 80 m
    wide = some_intrinsics(1) * torch.tensor(((0.2, 1, 1), (1, 0.2, 1), (1, 1, 1)))
    bounded = criterion()(output, [true], wide).terms["perspective_depth"]
    free = criterion(parity=True)(output, [true], wide).terms["perspective_depth"]
    assert float(bounded) == pytest.approx(2 * 20.0, rel=1e-5)
    assert float(free) > 45


def test_gradients_equal_differences() -> None:
    """Compare analytic directional derivatives with central differences of the total (float64)."""
    output = some_output(2, seed=8)
    annotations = [some_annotations(5, seed=5), some_annotations(3, seed=3)]
    base = {name: getattr(output, name).double() for name in PREDICTIONS}
    generator = torch.Generator().manual_seed(0)
    directions = {
        name: torch.randn(x.shape, generator=generator).double()
        * (0 if name in ("ltrb_px", "speed_mps") else 1)  # a ReLU has a kink at 0
        for name, x in base.items()
    }

    def total(step: float) -> Losses:
        fields = {n: (x + step * directions[n]).requires_grad_() for n, x in base.items()}
        moved = replace(output, **fields)
        losses = criterion()(moved, annotations, some_intrinsics(2))
        losses.total.backward()
        slopes = [(fields[n].grad * directions[n]).sum() for n in fields]
        return Losses(losses.total.detach(), {"slope": torch.stack(slopes).sum()})

    # the confidence's target moves with the boxes but passes no gradient: keep it at 0
    base["confidence"].zero_()
    directions["confidence"].zero_()
    step = 1e-6
    difference = (total(step).total - total(-step).total) / (2 * step)
    # at logit 0 the entropy is log 2 for every target, so moving targets have no effect
    assert float(total(0.0).terms["slope"]) == pytest.approx(float(difference), rel=1e-4)


def test_half_precision_around_the_losses_changes_nothing() -> None:
    output, annotations = some_output(2), [some_annotations(9), some_annotations(4)]
    wanted = criterion()(output, annotations, some_intrinsics(2))
    with torch.autocast("cpu", torch.bfloat16):
        got = criterion()(output, annotations, some_intrinsics(2))
    assert torch.equal(got.total, wanted.total)


def test_counts_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"annotations must hold one entry per image \(2\); got 1"):
        criterion()(some_output(2), [some_annotations(3)], some_intrinsics(2))


@pytest.mark.parametrize("parity", [False, True])
def test_sums_are_averaged_over_processes_in_one_reduction(
    parity: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate a second process with three times the sums: every divisor doubles."""
    output, true = some_output(1), some_annotations(9)
    alone = criterion(parity)(output, [true], some_intrinsics(1))
    reductions = []

    def all_reduce(sums: Tensor) -> None:
        reductions.append(sums.clone())
        sums += 3 * sums

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    both = criterion(parity)(output, [true], some_intrinsics(1))
    assert len(reductions) == 1
    for name, value in alone.terms.items():
        assert float(both.terms[name]) == pytest.approx(float(value) / 2, rel=1e-5)
    criterion(parity)(output, [CameraAnnotations.empty()], some_intrinsics(1))
    assert len(reductions) == 2  # a process without boxes takes part, too
