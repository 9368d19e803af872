"""Frozen cases of single modules, checked against naive loops and difference quotients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bevstack.config import InternImageConfig
from bevstack.models.backbones.fpn import FPN
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.classification.internimage_heads import (
    POOL_HEADS,
    AttentionPoolingHead,
    InternImageClassifier,
)
from bevstack.models.detection3d.decoder import QuerySelfAttention
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.models.layers.deformable_attention import DeformableAttention
from bevstack.models.layers.feedforward import FeedForward
from bevstack.models.layers.positional_encoding import LearnedPositionalEncoding
from bevstack.models.temporal.bev_resampling import resample_bev
from tests.frozen import loops, scene
from tests.frozen.case import PARAMETER, Case, Tensors, agree_all, draw, fill
from tests.frozen.differentiable import values_and_gradients, verify_gradients
from tests.models import naive
from tests.models.backbones import internimage_naive
from tests.models.bevformer_oracle import pack_pairs

AGREEMENT = 1e-10  # two float64 evaluations in different order, some layers deep

TINY = InternImageConfig(channels=8, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0)
INTERNIMAGE: Mapping[str, dict] = {
    "pre_norm": {},
    "post_norm_layer_scale": {"post_norm": True, "layer_scale": 0.5, "offset_scale": 2.0},
    "centre_feature_scale": {
        "post_norm": True,
        "center_feature_scale": True,
        "dw_kernel_size": 5,
        "level2_post_norm_block_ids": (1,),
    },
    "res_post_norm": {
        "res_post_norm": True,
        "center_feature_scale": True,
        "dw_kernel_size": 5,
        "level2_post_norm_block_ids": (0, 1),
    },
    "batch_norm_without_centre": {
        "norm_layer": "BN",
        "act_layer": "SiLU",
        "layer_scale": 1.0,
        "remove_center": True,
        "groups": (2, 2, 8, 4),
    },
}


def configured(name: str) -> InternImageConfig:
    return InternImageConfig(**{**vars(TINY), **INTERNIMAGE[name]})


def module_case(
    name: str,
    build: Callable[[], nn.Module],
    inputs: Callable[[], dict[str, Tensor]],
    call: Callable[..., Tensors],
    independent: Callable[..., Tensors],
    agreement: float = AGREEMENT,
    differences: bool = True,
) -> Case:
    """Return a case of a module: values and gradients to inputs and parameters, drawn by name.

    ``call`` and ``independent`` take the module and the named inputs. ``call`` gets a callable that
    runs the module with the case's parameters. Pass ``differences=False`` if the module detaches a
    tensor on purpose: its gradient is then not that of the values.
    """

    def run(leaves: Tensors) -> Tensors:
        module = fill(build(), name)
        parameters = {k: leaves[PARAMETER + k] for k, _ in module.named_parameters()}
        named_inputs = {k: leaves[k] for k in inputs()}
        return call(lambda *args: functional_call(module, parameters, args), **named_inputs)

    def leaves() -> dict[str, Tensor]:
        parameters = fill(build(), name).named_parameters()
        return {**inputs(), **{PARAMETER + k: p.detach() for k, p in parameters}}

    def compute() -> Tensors:
        return values_and_gradients(run, leaves())

    def verify(found: Tensors) -> None:
        with torch.no_grad():
            wanted = independent(fill(build(), name), **inputs())
            agree_all(found, wanted, agreement)
            assert {k for k in found if not k.startswith("grad.")} == set(wanted)
            if differences:
                verify_gradients(run, leaves(), found, leaves())

    return Case(compute, verify)


def tensor_out(module: Callable[..., Tensor], **inputs: Tensor) -> Tensors:
    return {"output": module(*inputs.values())}


def levels_out(module: Callable[..., tuple[Tensor, ...]], **inputs: Tensor) -> Tensors:
    return {f"level{i}": x for i, x in enumerate(module(*inputs.values()))}


def internimage_case(name: str) -> Case:
    config = configured(name)

    def independent(module: nn.Module, images: Tensor) -> Tensors:
        stages = internimage_naive.stages(images, dict(module.state_dict()), config)
        return {f"level{i}": x for i, x in enumerate(stages)}

    return module_case(
        f"internimage.{name}",
        partial(InternImage, config),
        lambda: {"images": draw(f"{name}.images", 2, 3, 22, 13)},
        levels_out,
        independent,
    )


def classifier_case() -> Case:
    config = configured("pre_norm")

    def independent(module: nn.Module, images: Tensor) -> Tensors:
        within, state = internimage_naive.within, dict(module.state_dict())
        last = internimage_naive.stages(images, within(state, "backbone."), config)[-1]
        head = within(state, "head.")
        x = internimage_naive.conv(last, within(head, "conv."))
        x = internimage_naive.batch_norm(x, within(head, "norm."))
        x = internimage_naive.activation(x, config).mean((2, 3), keepdim=True)
        return {"output": internimage_naive.linear(x, within(head, "fc."))[..., 0, 0]}

    return module_case(
        "conv_head",
        partial(InternImageClassifier, config, 7),
        lambda: {"images": draw("conv_head.images", 2, 3, 29, 18)},
        tensor_out,
        independent,
    )


def attention_pooling_case() -> Case:
    """Return the case of the head without its backbone, which another case covers."""
    config = InternImageConfig(**{**vars(TINY), "classification_head": "attention_pooling"})

    def independent(module: nn.Module, fine: Tensor, coarse: Tensor) -> Tensors:
        state = dict(module.state_dict())
        pooled = internimage_naive.attention_pooling(fine, coarse, state, POOL_HEADS)
        return {"output": pooled}

    return module_case(
        "attention_pooling_head",
        partial(AttentionPoolingHead, config, 5),
        lambda: {"fine": draw("fine", 2, 32, 2, 4), "coarse": draw("coarse", 2, 64, 1, 2)},
        lambda module, fine, coarse: {"output": module((fine, coarse))},
        independent,
    )


def fpn_case() -> Case:
    def independent(module: FPN, fine: Tensor, coarse: Tensor) -> Tensors:
        levels = loops.pyramid((fine, coarse), module.lateral_convs, module.output_convs)
        return {f"level{i}": x for i, x in enumerate(levels)}

    return module_case(
        "fpn",
        lambda: FPN((3, 5), num_outputs=4, channels=6),
        lambda: {"fine": draw("fpn.fine", 2, 3, 7, 11), "coarse": draw("fpn.coarse", 2, 5, 4, 5)},
        lambda module, fine, coarse: levels_out(lambda *maps: module(maps), a=fine, b=coarse),
        independent,
    )


def positional_encoding_case() -> Case:
    def independent(module: LearnedPositionalEncoding) -> Tensors:
        cells = [(row, column) for row in range(3) for column in range(5)]
        rows, columns = module.row_embed, module.col_embed
        return {"output": torch.stack([torch.cat((columns[c], rows[r])) for r, c in cells])}

    build = partial(LearnedPositionalEncoding, 6, (3, 5))
    return module_case("positional_encoding", build, dict, tensor_out, independent)


def temporal_self_attention_case() -> Case:
    def inputs() -> dict[str, Tensor]:
        return {"query": draw("tsa.query", 2, 12, 8), "pos": draw("tsa.pos", 12, 8)}

    centers = scene.BEVGrid(shape=(3, 4)).cell_centers(torch.float64)
    return module_case(
        "temporal_self_attention",
        lambda: TemporalSelfAttention(8, num_heads=2, self_points=3, self_queues=2),
        inputs,
        lambda module, query, pos: {"output": module(query, pos, centers, (3, 4))},
        lambda module, query, pos: {
            "output": naive.temporal_self_attention(module, query, pos, centers, (3, 4))
        },
    )


def spatial_cross_attention_case() -> Case:
    shapes = [(3, 5), (2, 2)]
    anchors = 0.5 + 0.3 * draw("sca.anchors", 2, 3, 7, 3, 2)
    visible = draw("sca.visible", 2, 3, 7, 3) > 1.2
    pairs = pack_pairs(anchors, visible)

    def inputs() -> dict[str, Tensor]:
        return {"query": draw("sca.query", 2, 7, 8), "value": draw("sca.value", 2, 3, 19, 8)}

    def call(module: Callable[..., Tensor], query: Tensor, value: Tensor) -> Tensors:
        return {"output": module(query, value.flatten(0, 1), shapes, pairs)}

    def independent(module: SpatialCrossAttention, query: Tensor, value: Tensor) -> Tensors:
        assert {0, 1, 2} <= set(pairs.num_cameras.flatten().tolist())
        looped = naive.spatial_cross_attention(module, query, value, shapes, anchors, visible)
        return {"output": looped}

    def build() -> SpatialCrossAttention:
        return SpatialCrossAttention(8, num_levels=2, num_heads=2, num_heights=3, cross_points=6)

    return module_case("spatial_cross_attention", build, inputs, call, independent)


def deformable_attention_case() -> Case:
    def inputs() -> dict[str, Tensor]:
        return {
            "query": draw("deformable.query", 2, 5, 6),
            "value": draw("deformable.value", 2, 12, 6),
            "references": 0.5 + 0.25 * draw("deformable.references", 2, 5, 2),
        }

    return module_case(
        "deformable_attention",
        lambda: DeformableAttention(6, num_heads=2, num_points=3),
        inputs,
        lambda module, **tensors: {"output": module(*tensors.values(), (3, 4))},
        lambda module, **tensors: {
            "output": naive.deformable_attention(module, *tensors.values(), (3, 4))
        },
    )


def query_self_attention_case() -> Case:
    return module_case(
        "query_self_attention",
        lambda: QuerySelfAttention(12, num_heads=3, dropout=0.5),
        lambda: {"query": draw("self.query", 2, 5, 12), "pos": draw("self.pos", 5, 12)},
        tensor_out,
        lambda module, query, pos: {"output": loops.self_attention(module, query, pos)},
    )


def feedforward_case() -> Case:
    return module_case(
        "feedforward",
        lambda: FeedForward(6, 9, dropout=0.5),
        lambda: {"x": draw("feedforward.x", 2, 4, 6)},
        tensor_out,
        lambda module, x: {"output": loops.feedforward(x, module)},
    )


def bev_augmentation_case() -> Case:
    matrices = scene.batch().bev_augmentation

    def run(leaves: Tensors) -> Tensors:
        return {"output": resample_bev(leaves["bev"], matrices, scene.GRID)}

    inputs = {"bev": draw("augmentation.bev", 2, 3, *scene.GRID.shape)}

    def verify(found: Tensors) -> None:
        looped = loops.resampled(inputs["bev"], matrices, scene.GRID)
        agree_all(found, {"output": looped}, AGREEMENT)
        verify_gradients(run, inputs, found, inputs)

    return Case(partial(values_and_gradients, run, inputs), verify)


def sampled_points() -> Tensors:
    pairs = find_visible_pairs(scene.rig(), scene.GRID, num_heights=3, padded_size=scene.PADDED)
    # A pair also keeps its invisible anchors. One just behind the camera is up to 1e7 images away
    # and would dominate the relative tolerance.
    near = torch.where(pairs.anchors.abs() < 4, pairs.anchors, torch.zeros(()))
    return {
        "camera": pairs.camera,
        "query": pairs.query,
        "anchors": near,
        "num_cameras": pairs.num_cameras,
    }


def verify_sampled_points(found: Tensors) -> None:
    uv, visible = loops.visible_anchors(scene.rig(), scene.GRID, 3, scene.PADDED)
    wanted = pack_pairs(uv, visible)
    near = torch.where(wanted.anchors.abs() < 4, wanted.anchors, torch.zeros(()).double())
    for key in ("camera", "query", "num_cameras"):
        assert torch.equal(found[key], getattr(wanted, key)), key
    assert {0, 1, 2} <= set(wanted.num_cameras.flatten().tolist())
    agree_all(found, {"anchors": near}, 1e-7)  # float32 against float64


CASES = {
    **{f"internimage.{name}": internimage_case(name) for name in INTERNIMAGE},
    "conv_head": classifier_case(),
    "attention_pooling_head": attention_pooling_case(),
    "fpn": fpn_case(),
    "positional_encoding": positional_encoding_case(),
    "temporal_self_attention": temporal_self_attention_case(),
    "spatial_cross_attention": spatial_cross_attention_case(),
    "deformable_attention": deformable_attention_case(),
    "query_self_attention": query_self_attention_case(),
    "feedforward": feedforward_case(),
    "bev_augmentation": bev_augmentation_case(),
    "point_sampling": Case(sampled_points, verify_sampled_points, whole=True),
}
