"""Encoder of each frame, filling, fusion and decoder together, as the detector runs them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bevstack.config import BEVEncoderConfig, DecoderConfig
from bevstack.config.temporal import TemporalConfig
from bevstack.models.bev_encoder import BEVEncoder
from bevstack.models.decoder import Decoder
from bevstack.models.point_sampling import find_visible_pairs
from bevstack.models.temporal_fusion import TemporalFusion
from tests.models.bevformer_oracle import (
    Case,
    assert_close,
    grid_of,
    load_published,
    read_case,
    rig_of,
)
from tests.models.test_bev_encoder import FixedEncoding


def oracle_transformer(case: Case) -> nn.ModuleDict:
    channels = case.cfg["embed_dims"]
    grid = grid_of(case.cfg["bev"])
    encoder = BEVEncoderConfig(num_layers=case.cfg["enc_layers"], feedforward_channels=128)
    decoder = DecoderConfig(
        num_layers=case.cfg["dec_layers"], feedforward_channels=128, num_queries=30
    )
    temporal = TemporalConfig(
        num_fusion=case.cfg["num_fusion"], inter_channels=case.cfg["inter_channels"]
    )
    model = nn.ModuleDict(
        {
            "encoder": BEVEncoder(grid, encoder, channels=channels, num_levels=4),
            "fusion": TemporalFusion(temporal, channels=channels, frames=case.cfg["frames"]),
            "decoder": Decoder(grid, decoder, channels=channels, num_classes=10),
        }
    )
    pos = case.inputs["bev_pos"][0].flatten(1).T
    model["encoder"].positional_encoding = FixedEncoding(pos)
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


def encode(case: Case, encoder: BEVEncoder, offset: int) -> Tensor:  # (1, C, Y, X)
    rig = rig_of(case.inputs[f"lidar2img.{offset}"], case.image_size)
    pairs = find_visible_pairs(rig, encoder.grid, num_heights=4, padded_size=case.image_size)
    return encoder(case.features(f"feat.{offset}"), pairs, torch.arange(6)[None])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(name))
        for name in ("transformer_v2_t4_inter", "transformer_v2_bidir")
    ],
)
def test_fused_maps_and_decoder_states_match_the_published_code(name: str) -> None:
    case = read_case(name)
    model = oracle_transformer(case)
    frames = case.cfg["frames"]
    present = [f"lidar2img.{offset}" in case.inputs for offset in frames]
    assert present.count(False) == 1
    rows, columns = model["encoder"].grid.shape
    missing = torch.full((1, case.cfg["embed_dims"], rows, columns), torch.nan)
    with torch.no_grad():
        maps = [
            encode(case, model["encoder"], offset) if there else missing
            for offset, there in zip(frames, present, strict=True)
        ]
        for offset, bev, there in zip(frames, maps, present, strict=True):
            stored = "bev_current" if offset == 0 else f"bev_history.{offset}"
            if there:
                wanted = case.outputs[stored]
                assert_close(bev.flatten(2).transpose(1, 2), wanted, case.tolerance)
        fused = model["fusion"](torch.stack(maps, 1), torch.tensor([present]))
        wanted = case.outputs["bev_embed_for_decoder"]
        assert_close(fused.flatten(2).permute(2, 0, 1), wanted, case.tolerance)
        states: list[Tensor] = []
        for layer in model["decoder"].layers:
            layer.register_forward_hook(lambda module, inputs, output: states.append(output))
        codes = model["decoder"](fused).codes
    assert_close(torch.stack(states).transpose(1, 2), case.outputs["inter_states"], case.tolerance)
    refined = model["decoder"].grid.to_normalised(codes[..., (0, 1, 4)])
    assert_close(refined, case.outputs["inter_references"], case.tolerance)
