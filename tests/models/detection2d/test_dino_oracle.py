"""DINO against stored results of the released code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack.config.dino import DinoConfig, DinoDetectorConfig
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.costs.macs import count_parameters
from bevstack.interop.detection2d import recognise
from bevstack.interop.detection2d_names import DINO_ROWS, join_pieces
from bevstack.interop.public_weights import convert_weights
from bevstack.models.backbones.composite import CompositeInternImage
from bevstack.models.detection2d.build import build_picture_model
from bevstack.models.detection2d.dino.model import Dino, DinoOutput, relative_boxes
from bevstack.models.detection2d.dino.noise import Draws, hidden_queries, noised_queries
from bevstack.models.detection2d.dino.positions import find_levels
from bevstack.models.skeleton import skeleton
from bevstack.ops import ms_deform_attn
from bevstack.types.pictures2d import PictureBatch, PictureObjects
from tests import internimage_heads_oracle as oracle
from tests.models.backbones.internimage_oracle import config_of
from tests.models.detection2d.region_oracle import IGNORED, picture_size


@pytest.mark.parametrize("name", oracle.cases("op", name="deform_attn"))
def test_deformable_attention_equals_the_stored_one(name: str) -> None:
    stored = oracle.tensors(name)
    shapes = [(int(h), int(w)) for h, w in stored["shapes_hw"]]
    inputs = [stored[key].requires_grad_() for key in ("value", "locations_xy", "weights")]
    got = ms_deform_attn(inputs[0], shapes, inputs[1], inputs[2]).flatten(2)
    oracle.assert_close("out", got, stored["out"], 2e-5)
    got.backward(stored["grad_out"].view_as(got))
    keys = ("grad_value", "grad_loc", "grad_weights")
    for key, tensor in zip(keys, inputs, strict=True):
        assert tensor.grad is not None
        bound = 5e-5 * max(1.0, float(stored[key].abs().max()))
        oracle.assert_close(key, tensor.grad, stored[key], bound)


def dino_config(model: Mapping[str, Any], num_classes: int) -> DinoDetectorConfig:
    flags = {key: value for key, value in model["backbone"].items() if key not in IGNORED}
    head = model["bbox_head"]
    transformer, noise = head["transformer"], head["dn_cfg"]
    layer = transformer["encoder"]["transformerlayers"]
    return DinoDetectorConfig(
        name="stored",
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        backbone=config_of(flags),
        dino=DinoConfig(
            channels=model["neck"]["out_channels"],
            norm_groups=model["neck"]["norm_cfg"]["num_groups"],
            encoder_layers=transformer["encoder"]["num_layers"],
            decoder_layers=transformer["decoder"]["num_layers"],
            feedforward_channels=layer["feedforward_channels"],
            num_queries=head["num_query"],
            temperature=head["positional_encoding"]["temperature"],
            noised_queries=noise["group_cfg"]["num_dn_queries"],
            detections=model["test_cfg"]["max_per_img"],
        ),
    )


def load_published(model: Dino, state: Mapping[str, Tensor], **allowed: Any) -> None:
    """Load released weights into a model without values; no key may be left over."""
    converted, _ = convert_weights(join_pieces(state), model.state_dict(), DINO_ROWS, **allowed)
    model.load_state_dict(converted, strict=not allowed, assign=True)


def stored_dino(name: str) -> Dino:
    case = oracle.manifest()[name]
    with skeleton():
        model = Dino(dino_config(case["model_config"], case["num_classes"]))
    load_published(model, oracle.stored_state(name))
    return model.eval().requires_grad_()


def batch_of(
    case: Mapping[str, Any], stored: Mapping[str, Tensor], *, images: Tensor | None = None
) -> PictureBatch:
    """Return the batch of a case, with objects if no images are given."""
    metas = case["img_metas"]
    height, width = metas[0]["batch_input_shape"]
    objects = tuple(
        PictureObjects(boxes=stored[f"gt_boxes_{i}"], labels=stored[f"gt_labels_{i}"])
        for i in range(len(metas))
        if f"gt_boxes_{i}" in stored
    )
    training = images is None
    return PictureBatch(
        images=torch.zeros(len(metas), 3, height, width) if images is None else images,
        sizes=tuple(picture_size(meta) for meta in metas),
        names=tuple(map(str, range(len(metas)))),
        objects=objects if training else (),
        seeds=tuple(range(len(objects))) if training else (),
    )


def stored_draws(stored: Mapping[str, Tensor]) -> Draws:
    """Return the stored random numbers in their order."""
    numbers = iter(
        [
            stored[f"draw_{i}_{kind}"]
            for i, kind in enumerate(("rand", "randint", "randint", "rand"))
        ]
    )

    def take(shape: tuple[int, ...], end: int = 0) -> Tensor:
        found = next(numbers)
        assert tuple(found.shape) == shape
        return found

    return Draws(take, take)


def check_detections(model: Dino, output: DinoOutput, case: Any, stored: Any) -> None:
    for image, meta in enumerate(case["img_metas"]):
        found = model.select(output.logits[-1][image], output.boxes[-1][image], picture_size(meta))
        boxes = stored[f"det_boxes_{image}"]
        assert torch.equal(found.labels, stored[f"det_labels_{image}"])
        oracle.assert_close("scores", found.scores, boxes[:, 4], 1e-4)
        oracle.assert_close("boxes", found.boxes, boxes[:, :4], 1e-2)


@pytest.mark.parametrize("name", oracle.cases("dino", aspect="_detections"))
@torch.no_grad()
def test_predictions_equal_the_stored_ones_at_every_step(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_dino(name)
    maps = [stored[key] for key in ("c3", "c4", "c5")]
    images = torch.zeros(2, 3, *case["img_metas"][0]["batch_input_shape"])
    batch = batch_of(case, stored, images=images)
    levels = model.neck(maps)
    for index, level in enumerate(levels):
        oracle.assert_close(f"neck_{index}", level, stored[f"neck_{index}"], 1e-5)
    where = find_levels(levels, [size.resized for size in batch.sizes], images.shape[2:])
    padding = torch.cat([mask.flatten(1) for mask in where.padding], 1)
    memory = model.encode(levels, where, padding)
    # README beside the cases: 1e-4, boxes 1e-5
    oracle.assert_close("memory", memory.transpose(0, 1), stored["memory"], 1e-4)
    output = model(batch, maps)
    oracle.assert_close("topk_score", output.proposal_logits, stored["topk_score"], 1e-4)
    oracle.assert_close("topk_anchor", output.proposal_boxes, stored["topk_anchor"], 1e-5)
    oracle.assert_close("all_cls", output.logits, stored["all_cls"], 1e-4)
    oracle.assert_close("all_boxes", output.boxes, stored["all_boxes"], 1e-5)
    check_detections(model, output, case, stored)


@pytest.mark.parametrize("name", oracle.cases("dino", aspect="_from_image"))
@torch.no_grad()
def test_detections_of_an_image_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_dino(name)
    sizes = [meta["img_shape"] for meta in case["img_metas"]]
    images = oracle.normalised_images(oracle.arrays(name)["image_u8"], sizes)
    batch = batch_of(case, stored, images=images)
    output = model(batch)
    oracle.assert_close("all_cls", output.logits, stored["all_cls"], 3e-4)
    check_detections(model, output, case, stored)


@pytest.mark.parametrize("name", oracle.cases("dino", aspect="_noise"))
def test_noised_objects_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model, batch = stored_dino(name), batch_of(case, stored)
    noised = noised_queries(
        [own.labels for own in batch.objects],
        [relative_boxes(o.boxes, s) for o, s in zip(batch.objects, batch.sizes, strict=True)],
        most=24,
        label_noise=0.5,
        box_noise=1.0,
        num_classes=case["num_classes"],
        draws=stored_draws(stored),
    )
    assert noised.groups == case["dn_meta"]["num_dn_group"]
    assert noised.total == case["dn_meta"]["pad_size"]
    embedded = model.label_embedding(noised.labels.clamp(min=0)) * (noised.labels >= 0)[..., None]
    oracle.assert_close("labels", embedded, stored["dn_label_query"], 0)
    oracle.assert_close("boxes", noised.boxes, stored["dn_box_query"], 1e-5)
    hidden = hidden_queries(noised, 20, torch.device("cpu"))
    assert torch.equal(hidden, stored["dn_attn_mask"])


@pytest.mark.parametrize("name", oracle.cases("cb_backbone"))
@torch.no_grad()
def test_composite_backbone_equals_the_stored_one(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.arrays(name)
    flags = {k: v for k, v in case["config"].items() if k not in (*IGNORED, "out_indices")}
    with skeleton():
        model = CompositeInternImage(config_of(flags | {"out_indices": [1, 2, 3]}))
    state = oracle.stored_state(name)
    expected = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    converted, _ = convert_weights(state, expected, DINO_ROWS)
    model.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in converted.items()}, assign=True
    )
    outputs = model.eval().both(oracle.normalised_images(stored["image_u8"]))
    for branch, maps in enumerate(outputs):
        for key, got in zip(("c3", "c4", "c5"), maps, strict=True):
            oracle.assert_close(key, got, stored[f"branch{branch}_{key}"], 5e-5)


SIZES = {"DINO_T": "t_1x", "DINO_L": "l_1x", "DINO_H": "h", "DINO_G": "g", "DINO_CBH": "cb_h"}


def packaged(released: str) -> Dino:
    config = load_picture_detector(f"dino_internimage_{SIZES[released]}")
    with skeleton():
        model = build_picture_model(config)
    assert isinstance(model, Dino)
    return model


@pytest.mark.oracle(*(f"heads_keys_{name}" for name in SIZES))
@pytest.mark.parametrize("released", SIZES)
def test_names_of_the_heads_are_all_consumed(released: str) -> None:
    listed = oracle.key_list("head_keys_all")[released]
    model = packaged(released)
    with skeleton():
        state = {key: torch.empty(shape) for key, shape in listed["head_keys"].items()}
    load_published(model, state, allow_missing=["backbone.*"])
    own = [key for key in model.state_dict() if key.startswith("backbone.")]
    assert len(own) == listed["num_backbone_keys"]
    assert count_parameters(model) == listed["num_params"]


@pytest.mark.oracle("heads_all_keys_DINO_H")
def test_names_of_a_whole_file_are_all_consumed_and_recognised() -> None:
    listed = oracle.key_list("state_dict_keys_DINO_H")
    model = packaged("DINO_H")
    with skeleton():
        state = {key: torch.empty(shape) for key, shape in listed["keys"].items()}
    load_published(model, state)
    assert recognise(state).configs == ("dino_internimage_h",)


@pytest.mark.parametrize("name", oracle.cases("dino_full_rule_weights"))
@torch.no_grad()
def test_full_size_head_equals_the_stored_outputs(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    listed = dict(oracle.key_list("head_keys_all")["DINO_H"]["head_keys"])
    config = load_picture_detector("dino_internimage_h")
    assert isinstance(config, DinoDetectorConfig)
    few = case["override"]
    dino = replace(config.dino, num_queries=few["num_query"], detections=few["max_per_img"])
    listed["bbox_head.transformer.query_embed.weight"] = [few["num_query"], dino.channels]
    with skeleton():
        model = Dino(replace(config, dino=dino))
    load_published(model, oracle.ruled_state(case, listed.items()), allow_missing=["backbone.*"])
    model.eval()
    maps = oracle.ruled_inputs(case)
    for index, level in enumerate(model.neck(maps)):
        oracle.assert_close("neck", level[:, :16], stored[f"neck_{index}_first16ch"], 2e-4)
    images = torch.zeros(1, 3, *case["img_metas"][0]["batch_input_shape"])
    output = model(batch_of(case, stored, images=images), maps)
    # README beside the cases: 2e-4 on outputs up to about 30
    oracle.assert_close("anchors", output.proposal_boxes, stored["topk_anchor"], 2e-4)
    best = output.proposal_logits.amax(-1)
    oracle.assert_close("scores", best, stored["topk_score_max"], 2e-4)
    for layer, key in ((0, "first"), (-1, "last")):
        oracle.assert_close(key, output.logits[layer], stored[f"cls_{key}"], 2e-4)
        oracle.assert_close(key, output.boxes[layer], stored[f"boxes_{key}"], 2e-4)
    check_detections(model, output, case, stored)
