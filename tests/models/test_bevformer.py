from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bevstack.config import BEVEncoderConfig, DecoderConfig
from bevstack.geometry import CameraRig
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.box_code import detections_from
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.types import Batch, BEVMemory
from tests.models.bevformer_oracle import (
    assert_close,
    grid_of,
    legacy_codes,
    load_published,
    read_case,
    rig_of,
)
from tests.models.small_models import make_batch, randomise, small_config


@pytest.mark.oracle("head_plain")
def test_head_matches_the_published_code_from_pyramid_to_boxes() -> None:
    case = read_case("head_plain")
    grid = grid_of(case.cfg["bev"])
    encoder = BEVEncoder(
        grid,
        BEVEncoderConfig(num_layers=case.cfg["enc_layers"], feedforward_channels=128),
        channels=64,
        num_levels=4,
    )
    config = DecoderConfig(
        num_layers=case.cfg["dec_layers"],
        feedforward_channels=128,
        num_queries=case.cfg["num_query"],
    )
    decoder = Decoder(grid, config, channels=64, num_classes=10)
    head = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}).eval()
    load_published(head, case.weights, published="pts_bbox_head.", ours="")
    rig = rig_of(case.inputs["lidar2img"], case.image_size)
    pairs = find_visible_pairs(rig, grid, num_heights=4, padded_size=case.image_size)
    bev = encoder(case.features("mlvl_feats"), pairs, torch.arange(6)[None])
    output = decoder(bev)
    tokens = bev.flatten(2).permute(2, 0, 1)
    assert_close(tokens, case.outputs["eval.bev_embed"], case.tolerance)
    assert_close(output.logits, case.outputs["eval.all_cls_scores"], case.tolerance)
    codes = legacy_codes(output.codes)
    assert_close(codes, case.outputs["eval.all_bbox_preds"], case.tolerance)
    (found,) = detections_from(
        output, max_detections=case.cfg["max_num"], post_range_m=(61.2, 61.2, 10.0)
    )
    assert_close(found.scores, case.outputs["scores"], case.tolerance)
    assert torch.equal(found.labels, case.outputs["labels"])
    wanted = case.outputs["boxes_bottom"]  # (x, y, bottom z, w, l, h, yaw', vx, vy)
    height = found.boxes.size[:, 2:]
    bottom = found.boxes.center - torch.nn.functional.pad(height / 2, (2, 0))
    assert_close(bottom, wanted[:, :3], case.tolerance)
    assert_close(found.boxes.size, wanted[:, (4, 3, 5)], case.tolerance)
    heading = torch.stack((found.boxes.yaw.cos(), found.boxes.yaw.sin()), -1)
    legacy = -wanted[:, 6] - math.pi / 2
    assert_close(heading, torch.stack((legacy.cos(), legacy.sin()), -1), case.tolerance)
    assert_close(found.boxes.velocity, wanted[:, 7:9], case.tolerance)


def small_model(seed: int = 0) -> BEVFormerV2:
    torch.manual_seed(seed)
    return randomise(build_model(small_config()), scale=0.05)


def sample_of(batch: Batch, b: int, count: int = 1) -> Batch:
    part = slice(b, b + count)
    augmentation = batch.bev_augmentation
    return Batch(
        batch.images[part],
        batch.rig[part],
        batch.frame_valid[part],
        batch.camera_slots[part],
        batch.world_from_bev[part],
        batch.timestamp_us[part],
        batch.sample_tokens[part],
        batch.scene_tokens[part],
        None,
        None if augmentation is None else augmentation[part],
    )


def assert_same_output(got, wanted, b: int, tolerance: float = 2e-5) -> None:
    # float32 sums of a batched matrix product have another order than those of one sample
    torch.testing.assert_close(got.bev[b], wanted.bev[0], rtol=tolerance, atol=tolerance)
    for name in ("logits", "codes"):
        ours, theirs = getattr(got.decoder, name)[:, b], getattr(wanted.decoder, name)[:, 0]
        torch.testing.assert_close(ours, theirs, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("batch", [2, 3])
def test_samples_with_different_rigs_equal_batches_of_one(batch: int) -> None:
    model = small_model()
    data = make_batch(batch, 3)
    assert not torch.equal(data.rig.bev_from_cam[0], data.rig.bev_from_cam[1])
    mask = torch.ones(batch, 1, 3, dtype=torch.bool)
    mask[1, 0, 2] = False
    turn = torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1)
    turn[1, 0, 0] = -1
    data = replace(data, rig=replace(data.rig, camera_mask=mask), bev_augmentation=turn)
    with torch.no_grad():
        together = model(data)
        for b in range(batch):
            assert_same_output(together, model(sample_of(data, b)), b)
    first, second = together.bev[0], together.bev[1]
    assert not torch.allclose(first, second, atol=1e-2)


