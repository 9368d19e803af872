"""The decoder with learned queries and queries of proposals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import DecoderConfig, LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses import Criterion
from bevstack.models.detection3d.box_code import detections_from
from bevstack.models.detection3d.decoder import INACTIVE_LOGIT, Decoder
from bevstack.models.detection3d.proposal_queries import MIN_PERIOD, sine_embedding
from bevstack.models.perspective.proposals import Proposals
from bevstack.types import Boxes3D
from tests.models.detection3d.test_decoder import assert_is_the_formula
from tests.models.small_models import make_annotations, randomise

GRID = BEVGrid(x_range_m=(-10, 30), y_range_m=(-7, 5), z_range_m=(-2, 3), shape=(3, 4))
PROPOSALS, LEARNED = 4, 5  # queries of each kind in a group


def hybrid_decoder(
    *, groups: int = 1, layers: int = 3, grid: BEVGrid = GRID, boxes: bool = False
) -> Decoder:
    config = DecoderConfig(
        num_layers=layers,
        num_heads=2,
        feedforward_channels=9,
        num_queries=LEARNED,
        num_groups=groups,
        dropout=0.0,
    )
    torch.manual_seed(0)
    return Decoder(
        grid, config, channels=8, num_classes=3, num_proposals=PROPOSALS, start_from_boxes=boxes
    )


def some_proposals(counts: tuple[int, ...], *, rows: int = PROPOSALS, seed: int = 0) -> Proposals:
    """Return random proposals; valid rows are not first, as the decoder must not rely on that."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(counts)
    valid = torch.zeros(batch, rows, dtype=torch.bool)
    for b, count in enumerate(counts):
        valid[b, torch.randperm(rows, generator=generator)[:count]] = True
    points = torch.rand(batch, rows, 3, generator=generator)
    zeros = torch.zeros(batch, rows)
    three = torch.zeros(batch, rows, 3)
    boxes = Boxes3D(three, three, zeros, three[..., :2])
    return Proposals(points, valid, boxes, zeros, zeros.long())


def some_bev(batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 8, 3, 4, generator=generator, dtype=dtype)


def naive_waves(x: float) -> list[float]:
    periods = [MIN_PERIOD * (2 / MIN_PERIOD) ** (w / 1) for w in range(2)]
    return [math.sin(2 * math.pi * x / p) for p in periods] + [
        math.cos(2 * math.pi * x / p) for p in periods
    ]


def test_points_are_embedded_by_sines_and_cosines() -> None:
    points = some_proposals((2, 4)).reference_points.double()
    got = sine_embedding(points, 2)
    wanted = [[[w for x in p for w in naive_waves(x)] for p in row] for row in points.tolist()]
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64))
    along = torch.linspace(0, 1, 2001)[:, None].expand(-1, 3)
    embedding = sine_embedding(along, 8)
    distances = torch.cdist(embedding[:, :16], embedding[:, :16])
    near = (torch.arange(2001)[:, None] - torch.arange(2001)).abs() < 10
    assert float(distances[~near].min()) > 0.2  # no two distant points have similar embeddings


@pytest.mark.parametrize("counts", [(3,), (4, 2), (0, 1, 3)])
@pytest.mark.parametrize("groups", [1, 3])
def test_decoder_equals_its_formula_with_proposals(counts: tuple[int, ...], groups: int) -> None:
    """Compare group by group and sample by sample, without the empty rows."""
    decoder = randomise(hybrid_decoder(groups=groups).double()).train()
    proposals, bev = some_proposals(counts), some_bev(len(counts))
    output = decoder(bev, proposals)
    assert output.num_groups == groups
    queries = decoder.proposal_queries
    size = LEARNED + PROPOSALS
    for b in range(len(counts)):
        kept = proposals.valid[b]
        references = proposals.reference_points[b, kept].double()
        for g in range(groups):
            table = decoder.query_embedding[g * LEARNED : (g + 1) * LEARNED]
            learned = torch.sigmoid(decoder.reference_points(table[:, :8]))
            content = queries.content[g * PROPOSALS : (g + 1) * PROPOSALS][kept]
            pos = queries.position(sine_embedding(references.float(), 2).double())
            start = (
                torch.cat((table[:, 8:], content)),
                torch.cat((table[:, :8], pos)),
                torch.cat((learned, references)),
            )
            active = torch.cat((torch.ones(LEARNED, dtype=torch.bool), kept))
            assert torch.equal(output.active[b, g * size : (g + 1) * size], active)
            rows = g * size + active.nonzero().squeeze(-1)
            assert_is_the_formula(decoder, output, b, rows, bev[b], start)


