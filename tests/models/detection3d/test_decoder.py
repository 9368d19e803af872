from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bevstack.config import DecoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.models.detection3d.decoder import Decoder, QuerySelfAttention
from tests.models import naive
from tests.models.bevformer_oracle import assert_close, grid_of, load_published, read_case
from tests.models.small_models import randomise


@pytest.mark.oracle("transformer_v2_t1")
def test_states_and_references_match_the_published_decoder() -> None:
    case = read_case("transformer_v2_t1")
    layers = case.cfg["dec_layers"]
    config = DecoderConfig(num_layers=layers, feedforward_channels=128, num_queries=30)
    decoder = Decoder(grid_of((20, 20)), config, channels=64, num_classes=10).eval()
    weights = {
        ("" if name.startswith("reg_branches") else "transformer.") + name: value
        for name, value in case.weights.items()
        if name.startswith(("decoder.", "reference_points.", "reg_branches."))
    }
    weights["query_embedding.weight"] = case.inputs["object_query_embed"]
    load_published(
        decoder,
        weights,
        published="pts_bbox_head.",
        ours="decoder.",
        allow_missing=["head.class_branches.*"],
    )
    states, references = [], []
    for layer in decoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: states.append(output))
        layer.register_forward_pre_hook(lambda module, inputs: references.append(inputs[2]))
    bev = case.outputs["bev_embed_for_decoder"][:, 0].T.view(1, 64, 20, 20)
    output = decoder(bev)
    assert_close(torch.stack(states).transpose(1, 2), case.outputs["inter_states"], case.tolerance)
    init = case.outputs["init_reference"]
    assert_close(references[0], init[..., :2], case.tolerance)
    refined = decoder.grid.to_normalised(output.codes[..., (0, 1, 4)])
    assert_close(refined, case.outputs["inter_references"], case.tolerance)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_self_attention_equals_loops_over_heads_and_queries(batch: int) -> None:
    torch.manual_seed(batch)
    module = QuerySelfAttention(12, num_heads=3, dropout=0.5).double()
    randomise(module)
    query = torch.randn(batch, 5, 12, dtype=torch.float64)
    pos = torch.randn(5, 12, dtype=torch.float64)
    q_weight, k_weight = module.qk_proj.weight.chunk(2)
    q_bias, k_bias = module.qk_proj.bias.chunk(2)
    with torch.no_grad():
        got = module(query, pos)
        for b in range(batch):
            q = (query[b] + pos) @ q_weight.T + q_bias
            k = (query[b] + pos) @ k_weight.T + k_bias
            mixed = naive.multihead_attention(q, k, module.v_proj(query[b]), heads=3)
            torch.testing.assert_close(got[b], module.out_proj(mixed), rtol=1e-10, atol=1e-10)


def small_decoder(layers: int = 3) -> Decoder:
    grid = BEVGrid(x_range_m=(-10, 30), y_range_m=(-7, 5), z_range_m=(-2, 3), shape=(3, 4))
    config = DecoderConfig(num_layers=layers, num_heads=2, feedforward_channels=9, num_queries=5)
    decoder = Decoder(grid, config, channels=8, num_classes=3).double()
    return randomise(decoder)


def assert_is_the_formula(
    decoder: Decoder,
    output: DecoderOutput,
    sample: int,
    rows: Tensor,  # (q,) queries of the output
    bev: Tensor,  # (C, Y, X)
    start: tuple[Tensor, Tensor, Tensor],  # content, positional part and references of those rows
) -> None:
    """Compare the output at some rows with the formula for these queries alone."""
    tokens = bev.flatten(1).T
    query, pos, reference = start
    low, extent = torch.tensor((-10.0, -7, -2)), torch.tensor((40.0, 12, 5))
    for index, layer in enumerate(decoder.layers):
        query = layer.norms[0](query + layer.self_attention(query[None], pos)[0])
        centers, queries = reference[None, :, :2].detach(), (query + pos)[None].detach()
        attention = layer.cross_attention
        attended = naive.deformable_attention(attention, queries, tokens[None], centers, (3, 4))
        query = layer.norms[1](query + attended[0])
        query = layer.norms[2](query + layer.feedforward(query))
        raw = decoder.head.box_branches[index](query)
        codes = output.codes[index, sample, rows]
        for q in range(len(rows)):
            for axis, row in ((0, 0), (1, 1), (2, 4)):
                r = float(reference[q, axis].detach().clamp(1e-5, 1 - 1e-5))
                moved = torch.sigmoid(raw[q, row] + torch.logit(torch.tensor(r).double()))
                metres = moved * extent[axis] + low[axis]
                torch.testing.assert_close(codes[q, row], metres, rtol=1e-6, atol=1e-6)
        sizes_and_motion = (2, 3, 5, 6, 7, 8, 9)  # not refined
        torch.testing.assert_close(codes[:, sizes_and_motion], raw[:, sizes_and_motion])
        wanted = decoder.head.class_branches[index](query)
        torch.testing.assert_close(output.logits[index, sample, rows], wanted)
        reference = ((codes[:, (0, 1, 4)] - low) / extent).detach()


@pytest.mark.parametrize("batch", [1, 2])
def test_decoder_equals_its_formula_step_by_step(batch: int) -> None:
    decoder = small_decoder()
    bev = torch.randn(batch, 8, 3, 4, dtype=torch.float64)
    output = decoder(bev)
    pos, content = decoder.query_embedding[:, :8], decoder.query_embedding[:, 8:]
    start = (content, pos, torch.sigmoid(decoder.reference_points(pos)))
    for b in range(batch):
        assert_is_the_formula(decoder, output, b, torch.arange(5), bev[b], start)


def test_recomputed_activations_change_no_gradient() -> None:
    bev = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    decoder = small_decoder().train()
    gradients = []
    for recompute in (False, True):
        decoder.activation_checkpointing = recompute
        torch.manual_seed(3)  # dropout draws the same again
        output = decoder(bev)
        total = output.logits.sum() + output.codes.sin().sum()
        gradients.append(torch.autograd.grad(total, list(decoder.parameters())))
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_gradient_stops_at_refined_references_and_reaches_the_first_ones() -> None:
    decoder = small_decoder(layers=2)
    bev = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    decoder(bev).codes[1, ..., 0].sum().backward()
    assert not any(
        p.grad.any() for p in decoder.head.box_branches[0].parameters() if p.grad is not None
    )
    assert decoder.query_embedding.grad.any()
    decoder.zero_grad()
    decoder(bev).codes[0, ..., 0].sum().backward()
    assert decoder.reference_points.weight.grad.any()


def test_input_projections_start_as_one_matrix() -> None:
    torch.manual_seed(0)
    weight = QuerySelfAttention(64, num_heads=8, dropout=0.1).qk_proj.weight
    bound = (6 / (64 + 3 * 64)) ** 0.5
    assert 0.95 * bound < float(weight.abs().max()) <= bound