def test_gradients_of_two_samples_are_the_sum_of_each_samples() -> None:
    model = small_model()
    data = make_batch(2, 3)
    whole = _gradients(model, [data])
    parts = _gradients(model, [sample_of(data, 0), sample_of(data, 1)])
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(
            gradient, parts[name], rtol=0, atol=2e-3 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def _gradients(model: BEVFormerV2, batches: list[Batch]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for data in batches:
        output = model(data).decoder
        (output.logits.square().sum() + output.codes.square().sum()).backward()
    # stages of the backbone after the last one in use have none
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("image_size", [(33, 47), (50, 71), (65, 129)])
def test_any_image_size_works(image_size: tuple[int, int]) -> None:
    model = small_model()
    data = make_batch(1, 2, image_size=image_size, padded_size=image_size)
    with torch.no_grad():
        output = model(data)
    assert output.bev.shape == (1, 24, 7, 11) and output.bev.isfinite().all()
    assert output.decoder.codes.shape == (2, 1, 13, 10)
    assert output.memory is None


def test_empty_batch_gives_an_empty_output() -> None:
    model = small_model()
    with torch.no_grad():
        output = model(sample_of(make_batch(2, 3), 0, count=0))
    assert output.bev.shape == (0, 24, 7, 11)
    assert output.decoder.codes.shape == (2, 0, 13, 10)
    assert detections_from(output.decoder, max_detections=5, post_range_m=(9.0, 9.0, 9.0)) == []


def test_one_camera_works() -> None:
    with torch.no_grad():
        output = small_model()(make_batch(2, 1))
    assert output.decoder.codes.isfinite().all()


def test_a_lost_camera_equals_a_rig_without_it() -> None:
    model = small_model()
    data = make_batch(1, 3)
    mask = torch.tensor([[[True, False, True]]])
    images = data.images.clone()
    images[:, :, 1] = math.nan
    lost = replace(data, images=images, rig=replace(data.rig, camera_mask=mask))
    kept = [0, 2]
    rig = data.rig
    without = replace(
        data,
        images=data.images[:, :, kept],
        rig=CameraRig(
            rig.intrinsics[:, :, kept],
            rig.bev_from_cam[:, :, kept],
            rig.image_size[:, :, kept],
            rig.camera_mask[:, :, kept],
        ),
        camera_slots=data.camera_slots[:, kept],
    )
    with torch.no_grad():
        assert_same_output(model(lost), model(without), 0)
    output = model(lost).decoder
    (output.logits.sum() + output.codes.sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_all_cameras_lost_gives_finite_boxes_and_gradients() -> None:
    model = small_model()
    data = make_batch(2, 3)
    mask = torch.zeros(2, 1, 3, dtype=torch.bool)
    data = replace(
        data,
        images=torch.full_like(data.images, math.nan),
        rig=replace(data.rig, camera_mask=mask),
    )
    output = model(data)
    assert output.bev.isfinite().all() and output.decoder.codes.isfinite().all()
    (output.decoder.logits.sum() + output.decoder.codes.sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_passes_of_few_images_give_what_one_pass_gives() -> None:
    model = small_model()
    data = make_batch(2, 3)
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        whole = model(data)
        model.pixels_per_pass = 4 * 64 * 96 + 1
        fours = model(data)
        model.pixels_per_pass = 1
        ones = model(data)
    assert sizes == [6, 4, 2, 1, 1, 1, 1, 1, 1]
    for b in range(2):
        for parts in (fours, ones):
            torch.testing.assert_close(parts.bev[b], whole.bev[b], rtol=2e-5, atol=2e-5)
    sizes.clear()
    model(data)  # with gradients everything is one pass
    model.train()
    with torch.no_grad():
        model(data)  # batch statistics are those of all images
    assert sizes == [6, 6]


def test_camera_slots_choose_the_embedding() -> None:
    model = small_model()
    data = make_batch(1, 3)
    other = replace(data, camera_slots=torch.tensor([[4, 1, 0]]))
    with torch.no_grad():
        before = model(data).bev
        assert not torch.allclose(model(other).bev, before, atol=1e-3)
        embeds = model.encoder.camera_embeds
        embeds[[4, 1, 0]] = embeds[data.camera_slots[0]].clone()
        torch.testing.assert_close(model(other).bev, before)


def test_several_frames_and_a_memory_are_refused() -> None:
    model = small_model()
    data = make_batch(1, 2)
    two = Batch(
        data.images.repeat(1, 2, 1, 1, 1, 1),
        CameraRig.stack([data.rig[:, 0], data.rig[:, 0]], dim=1),
        data.frame_valid.repeat(1, 2),
        data.camera_slots,
        data.world_from_bev.repeat(1, 2, 1, 1),
        data.timestamp_us.repeat(1, 2),
        data.sample_tokens,
        data.scene_tokens,
    )
    with pytest.raises(ValueError, match="images must hold one frame"):
        model(two)
    memory = BEVMemory(
        (),
        torch.zeros(1, 1, dtype=torch.bool),
        torch.eye(4, dtype=torch.float64).repeat(1, 1, 1, 1),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="memory must be None"):
        model(data, memory)


def test_autocast_keeps_boxes_close_and_in_float32() -> None:
    model = small_model()
    data = make_batch(1, 3)
    with torch.no_grad():
        exact = model(data)
        with torch.autocast("cpu", torch.bfloat16):
            lowered = model(data)
    assert lowered.decoder.codes.dtype == torch.float32
    assert lowered.decoder.codes.isfinite().all()
    # bfloat16 has three digits and the maps pass a dozen layers
    error = (lowered.bev.float() - exact.bev).abs().mean() / exact.bev.abs().mean()
    assert float(error) < 0.05