def test_content_of_empty_rows_changes_nothing() -> None:
    decoder = randomise(hybrid_decoder().double())
    proposals, bev = some_proposals((2, 0, 3)), some_bev(3)
    wanted = decoder(bev, proposals)
    for filling in (0.9, -70.0, math.nan, math.inf):
        points = proposals.reference_points.clone()
        points[~proposals.valid] = filling
        got = decoder(bev, replace(proposals, reference_points=points))
        assert torch.equal(got.logits, wanted.logits) and torch.equal(got.codes, wanted.codes)
    # Nor do the learned contents of empty rows change any active query.
    proposals, before = some_proposals((2,)), decoder(bev[:1], some_proposals((2,)))
    with torch.no_grad():
        decoder.proposal_queries.content[~proposals.valid[0]] += 9.0
    after = decoder(bev[:1], proposals)
    torch.testing.assert_close(after.logits[:, before.active], before.logits[:, before.active])
    torch.testing.assert_close(after.codes[:, before.active], before.codes[:, before.active])


def test_empty_rows_detect_nothing() -> None:
    decoder = randomise(hybrid_decoder())
    output = decoder(some_bev(2, torch.float32), some_proposals((1, 3)))
    assert output.active.sum(1).tolist() == [LEARNED + 1, LEARNED + 3]
    assert (output.logits[:, ~output.active] == INACTIVE_LOGIT).all()
    assert output.codes.isfinite().all()
    detections = detections_from(output, max_detections=99, post_range_m=(99.0, 99.0, 99.0))
    assert [len(d) for d in detections] == [3 * (LEARNED + 1), 3 * (LEARNED + 3)]
    half = output.logits.to(torch.float16)
    assert half.isfinite().all() and not half[:, ~output.active].sigmoid().any()


def test_samples_of_a_batch_equal_separate_runs() -> None:
    decoder = randomise(hybrid_decoder(groups=2)).train()
    proposals, bev = some_proposals((4, 0, 2)), some_bev(3, torch.float32)
    together = decoder(bev, proposals)
    for b in range(3):
        boxes, one = proposals.boxes, slice(b, b + 1)
        alone = Proposals(
            proposals.reference_points[one],
            proposals.valid[one],
            boxes[one],
            proposals.scores[one],
            proposals.labels[one],
        )
        output = decoder(bev[one], alone)
        torch.testing.assert_close(together.logits[:, one], output.logits)
        torch.testing.assert_close(together.codes[:, one], output.codes, rtol=1e-5, atol=1e-5)


def test_evaluation_uses_the_first_group_with_the_same_proposals() -> None:
    decoder = randomise(hybrid_decoder(groups=3)).train()
    proposals, bev = some_proposals((3, 1)), some_bev(2, torch.float32)
    training = decoder(bev, proposals)
    evaluated = decoder.eval()(bev, proposals)
    assert evaluated.num_groups == 1 and evaluated.logits.shape[2] == LEARNED + PROPOSALS
    torch.testing.assert_close(evaluated.logits, training.logits[:, :, : LEARNED + PROPOSALS])
    assert torch.equal(training.active, evaluated.active.repeat(1, 3))


def test_gradients_stop_at_the_points_of_proposals() -> None:
    decoder = randomise(hybrid_decoder(groups=2)).train()
    proposals = some_proposals((3, 1))
    points = proposals.reference_points.requires_grad_()
    bev = some_bev(2, torch.float32)
    output = decoder(bev, proposals)
    Criterion(LossConfig())(output, [make_annotations(3, 3)] * 2, GRID).total.backward()
    assert points.grad is None
    for parameter in decoder.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    grad = decoder.proposal_queries.content.grad.view(2, PROPOSALS, 8)
    used = proposals.valid.any(0)
    assert grad[:, used].any(-1).all() and not grad[:, ~used].any()
    assert decoder.proposal_queries.position[0].weight.grad.any()


