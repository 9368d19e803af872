"""Boxes, losses and gradients of whole models, compared with the released code."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import (
    BEVEncoderConfig,
    Config,
    DecoderConfig,
    FPNConfig,
    LossConfig,
    PerspectiveConfig,
    ResNetConfig,
    TemporalConfig,
)
from bevstack.geometry import CameraRig
from bevstack.interop.bevformer_names import BEVFORMER_V2, NOT_WEIGHTS
from bevstack.interop.public_weights import convert_weights
from bevstack.losses import DetectorCriterion
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.models.detection3d.box_code import detections_from
from bevstack.types import Annotations, Batch, Boxes3D, CameraAnnotations
from tests.models.bevformer_oracle import Case, assert_close, grid_of, read_case, rig_of
from tests.models.perspective.perspective_cases import NO_ATTRIBUTE, published_boxes

FRAMES = (-1, 0)
CAMERAS = 6
# Names of the released losses, and ours.
TERMS = {
    "d0.loss_cls": "class_0",
    "d0.loss_bbox": "box_0",
    "loss_cls": "class_1",
    "loss_bbox": "box_1",
    "loss_cls_mono": "perspective_class",
    "loss_box2d_reg_mono": "perspective_box2d",
    "loss_centerness_mono": "perspective_centerness",
    "loss_box3d_quat_mono": "perspective_quaternion",
    "loss_box3d_proj_ctr_mono": "perspective_projected_center",
    "loss_box3d_depth_mono": "perspective_depth",
    "loss_box3d_size_mono": "perspective_size",
    "loss_conf3d_mono": "perspective_confidence",
    "loss_attr_mono": "perspective_attribute",
    "loss_speed_mono": "perspective_speed",
}


def released_config() -> Config:
    """Return the configuration of the stored detector, a small version of the released t2."""
    cfg = read_case("detector_test").cfg
    heads, channels = cfg["num_heads"], cfg["embed_dims"]
    return Config(
        name="released_t2_in_small",
        frames=FRAMES,
        grid=grid_of(cfg["bev"]),
        backbone=ResNetConfig(base_channels=cfg["base_channels"], norm="BN"),
        fpn=FPNConfig(num_outputs=5, channels=channels),
        encoder=BEVEncoderConfig(
            num_layers=cfg["enc_layers"],
            num_levels=4,
            num_heads=heads,
            feedforward_channels=2 * channels,
            dropout=0.0,
        ),
        temporal=TemporalConfig(num_fusion=cfg["num_fusion"], norm="BN"),
        decoder=DecoderConfig(
            num_layers=cfg["dec_layers"],
            num_heads=heads,
            feedforward_channels=2 * channels,
            dropout=0.0,
            num_queries=cfg["num_query"],
            max_detections=cfg["max_num"],
        ),
        perspective=PerspectiveConfig(norm="BN", official_parity=True),
        loss=LossConfig(official_parity=True),
    )


def released_model(config: Config) -> tuple[BEVFormerV2, tuple[tuple[str, str], ...]]:
    """Return the detector with the stored weights, and pairs of published and our names."""
    model = build_model(config)
    weights = read_case("detector_test").weights
    converted, report = convert_weights(
        weights, model.state_dict(), BEVFORMER_V2, allow_left_over=NOT_WEIGHTS
    )
    model.load_state_dict(converted)
    return model, report.matched


def clip_of(case: Case) -> Batch:
    images = case.inputs["imgs"].float()  # (1, T, N, 3, H, W)
    rigs = [rig_of(case.inputs[f"lidar2img.{offset}"], case.image_size) for offset in FRAMES]
    return Batch(
        images=images,
        rig=CameraRig.stack(rigs, dim=1),
        frame_valid=torch.ones(1, len(FRAMES), dtype=torch.bool),
        camera_slots=torch.arange(CAMERAS)[None],
        world_from_bev=torch.eye(4, dtype=torch.float64).repeat(1, len(FRAMES), 1, 1),
        timestamp_us=torch.tensor([[0, 500_000]]),
        sample_tokens=("sample",),
        scene_tokens=("scene",),
    )


def legacy_boxes(boxes: Boxes3D) -> Tensor:  # (D, 9)
    """Return (x, y, bottom z, w, l, h, yaw' = -yaw - pi/2, vx, vy)."""
    bottom = boxes.center - torch.nn.functional.pad(boxes.size[:, 2:] / 2, (2, 0))
    yaw = -boxes.yaw - math.pi / 2
    yaw = torch.atan2(yaw.sin(), yaw.cos())
    return torch.cat((bottom, boxes.size[:, (1, 0, 2)], yaw[:, None], boxes.velocity), -1)


@pytest.mark.oracle("detector_test")
def test_boxes_of_two_frames_match_the_released_detector() -> None:
    case = read_case("detector_test")
    config = released_config()
    model, _ = released_model(config)
    with torch.no_grad():
        output = model.eval()(clip_of(case))
    tokens = output.bev.flatten(2).permute(2, 0, 1)
    assert_close(tokens, case.outputs["bev_embed"], case.tolerance)
    (found,) = detections_from(
        output.decoder,
        max_detections=config.decoder.max_detections,
        post_range_m=config.decoder.post_range_m,
    )
    assert torch.equal(found.labels, case.outputs["labels"])
    assert_close(found.scores, case.outputs["scores"], case.tolerance)
    assert_close(legacy_boxes(found.boxes), case.outputs["boxes"], case.tolerance)


def training_clip(case: Case) -> Batch:
    boxes = case.inputs["gt_boxes_bottom"]
    center = boxes[:, :3] + torch.nn.functional.pad(boxes[:, 5:6] / 2, (2, 0))
    true = Boxes3D(center, boxes[:, (4, 3, 5)], -boxes[:, 6] - math.pi / 2, boxes[:, 7:9])
    labels = case.inputs["gt_labels"]
    cameras = [CameraAnnotations.empty()] * CAMERAS
    for index, camera in enumerate(case.inputs["mono_idx"].tolist()):
        cameras[camera] = camera_annotations(case, index)
    return replace(
        clip_of(case),
        annotations=(Annotations(true, labels, torch.ones_like(labels)),),
        # The release stores the inverse.
        bev_augmentation=torch.linalg.inv(case.inputs["bev_mat"].double())[None],
        camera_annotations=(tuple(cameras),),
    )


def camera_annotations(case: Case, index: int) -> CameraAnnotations:
    prefix = f"mono_gt.{index}."
    part = {k.removeprefix(prefix): v for k, v in case.inputs.items() if k.startswith(prefix)}
    inverse = case.inputs["inv_K"][index].expand(len(part["classes"]), 3, 3)
    boxes = published_boxes({**part, "inv_K": inverse})
    unknown = part["attributes"] == NO_ATTRIBUTE
    return CameraAnnotations(
        part["boxes"],
        part["classes"],
        boxes.quaternion,
        boxes.centers(),
        boxes.size_m,
        torch.where(unknown, -1, part["attributes"]),
        torch.where(part["speeds"] < 0, math.nan, part["speeds"]),
    )


@pytest.mark.oracle("detector_train")
def test_losses_and_gradients_of_training_match_the_released_detector() -> None:
    case = read_case("detector_train")
    config = released_config()
    model, names = released_model(config)
    batch = training_clip(case)
    criterion = DetectorCriterion(config.loss, config.perspective)
    losses = criterion(model.train()(batch), batch, model.grid)
    for theirs, ours in TERMS.items():
        wanted = case.outputs[theirs].reshape(())
        assert_close(losses.terms[ours], wanted, case.tolerance)
    assert losses.terms.keys() == set(TERMS.values())
    assert_close(losses.total, case.outputs["total"].reshape(()), case.tolerance)
    losses.total.backward()
    check_gradients(case, model, names)


def published_square(gradients: dict[str, Tensor]) -> float:
    """Return the squared norm of a published parameter's gradient, from those of its parts."""
    parts = [gradient.double() for gradient in gradients.values()]
    summed = [name for name in gradients if name.endswith("_pos.weight")]
    if summed:
        # Published [W1, W2] acts on [q, q + pos]; ours are W1 + W2 on q and W2 on pos.
        pos_gradient = gradients[summed[0]].double()
        (query_gradient,) = (g.double() for name, g in gradients.items() if name not in summed)
        parts = [query_gradient, query_gradient + pos_gradient]
    return sum(float(part.square().sum()) for part in parts)


def check_gradients(case: Case, model: BEVFormerV2, names: tuple[tuple[str, str], ...]) -> None:
    """Compare the gradient norm of every published parameter, over the parts it was split into."""
    ours = dict(model.named_parameters())
    gradients: dict[str, dict[str, Tensor]] = {}
    for published, name in names:
        if name in ours:
            gradient = ours[name].grad
            assert gradient is not None, name
            gradients.setdefault(published, {})[name] = gradient
    squares = {name: published_square(parts) for name, parts in gradients.items()}
    stored = {
        key.removeprefix("gradnorm."): float(value)
        for key, value in case.outputs.items()
        if key.startswith("gradnorm.")
    }
    with_gradient = {name: value for name, value in stored.items() if value != -1}
    assert stored.keys() - with_gradient.keys() == set(case.cfg["no_grad_params"])
    assert squares.keys() == with_gradient.keys()
    # The stored norms come from float32, whose rounding moves activations across the kinks of ReLU:
    # the same model in float64 is off by up to 1.0 % of a norm (5 of the norms by more than the
    # tolerance of 0.5 %), in float32 without oneDNN by up to 1.7 % (18 of them). So nearly all
    # norms must lie within the tolerance, and all within four times of it.
    errors = {
        name: abs(math.sqrt(squares[name]) - wanted) / (wanted + 1e-12)
        for name, wanted in with_gradient.items()
    }
    far = [name for name, error in errors.items() if error > case.tolerance]
    assert len(far) <= 0.1 * len(errors), far
    assert max(errors.values()) <= 4 * case.tolerance, max(errors, key=errors.__getitem__)
