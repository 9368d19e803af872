"""Clips through the whole model, with stored features instead of backbone and neck."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bevstack.config import BEVEncoderConfig, DecoderConfig
from bevstack.config.temporal import TemporalConfig
from bevstack.geometry import CameraRig
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.temporal.fusion import TemporalFusion
from bevstack.models.temporal.history import History
from bevstack.types import Batch
from tests.models.bevformer_oracle import (
    Case,
    assert_close,
    grid_of,
    load_published,
    read_case,
    rig_of,
)
from tests.models.detection3d.test_bev_encoder import FixedEncoding


class StoredFeatures(nn.Module):
    """Backbone with stored maps; the pixels of an image hold its index."""

    def __init__(self, features: list[Tensor]) -> None:  # L x (I, C, H_l, W_l)
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the given images."""
        index = images[:, 0, 0, 0].long()
        return [level[index] for level in self.features]


def oracle_model(case: Case) -> BEVFormerV2:
    channels = case.cfg["embed_dims"]
    grid = grid_of(case.cfg["bev"])
    encoder = BEVEncoderConfig(num_layers=case.cfg["enc_layers"], feedforward_channels=128)
    decoder = DecoderConfig(
        num_layers=case.cfg["dec_layers"], feedforward_channels=128, num_queries=30
    )
    temporal = TemporalConfig(
        num_fusion=case.cfg["num_fusion"], inter_channels=case.cfg["inter_channels"]
    )
    fusion = TemporalFusion(temporal, channels=channels, frames=case.cfg["frames"])
    stored = [case.features(f"feat.{offset}") for offset in present_offsets(case)]
    by_level = zip(*stored, strict=True)
    model = BEVFormerV2(
        StoredFeatures([torch.cat(maps, 1)[0] for maps in by_level]),
        nn.Identity(),
        encoder=BEVEncoder(grid, encoder, channels=channels, num_levels=4),
        decoder=Decoder(grid, decoder, channels=channels, num_classes=10),
        history=History(temporal, fusion, grid=grid),
    )
    pos = case.inputs["bev_pos"][0].flatten(1).T
    model.encoder.positional_encoding = FixedEncoding(pos)
    weights = {
        ("" if name.startswith("reg_branches") else "transformer.") + name: value
        for name, value in case.weights.items()
    }
    weights["bev_embedding.weight"] = case.inputs["bev_queries"]
    weights["query_embedding.weight"] = case.inputs["object_query_embed"]
    load_published(
        model,
        weights,
        published="pts_bbox_head.",
        ours="",
        allow_missing=["decoder.head.class_branches.*", "encoder.positional_encoding.tokens"],
    )
    return model.eval()


def present_offsets(case: Case) -> list[int]:
    return [offset for offset in case.cfg["frames"] if f"lidar2img.{offset}" in case.inputs]


def oracle_clip(case: Case) -> Batch:
    """Return the stored frames; the missing one is NaN, as it must not be read."""
    frames, present = case.cfg["frames"], present_offsets(case)
    count, cameras = len(frames), 6
    images = torch.full((1, count, cameras, 3, *case.image_size), torch.nan)
    rigs = []
    for slot, offset in enumerate(frames):
        stored = f"lidar2img.{offset if offset in present else 0}"
        rigs.append(rig_of(case.inputs[stored], case.image_size))
        if offset in present:
            first = present.index(offset) * cameras
            index = torch.arange(first, first + cameras, dtype=torch.float32)
            images[0, slot] = index[:, None, None, None]
    return Batch(
        images=images,
        rig=CameraRig.stack(rigs, dim=1),
        frame_valid=torch.tensor([[offset in present for offset in frames]]),
        camera_slots=torch.arange(cameras)[None],
        world_from_bev=torch.eye(4, dtype=torch.float64).repeat(1, count, 1, 1),
        timestamp_us=(torch.tensor(frames) * 500_000 + 10**15)[None],
        sample_tokens=("sample",),
        scene_tokens=("scene",),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(name))
        for name in ("transformer_v2_t4_inter", "transformer_v2_bidir")
    ],
)
def test_maps_and_decoder_states_of_a_clip_match_the_published_code(name: str) -> None:
    case = read_case(name)
    model, clip = oracle_model(case), oracle_clip(case)
    frames = case.cfg["frames"]
    assert clip.frame_valid.sum() == len(frames) - 1
    states: list[Tensor] = []
    for layer in model.decoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: states.append(output))
    fused_from: list[tuple[Tensor, Tensor]] = []
    model.fusion.register_forward_pre_hook(lambda module, inputs: fused_from.append(inputs))
    with torch.no_grad():
        output = model(clip)
    maps, valid = fused_from[0]
    assert torch.equal(valid, clip.frame_valid)
    for slot, offset in enumerate(frames):
        stored = "bev_current" if offset == 0 else f"bev_history.{offset}"
        if valid[0, slot]:
            tokens = maps[:, slot].flatten(2).transpose(1, 2)
            assert_close(tokens, case.outputs[stored], case.tolerance)
    tokens = output.bev.flatten(2).permute(2, 0, 1)
    assert_close(tokens, case.outputs["bev_embed_for_decoder"], case.tolerance)
    assert_close(torch.stack(states).transpose(1, 2), case.outputs["inter_states"], case.tolerance)
    refined = model.grid.to_normalised(output.decoder.codes[..., (0, 1, 4)])
    assert_close(refined, case.outputs["inter_references"], case.tolerance)