def test_without_any_proposal_all_parameters_stay_in_the_graph() -> None:
    decoder = randomise(hybrid_decoder()).train()
    output = decoder(some_bev(2, torch.float32), some_proposals((0, 0)))
    Criterion(LossConfig())(output, [make_annotations(3, 3)] * 2, GRID).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("batch", [1, 2])
def test_predictions_start_at_the_true_boxes_that_are_proposed(batch: int) -> None:
    """The decoder is untrained, without learned queries, on a grid of half-metre cells."""
    grid = BEVGrid(shape=(200, 200))
    decoder = hybrid_decoder(layers=6, grid=grid).train()
    decoder.num_queries = 0  # no learned queries
    centers = [
        make_annotations(PROPOSALS, 3, seed=b, spread_m=100.0).boxes.center for b in range(batch)
    ]
    points = grid.to_normalised(torch.stack(centers))
    valid = torch.ones(batch, PROPOSALS, dtype=torch.bool)
    valid[0, 2] = False
    proposals = replace(some_proposals((PROPOSALS,) * batch), reference_points=points, valid=valid)
    generator = torch.Generator().manual_seed(batch)
    bev = torch.randn(batch, 8, 200, 200, generator=generator)
    output = decoder(bev, proposals)
    assert output.codes.shape[:3] == (6, batch, PROPOSALS)
    wanted = torch.stack(centers)
    errors_m = (output.codes[..., (0, 1, 4)] - wanted).abs()[:, valid]
    cell_m = 102.4 / 200
    assert float(errors_m.max()) < cell_m
    assert float(errors_m.max()) < 1e-3  # rounding alone


def test_sample_without_active_queries_has_finite_outputs() -> None:
    decoder = randomise(hybrid_decoder())
    decoder.num_queries = 0
    output = decoder(some_bev(2, torch.float32), some_proposals((0, 2)))
    assert output.codes.isfinite().all() and not output.active[0].any()


def test_decoder_without_proposals_has_no_parameters_for_them() -> None:
    config = DecoderConfig(num_layers=1, num_heads=2, feedforward_channels=9, num_queries=5)
    plain = Decoder(GRID, config, channels=8, num_classes=3)
    assert not any("proposal" in name for name in plain.state_dict())
    output = plain(some_bev(2, torch.float32))
    assert output.active is None
    text = r"proposals must be None for a decoder without proposals; got \(2, 4\)"
    with pytest.raises(ValueError, match=text):
        plain(some_bev(2, torch.float32), some_proposals((1, 2)))


def test_proposals_that_do_not_fit_are_refused() -> None:
    decoder, bev = hybrid_decoder(), some_bev(2, torch.float32)
    text = r"proposals must hold 4 rows for each of 2 samples; got "
    for wrong, given in (
        (None, "None"),
        (some_proposals((1,)), r"\(1, 4\)"),
        (some_proposals((1, 2), rows=6), r"\(2, 6\)"),
    ):
        with pytest.raises(ValueError, match=text + given):
            decoder(bev, wrong)


