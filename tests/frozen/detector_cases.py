"""Frozen cases of the detector, from encoder to losses, checked against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, permutations

import torch
from torch import Tensor
from torch.func import functional_call

from bevstack.config import (
    BEVEncoderConfig,
    Config,
    DecoderConfig,
    FPNConfig,
    InternImageConfig,
    LossConfig,
)
from bevstack.losses import Criterion
from bevstack.losses.matcher import match
from bevstack.losses.targets import encode_targets
from bevstack.models.build import build_model
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.box_code import DecoderOutput, decode, detections_from, encode
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.types import Annotations
from tests.frozen import loops, scene
from tests.frozen.case import PARAMETER, Case, Tensors, agree, agree_all, draw, fill
from tests.frozen.differentiable import values_and_gradients, verify_gradients
from tests.frozen.module_cases import AGREEMENT, module_case

# The model passes the anchors of visible pairs and the cell centres in float32 on purpose.
FLOAT32_TOLERANCE = 1e-6
# A part of the names that seed the drawn decoder output. Another text would change the numbers.
OUTPUT_SEED = " ".join(("decoder", "said"))

CONFIG = Config(
    name="frozen",
    class_names=("car", "pedestrian", "truck"),
    grid=scene.GRID,
    backbone=InternImageConfig(
        channels=8, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0
    ),
    fpn=FPNConfig(in_stages=(1, 3), num_outputs=3, channels=12),
    encoder=BEVEncoderConfig(
        num_layers=2,
        num_heads=2,
        feedforward_channels=10,
        num_heights=3,
        cross_points=6,
        num_camera_embeddings=4,
    ),
    decoder=DecoderConfig(
        num_layers=2,
        num_heads=3,
        feedforward_channels=9,
        num_queries=7,
        max_detections=15,
        post_range_m=(9.0, 9.0, 2.5),
    ),
)


def encoder_case() -> Case:
    slots = scene.batch().camera_slots
    pairs = find_visible_pairs(scene.rig(), scene.GRID, num_heights=3, padded_size=scene.PADDED)

    def inputs() -> dict[str, Tensor]:
        return {
            "fine": draw("encoder.fine", 2, 3, 12, 4, 6),
            "coarse": draw("encoder.coarse", 2, 3, 12, 2, 3),
        }

    return module_case(
        "encoder",
        lambda: BEVEncoder(CONFIG.grid, CONFIG.encoder, channels=12, num_levels=2),
        inputs,
        lambda module, fine, coarse: {"bev": module((fine, coarse), pairs, slots)},
        lambda module, fine, coarse: {
            "bev": loops.encoder(module, (fine, coarse), scene.rig(), slots, scene.PADDED)
        },
        FLOAT32_TOLERANCE,
    )


def output_tensors(output: DecoderOutput) -> dict[str, Tensor]:
    return {"logits": output.logits, "codes": output.codes}


def decoder_case() -> Case:
    """Return the decoder's case: values and gradients.

    The check by differences needs a single layer, because references are detached between layers.
    """

    def build(layers: int) -> Decoder:
        config = replace(CONFIG.decoder, num_layers=layers)
        return Decoder(CONFIG.grid, config, channels=12, num_classes=3)

    def layered_case(layers: int) -> Case:
        return module_case(
            f"decoder_of_{layers}",
            partial(build, layers),
            lambda: {"bev": draw("decoder.bev", 2, 12, *scene.GRID.shape)},
            lambda module, bev: output_tensors(module(bev)),
            lambda module, bev: dict(
                zip(("logits", "codes"), loops.decoder(module, bev), strict=True)
            ),
            AGREEMENT,
            differences=layers == 1,
        )

    one, two = layered_case(1), layered_case(2)

    def verify(found: Tensors) -> None:
        two.verify(found)
        one.verify(one.compute())

    return Case(two.compute, verify)


def detector_case(layers: int) -> Case:
    """Return the case of the full model on two samples with different rigs, with all gradients.

    The check by differences uses one decoder layer: between layers references are detached.
    """
    config = replace(CONFIG, decoder=replace(CONFIG.decoder, num_layers=layers))

    def run(parameters: Tensors) -> Tensors:
        model = fill(build_model(config), "detector")
        named = {key.removeprefix(PARAMETER): value for key, value in parameters.items()}
        output = functional_call(model, named, (scene.batch(),))
        return {"bev": output.bev, **output_tensors(output.decoder)}

    def parameters() -> dict[str, Tensor]:
        named = fill(build_model(config), "detector").named_parameters()
        return {PARAMETER + key: p.detach() for key, p in named}

    def verify(found: Tensors) -> None:
        with torch.no_grad():
            model = fill(build_model(config), "detector")
            agree_all(found, loops.detector(model, scene.batch()), FLOAT32_TOLERANCE)
            if layers == 1:
                verify_gradients(run, parameters(), found, parameters())
                return
        single = detector_case(1)
        single.verify(single.compute())

    return Case(lambda: values_and_gradients(run, parameters()), verify)


def decoder_output() -> DecoderOutput:  # float32
    """Return drawn logits and codes of two layers, seven queries and four classes."""
    logits = draw(f"{OUTPUT_SEED}.logits", 2, 2, 7, 4).float()
    return DecoderOutput(logits, draw(f"{OUTPUT_SEED}.codes", 2, 2, 7, 10).float())


def true_boxes() -> list[Annotations]:
    """Return two samples that include boxes without points, without velocity, or off the grid."""
    first, second = scene.annotations("first", 4, 4), scene.annotations("second", 3, 4)
    velocity, center = first.boxes.velocity.clone(), second.boxes.center.clone()
    velocity[1] = math.nan
    center[0, 0] = 13.5
    return [
        replace(first, boxes=replace(first.boxes, velocity=velocity)),
        replace(second, boxes=replace(second.boxes, center=center)),
    ]


def detections() -> Tensors:
    samples = detections_from(
        decoder_output(),
        max_detections=CONFIG.decoder.max_detections,
        post_range_m=(1.5, 1.5, 1.4),
    )
    tensors = {}
    for b, sample in enumerate(samples):
        tensors |= {f"{b}.scores": sample.scores, f"{b}.labels": sample.labels}
        tensors |= {f"{b}.{key}": value for key, value in vars(sample.boxes).items()}
    return tensors


def verify_detections(found: Tensors) -> None:
    output = decoder_output()
    for b in range(2):
        rows = []
        for q in range(7):
            for k in range(4):
                score = 1 / (1 + math.exp(-float(output.logits[-1, b, q, k])))
                rows.append((score, k, output.codes[-1, b, q].tolist()))
        rows = sorted(rows, key=lambda row: -row[0])
        gaps = [before[0] - after[0] for before, after in pairwise(rows)]
        assert min(gaps[:15]) > 1e-5, "two scores are too close for a reproducible order"
        kept = [
            row
            for row in rows[:15]
            if abs(row[2][0]) <= 1.5 and abs(row[2][1]) <= 1.5 and abs(row[2][4]) <= 1.4
        ]
        assert 0 < len(kept) < 15
        wanted = {
            "scores": [row[0] for row in kept],
            "labels": [row[1] for row in kept],
            "center": [(c[0], c[1], c[4]) for _, _, c in kept],
            "size": [[math.exp(c[i]) for i in (2, 3, 5)] for _, _, c in kept],
            "yaw": [math.atan2(c[6], c[7]) for _, _, c in kept],
            "velocity": [c[8:] for _, _, c in kept],
        }
        agree_all(found, {f"{b}.{k}": torch.tensor(v) for k, v in wanted.items()}, 1e-6)


def box_code() -> Tensors:
    """Return encoded and decoded boxes, in float64, with an unknown velocity."""
    boxes = true_boxes()[0].boxes.to(torch.float64)
    codes = encode(boxes)
    back = decode(codes)
    return {"codes": codes, **vars(back)}


def verify_box_code(found: Tensors) -> None:
    boxes = true_boxes()[0].boxes.to(torch.float64)
    turns = ((boxes.yaw + math.pi) // (2 * math.pi)) * 2 * math.pi
    agree_all(found, {**vars(boxes), "yaw": boxes.yaw - turns}, 1e-12)
    columns = zip(boxes.center.tolist(), boxes.size.tolist(), boxes.yaw, strict=True)
    for row, ((cx, cy, cz), (length, width, height), yaw) in enumerate(columns):
        code = [cx, cy, math.log(length), math.log(width), cz, math.log(height)]
        code += [math.sin(yaw), math.cos(yaw), *boxes.velocity[row].tolist()]
        agree(f"code {row}", found["codes"][row], torch.tensor(code, dtype=torch.float64), 1e-12)


def losses(official_parity: bool) -> Tensors:
    output = decoder_output()
    leaves = {key: t.requires_grad_() for key, t in output_tensors(output).items()}
    criterion = Criterion(LossConfig(), official_parity=official_parity)
    result = criterion(output, true_boxes(), scene.GRID)
    gradients = torch.autograd.grad(result.total, list(leaves.values()))
    targets = encode_targets(true_boxes(), scene.GRID, "cpu")
    matches = match(output, targets, LossConfig())
    return {
        "total": result.total.detach(),
        **result.terms,
        **{f"grad.{key}": g for key, g in zip(leaves, gradients, strict=True)},
        **{f"matches.{key}": value for key, value in vars(matches).items()},
    }


def trainable() -> list[list[tuple[int, list[float]]]]:
    """Return (class, code) of each sample's true boxes with a loss, in float64."""
    kept = []
    for true in true_boxes():
        codes = encode(true.boxes).tolist()
        rows = zip(codes, true.labels.tolist(), true.num_points, strict=True)
        kept.append([(k, c) for c, k, n in rows if n > 0 and abs(c[0] - 2) < 11])
    return kept


