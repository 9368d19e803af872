"""Whole published files to weights of ours: detectors, and backbones for a detector to start from.

Nothing is guessed. What a file leaves open (box convention, groups of queries) is recognised by
what it says or holds, told in a note, and refused where it contradicts what is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bevstack.config import Config, InternImageConfig, ResNetConfig
from bevstack.interop.bevformer_names import (
    BACKBONE,
    NOT_WEIGHTS,
    QUERIES,
    bevformer_rows,
)
from bevstack.interop.internimage_names import RENAMES, without_wrappers
from bevstack.interop.public_weights import Rename, Report, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model

BOX_CONVENTIONS = ("legacy", "modern")
DETECTOR = "pts_bbox_head."  # what every name of a published BEV head begins with
# The rest of a classifier, which no detector takes.
CLASSIFIER_HEADS = (
    "conv_head.",
    "head.",
    "dcnv3_head_x3.",
    "dcnv3_head_x4.",
    "clip_projector.",
    "fc_norm.",
)


@dataclass(frozen=True)
class Converted:
    """A detector with published weights in it, and how they got there."""

    model: BEVFormerV2
    config: Config  # the model's: as given, but for groups of queries that the file lacks
    report: Report
    notes: tuple[str, ...]  # what the file left open, and how it was settled


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """Beginnings of names that may stay without a counterpart."""

    missing: Sequence[str] = ()  # ours: they keep their fresh initialisation
    left_over: Sequence[str] = ()  # published: they are not used


def bevformer_from_public(
    published: Mapping[str, Tensor],  # names and tensors of a BEVFormer v2 state dict
    config: Config,
    *,
    boxes: str = "legacy",
) -> dict[str, Tensor]:
    """What ``build_model(config).load_state_dict`` takes, from a published detector's tensors.

    Args:
        published: every name must be known.
        config: of the same sizes; a file with more groups of queries gives its first ones.
        boxes: convention of the box branches: "legacy" (mmdetection3d before 1.0, what the release
            speaks) or "modern" (length before width, yaw counter-clockwise, as ours).

    Raises:
        ValueError: a name without a counterpart on either side, or another shape.
    """
    state, _ = _convert_detector(published, config, boxes, Allowed())
    return state


def convert_detector(
    file: PublishedFile,
    config: Config,
    *,
    boxes: str | None = None,  # None: what the file says; the release's where it says nothing
    allowed: Allowed | None = None,
) -> Converted:
    """A published BEVFormer v2 detector as one of ours.

    Raises:
        ValueError: a box convention that is not the release's and was not named, a name without a
            counterpart that was not allowed, another shape, or another kind of file.
    """
    if not any(name.startswith(DETECTOR) for name in file.tensors):
        raise ValueError(
            f"{file.name} must hold a BEVFormer v2 detector; got no name that begins with "
            f"{DETECTOR!r}: if it holds a backbone, add --backbone"
        )
    convention, notes = settle_boxes(file.meta, boxes)
    config, more = with_groups_of(file.tensors, config)
    state, report = _convert_detector(file.tensors, config, convention, allowed or Allowed())
    return Converted(_fresh_with(state, config), config, report, (*notes, *more))


def convert_backbone(
    file: PublishedFile,
    config: Config,
    *,
    allowed: Allowed | None = None,
) -> Converted:
    """A detector whose backbone is a published one; the rest starts as training would start it.

    Takes InternImage's classification weights, released or Hugging Face's, and the backbones of
    detectors and segmenters, InternImage's or a caffe-style ResNet's. Random parts are drawn from
    ``config.training.seed``.

    Raises:
        ValueError: no such backbone, several of them, one of another size, or a name within the
            backbone without a counterpart that was not allowed.
    """
    allowed = allowed or Allowed()
    state, report, notes = backbone_from_public(file, config, allowed)
    return Converted(_fresh_with(state, config), config, report, notes)


def backbone_from_public(
    file: PublishedFile, config: Config, allowed: Allowed
) -> tuple[dict[str, Tensor], Report, tuple[str, ...]]:
    """The backbone's tensors under our names, the report, and notes; see ``convert_backbone``."""
    with torch.device("meta"):
        wanted = build_model(config).state_dict()
    wanted = {name: value for name, value in wanted.items() if name.startswith("backbone.")}
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if isinstance(config.backbone, ResNetConfig):
        prefix = _backbone_prefix(file, "layer1.0.conv1.weight")
        _check_caffe(file, prefix)
        inner = "img_backbone."
        rows = [row._replace(published=prefix + row.published[len(inner) :]) for row in BACKBONE]
    else:
        prefix = _backbone_prefix(file, "patch_embed.conv1.weight")
        rows = [Rename(prefix + theirs, ours) for theirs, ours in RENAMES]
        missing, notes = _scales_without_weights(file, prefix, config.backbone)
    state, report = convert_weights(
        file.tensors,
        wanted,
        rows,
        allow_missing=(*missing, *_beginning_with(allowed.missing)),
        allow_left_over=(
            *_not_of_the_backbone(file.tensors, prefix),
            *_beginning_with(allowed.left_over),
        ),
    )
    return state, report, notes