def test_reference_points_stay_exact_under_autocast() -> None:
    decoder, proposals = hybrid_decoder(layers=1), some_proposals((4, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = decoder(some_bev(2, torch.float32), proposals)
    got = GRID.to_normalised(output.codes[0, :, LEARNED:, (0, 1, 4)])[proposals.valid]
    torch.testing.assert_close(got, proposals.reference_points[proposals.valid], rtol=0, atol=1e-5)


def test_masked_layer_compiles_whole_and_once_for_every_pattern() -> None:
    decoder = randomise(hybrid_decoder())
    layer = torch.compile(decoder.layers[0], fullgraph=True, backend="aot_eager")
    query, pos = torch.randn(2, 2, 9, 8).unbind(0)
    references, tokens = torch.rand(2, 9, 2), torch.randn(2, 12, 8)
    torch._dynamo.reset()
    for seed in range(3):
        key_mask = torch.rand(2, 9, generator=torch.Generator().manual_seed(seed)) < 0.6
        inputs = (query, pos, references, tokens, (3, 4), 1, key_mask)
        with (
            torch.no_grad(),
            torch.compiler.set_stance("default" if seed == 0 else "fail_on_recompile"),
        ):
            torch.testing.assert_close(layer(*inputs), decoder.layers[0](*inputs))


def proposed_boxes(counts: tuple[int, ...]) -> Proposals:
    """Return proposals with boxes at their points, of all classes and scores; empty ones NaN."""
    proposals = some_proposals(counts)
    generator = torch.Generator().manual_seed(3)
    shape = proposals.valid.shape
    boxes = Boxes3D(
        GRID.to_metres(proposals.reference_points),
        torch.rand(*shape, 3, generator=generator) + 0.5,
        torch.rand(shape, generator=generator) * 6 - 3,
        torch.randn(*shape, 2, generator=generator),
    )
    boxes = Boxes3D(
        *(part.clone() for part in (boxes.center, boxes.size, boxes.yaw, boxes.velocity))
    )
    boxes.size[~proposals.valid] = torch.nan
    scores = torch.rand(shape, generator=generator)
    labels = torch.randint(0, 3, shape, generator=generator)
    return replace(proposals, boxes=boxes, scores=scores, labels=labels)


@pytest.mark.parametrize("groups", [1, 2])
def test_queries_that_start_from_boxes_predict_the_boxes_until_trained(groups: int) -> None:
    decoder = hybrid_decoder(groups=groups, boxes=True)
    proposals = proposed_boxes((3, 0, 4))
    output = decoder(some_bev(3, torch.float32), proposals)
    logits, codes = (
        part.unflatten(2, (groups, LEARNED + PROPOSALS))[..., LEARNED:, :]
        for part in (output.logits, output.codes)
    )
    center, velocity = proposals.boxes.center, proposals.boxes.velocity
    sine = torch.stack((proposals.boxes.yaw.sin(), proposals.boxes.yaw.cos()), -1)
    length, width, height = proposals.boxes.size.log().unbind(-1)
    wanted = torch.cat((center[..., :2], length[..., None], width[..., None], center[..., 2:]), -1)
    wanted = torch.cat((wanted, height[..., None], sine, velocity), -1)
    wanted_scores = torch.full((*proposals.scores.shape, 3), 0.01)
    wanted_scores.scatter_(2, proposals.labels[..., None], proposals.scores[..., None])
    for layer in range(3):
        for group in range(groups):
            for b, valid in enumerate(proposals.valid):
                got = codes[layer, b, group][valid], logits[layer, b, group][valid].sigmoid()
                torch.testing.assert_close(got[0], wanted[b][valid], rtol=1e-5, atol=1e-4)
                torch.testing.assert_close(got[1], wanted_scores[b][valid], rtol=1e-4, atol=1e-5)
    assert codes.isfinite().all()
    assert logits.isfinite().all()


def test_contents_of_queries_depend_on_boxes_and_no_gradient_leads_back() -> None:
    decoder = hybrid_decoder(boxes=True)
    proposals = proposed_boxes((4,))
    randomise(decoder, seed=2)
    bev = some_bev(1, torch.float32)
    before = decoder(bev, proposals).codes[-1, 0, LEARNED:]
    turned = replace(proposals, labels=(proposals.labels + 1) % 3)
    after = decoder(bev, turned).codes[-1, 0, LEARNED:]
    assert ((before - after).abs().amax(-1) > 1e-6).all()  # labels change the predictions
    scores = proposals.scores.clone().requires_grad_()
    decoder(bev, replace(proposals, scores=scores)).codes.sum().backward()
    assert scores.grad is None
    assert decoder.proposal_queries is not None
    assert decoder.proposal_queries.box is not None
    assert decoder.proposal_queries.box[0].weight.grad.any()