def looped_losses(
    logits: Tensor, codes: Tensor, official_parity: bool
) -> tuple[dict[str, float], list[tuple[int, ...]]]:
    """Return the terms, and (layer, sample, query, target) of the cheapest of all assignments."""
    terms: dict[str, float] = {}
    matches = []
    truth = trainable()
    for layer in range(2):
        class_sum = box_sum = 0.0
        for b, true in enumerate(truth):
            sample_codes, sample_logits = codes[layer, b].tolist(), logits[layer, b].tolist()
            queries = cheapest(sample_logits, sample_codes, true)
            matches += sorted((layer, b, q, target) for target, q in enumerate(queries))
            for q, row in enumerate(sample_logits):
                label = true[queries.index(q)][0] if q in queries else -1
                class_sum += sum(loops.focal(logit, k == label) for k, logit in enumerate(row))
            for q, (_, code) in zip(queries, true, strict=True):
                box_sum += box_loss(sample_codes[q], code, official_parity)
        count = sum(len(true) for true in truth)
        terms |= {f"class_{layer}": 2 * class_sum / count, f"box_{layer}": 0.75 * box_sum / count}
    return terms, matches


def box_loss(code: Sequence[float], true: Sequence[float], official_parity: bool) -> float:
    """Return the loss of one matched row without unknown entries.

    With ``official_parity``, a row with an unknown entry has no loss.
    """
    if official_parity and not all(map(math.isfinite, true)):
        return 0.0
    weights = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
    rows = zip(weights, code, true, strict=True)
    return sum(w * loops.smooth_l1(abs(a - t)) for w, a, t in rows if math.isfinite(t))