def settle_boxes(meta: Mapping[str, Any], named: str | None) -> tuple[str, tuple[str, ...]]:
    """The box convention of a file: as named, or what its meta data say, and a note.

    Raises:
        ValueError: an unknown name, or meta data of a modern mmdetection3d with nothing named.
    """
    if named is not None:
        if named not in BOX_CONVENTIONS:
            raise ValueError(f"boxes must be one of {BOX_CONVENTIONS}; got {named!r}")
        return named, (f"boxes: {named}, as named",)
    version = str(meta.get("mmdet3d_version", ""))
    major = re.match(r"\d+", version)
    if "mmengine_version" in meta or (major and int(major[0]) >= 1):
        writer = f"mmdet3d {version}" if version else f"mmengine {meta['mmengine_version']}"
        raise ValueError(
            f"box convention must be named for weights that {writer} wrote, whose boxes are not "
            "those of the release; got no name: add --boxes modern (length before width, yaw "
            "counter-clockwise), or --boxes legacy where the training kept the old boxes"
        )
    said = f"mmdet3d {version}" if version else "the release; the file names no version"
    return "legacy", (f"boxes: legacy, those of {said}",)


def with_groups_of(
    published: Mapping[str, Tensor], config: Config
) -> tuple[Config, tuple[str, ...]]:
    """The configuration with as many groups of queries as the file holds, at most its own, noted.

    Released files may hold one group (900 rows) of the eleven that training used.
    """
    table = published.get(QUERIES)
    queries, groups = config.decoder.num_queries, config.decoder.num_groups
    if table is None or table.shape[0] % queries or table.shape[0] == groups * queries:
        return config, ()  # fits, or is refused by its shape
    held = table.shape[0] // queries
    if held > groups:
        return config, (f"queries: the first {groups} of the {held} groups that the file holds",)
    note = f"queries: the file holds {held} of {groups} groups, so decoder.num_groups is {held}"
    return replace(config, decoder=replace(config.decoder, num_groups=held)), (note,)


def _convert_detector(
    published: Mapping[str, Tensor], config: Config, boxes: str, allowed: Allowed
) -> tuple[dict[str, Tensor], Report]:
    with torch.device("meta"):
        wanted = build_model(config).state_dict()
    return convert_weights(
        published,
        wanted,
        bevformer_rows(boxes),
        allow_missing=_beginning_with(allowed.missing),
        allow_left_over=(*NOT_WEIGHTS, *_beginning_with(allowed.left_over)),
    )


def _fresh_with(state: Mapping[str, Tensor], config: Config) -> BEVFormerV2:
    """A model as training would start it, with these tensors in their places."""
    torch.manual_seed(config.training.seed)
    model = build_model(config)
    model.load_state_dict(dict(state), strict=False)  # every name and shape has been checked
    return model.eval()


def _beginning_with(prefixes: Iterable[str]) -> list[str]:
    return [f"{prefix}*" for prefix in prefixes]


def _backbone_prefix(file: PublishedFile, marker: str) -> str:
    """What stands before the names of the one backbone that a file holds."""
    found = [name for name in file.tensors if name == marker or name.endswith(f".{marker}")]
    if len(found) != 1:
        shown = ", ".join(found) or "none"
        raise ValueError(
            f"{file.name} must hold one backbone of the configuration's kind, and so one name "
            f"that ends with {marker}; got {shown}"
        )
    prefix = found[0][: -len(marker)]
    if without_wrappers(prefix):
        raise ValueError(
            f"backbone of {file.name} must stand at the top or below backbone.; got {prefix!r}"
        )
    return prefix


def _check_caffe(file: PublishedFile, prefix: str) -> None:
    """Only detectors' ResNets can be of the caffe style; where a file says its style, it must be.

    Raises:
        ValueError: a classifier's, or one of another style: it would fit, and compute another
            function, as its stride is on the 3x3 convolutions.
    """
    style = re.search(r"style\s*=\s*'(\w+)'", str(file.meta.get("config", "")))
    other = style is not None and style[1] != "caffe"
    if not prefix.endswith("backbone.") or other:
        got = f"style {style[1]!r}" if other and style else "a classifier's, which is of none"
        raise ValueError(
            "a ResNet must be a detector's of the caffe style (stride on the first 1x1 "
            f"convolution, BGR images of 0..255); got {file.name}, {got}"
        )


def _scales_without_weights(
    file: PublishedFile, prefix: str, backbone: InternImageConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layer scales that start at 1 may be missing where a file has none at all: T's ImageNet's.

    A scale of 1 leaves what the weights compute as it is.
    """
    has = any(re.search(r"\.(gamma|layer_scale)[12]$", name) for name in file.tensors)
    if has or backbone.layer_scale != 1.0:
        return (), ()
    note = "layer scales: the file has none; they start at 1, which changes nothing"
    return ("backbone.levels.*.gamma1", "backbone.levels.*.gamma2"), (note,)


def _not_of_the_backbone(names: Iterable[str], prefix: str) -> list[str]:
    """Names beside the backbone: a classifier's head, or the other parts of a detector."""
    if prefix.endswith("backbone."):
        return [name for name in names if not name.startswith(prefix)]
    return _beginning_with(prefix + head for head in CLASSIFIER_HEADS)
