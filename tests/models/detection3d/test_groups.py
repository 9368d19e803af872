"""Group DETR: training queries in groups that are decoded and matched independently."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bevstack.config import BEVEncoderConfig, DecoderConfig, LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses import Criterion
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from tests.losses.published_losses import EVERYWHERE, read_losses
from tests.losses.test_matcher import random_output
from tests.models.bevformer_oracle import (
    assert_close,
    grid_of,
    legacy_codes,
    load_published,
    read_case,
    rig_of,
)
from tests.models.small_models import make_annotations


@pytest.mark.oracle("head_group")
def test_decoder_equals_the_released_code_in_training_and_evaluation() -> None:
    case = read_case("head_group")
    grid = grid_of(case.cfg["bev"])
    encoder = BEVEncoder(
        grid,
        BEVEncoderConfig(num_layers=1, feedforward_channels=128, dropout=0.0),
        channels=64,
        num_levels=4,
    )
    config = DecoderConfig(
        num_layers=3, feedforward_channels=128, num_queries=30, num_groups=3, dropout=0.0
    )
    decoder = Decoder(grid, config, channels=64, num_classes=10)
    head = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    load_published(head, case.weights, published="pts_bbox_head.", ours="")
    rig = rig_of(case.inputs["lidar2img"], case.image_size)
    pairs = find_visible_pairs(rig, grid, num_heights=4, padded_size=case.image_size)
    for mode in ("eval", "train"):
        head.train(mode == "train")
        bev = encoder(case.features("mlvl_feats"), pairs, torch.arange(6)[None])
        output = decoder(bev)
        wanted = case.outputs
        assert_close(output.logits, wanted[f"{mode}.all_cls_scores"], case.tolerance)
        assert_close(legacy_codes(output.codes), wanted[f"{mode}.all_bbox_preds"], case.tolerance)


@pytest.mark.oracle("match_loss_group")
def test_losses_and_gradients_equal_the_released_code() -> None:
    stored = read_losses("match_loss_group")
    output = DecoderOutput(stored.output.logits, stored.output.codes, stored.case.cfg["group"])
    losses = Criterion(stored.config, official_parity=True)(output, stored.annotations, EVERYWHERE)
    wanted, tolerance = stored.case.outputs, stored.case.tolerance
    for layer, prefix in enumerate(("d0.", "d1.", "")):
        for ours, theirs in (("class", "loss_cls"), ("box", "loss_bbox")):
            loss = wanted[f"loss.{prefix}{theirs}"].reshape(())
            assert_close(losses.terms[f"{ours}_{layer}"], loss, tolerance)
    assert_close(losses.total, wanted["total"].reshape(()), tolerance)
    losses.total.backward()
    assert_close(stored.output.logits.grad, wanted["grad_cls"], tolerance)
    assert_close(legacy_codes(stored.output.codes.grad), wanted["grad_box"], tolerance)


def small_decoder(groups: int) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        num_layers=2,
        num_heads=2,
        feedforward_channels=24,
        num_queries=7,
        num_groups=groups,
        dropout=0.0,
    )
    return Decoder(BEVGrid(shape=(5, 6)), config, channels=16, num_classes=4)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_groups_do_not_attend_to_each_other(batch: int) -> None:
    decoder = small_decoder(3)
    bev = torch.randn(batch, 16, 5, 6)
    before = decoder(bev)
    with torch.no_grad():
        decoder.query_embedding[7:14] += 1.0  # the second group
    after = decoder(bev)
    for rows in (slice(0, 7), slice(14, 21)):
        torch.testing.assert_close(after.logits[:, :, rows], before.logits[:, :, rows])
    assert not torch.allclose(after.logits[:, :, 7:14], before.logits[:, :, 7:14])


def test_evaluation_uses_the_first_group_alone() -> None:
    decoder = small_decoder(3)
    bev = torch.randn(2, 16, 5, 6)
    training = decoder(bev)
    evaluated = decoder.eval()(bev)
    assert training.num_groups == 3
    assert evaluated.num_groups == 1
    torch.testing.assert_close(evaluated.logits, training.logits[:, :, :7])


@pytest.mark.parametrize("counts", [(3,), (2, 0, 4), (0, 0)])
def test_loss_of_groups_is_the_mean_of_each_group_matched_alone(counts: tuple[int, ...]) -> None:
    output = random_output(2, len(counts), 12, 4, seed=len(counts))
    annotations = [make_annotations(n, 4, seed=n, spread_m=3.0) for n in counts]
    criterion = Criterion(LossConfig())
    together = criterion(replace(output, num_groups=2), annotations, EVERYWHERE)
    alone = [
        criterion(
            DecoderOutput(output.logits[:, :, rows], output.codes[:, :, rows]),
            annotations,
            EVERYWHERE,
        )
        for rows in (slice(0, 6), slice(6, 12))
    ]
    torch.testing.assert_close(together.total, (alone[0].total + alone[1].total) / 2)