def cheapest(
    logits: list[list[float]], codes: list[list[float]], true: list[tuple[int, list[float]]]
) -> tuple[int, ...]:
    """Return the query of each true box by exhaustive search; refuse nearly equal costs."""
    cost = [
        [
            2 * (loops.focal(logits[q][k], True) - loops.focal(logits[q][k], False))
            + 0.75 * sum(loops.smooth_l1(abs(codes[q][i] - code[i])) for i in range(8))
            for q in range(len(codes))
        ]
        for k, code in true
    ]
    assignments = list(permutations(range(len(codes)), len(true)))
    totals = [sum(cost[t][q] for t, q in enumerate(chosen)) for chosen in assignments]
    best, second = sorted(totals)[:2]
    assert second - best > 1e-4, "two assignments are too close for a reproducible choice"
    return assignments[totals.index(best)]


def verify_losses(official_parity: bool, found: Tensors) -> None:
    output = decoder_output()
    inputs = {key: t.double() for key, t in output_tensors(output).items()}
    terms, matches = looped_losses(*inputs.values(), official_parity)
    wanted = {key: torch.tensor(value) for key, value in terms.items()}
    agree_all(found, {**wanted, "total": torch.tensor(sum(terms.values()))}, 1e-6)
    names = ("layer", "sample", "query", "target")
    assert torch.stack([found[f"matches.{n}"] for n in names], 1).tolist() == list(
        map(list, matches)
    )
    for key in inputs:
        direction = draw(f"direction of {key}", *inputs[key].shape)
        ahead, behind = (
            sum(
                looped_losses(
                    *{**inputs, key: inputs[key] + step * direction}.values(), official_parity
                )[0].values()
            )
            for step in (1e-6, -1e-6)
        )
        slope = (found[f"grad.{key}"].double() * direction).sum()
        agree(f"gradient of {key}", slope, torch.tensor((ahead - behind) / 2e-6), 1e-5)


CASES = {
    "encoder": encoder_case(),
    "decoder": decoder_case(),
    "detector": detector_case(2),
    "box_code": Case(box_code, verify_box_code),
    "detections": Case(detections, verify_detections),
    "losses": Case(partial(losses, False), partial(verify_losses, False)),
    "losses_official_parity": Case(partial(losses, True), partial(verify_losses, True)),
}
