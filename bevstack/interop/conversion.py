"""Conversion of published files to our weights: detectors, and backbones to start training from.

Nothing is guessed. The box convention and the number of query groups are taken from the file's
metadata and shapes and reported in a note. A contradiction to the configuration is an error.
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
from bevstack.models.skeleton import skeleton

BOX_CONVENTIONS = ("legacy", "modern")
DETECTOR = "pts_bbox_head."  # prefix of the names of a published BEV head
# Parts of a classifier that no detector uses.
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
    """Detector with published weights, and the report of their conversion."""

    model: BEVFormerV2
    config: Config  # of the model: as given, except for query groups that the file lacks
    report: Report
    notes: tuple[str, ...]  # conventions that the file does not state, and the choice made


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """Prefixes of names that may stay without a counterpart."""

    missing: Sequence[str] = ()  # ours: they keep their fresh initialisation
    left_over: Sequence[str] = ()  # published: they are not used


def bevformer_from_public(
    published: Mapping[str, Tensor],  # names and tensors of a BEVFormer v2 state dict
    config: Config,
    *,
    boxes: str = "legacy",
) -> dict[str, Tensor]:
    """Convert a published detector's tensors to a state dict of ``build_model(config)``.

    Args:
        published: tensors by name; every name must be known.
        config: configuration of the same sizes; if the file holds more query groups, the first are
            used.
        boxes: convention of the box branches: "legacy" (mmdetection3d before 1.0, as released) or
            "modern" (length before width, yaw counter-clockwise, like ours).

    Raises:
        ValueError: a name has no counterpart on either side, or a tensor has another shape.
    """
    state, _ = _convert_detector(published, config, boxes, Allowed())
    return state


def convert_detector(
    file: PublishedFile,
    config: Config,
    *,
    boxes: str | None = None,  # None: as the file states, else as released
    allowed: Allowed | None = None,
) -> Converted:
    """Convert a published BEVFormer v2 detector to our detector.

    Raises:
        ValueError: the file does not hold such a detector, its boxes are modern and ``boxes`` is
            not given, a name without a counterpart is not allowed, or a tensor has another shape.
    """
    if not any(name.startswith(DETECTOR) for name in file.tensors):
        raise ValueError(
            f"{file.name} must hold a BEVFormer v2 detector; got no name that starts with "
            f"{DETECTOR!r}: if it holds a backbone, add --backbone"
        )
    convention, notes = choose_box_convention(file.meta, boxes)
    config, query_notes = match_query_groups(file.tensors, config)
    state, report = _convert_detector(file.tensors, config, convention, allowed or Allowed())
    return Converted(model_with(state, config), config, report, (*notes, *query_notes))


def convert_backbone(
    file: PublishedFile,
    config: Config,
    *,
    allowed: Allowed | None = None,
) -> Converted:
    """Build a detector with a published backbone; its other parts are initialised as for training.

    Accepts InternImage's classification weights, released or from Hugging Face, and the backbones
    of detectors and segmenters: InternImage or a caffe-style ResNet. Random parts are drawn from
    ``config.training.seed``.

    Raises:
        ValueError: the file holds no such backbone, several of them or one of another size, or a
            name within the backbone without a counterpart is not allowed.
    """
    allowed = allowed or Allowed()
    state, report, notes = backbone_from_public(file, config, allowed)
    return Converted(model_with(state, config), config, report, notes)


def backbone_from_public(
    file: PublishedFile, config: Config, allowed: Allowed
) -> tuple[dict[str, Tensor], Report, tuple[str, ...]]:
    """Return the backbone's tensors under our names, the report and notes.

    Raises:
        ValueError: see ``convert_backbone``.
    """
    with skeleton():
        expected = build_model(config).state_dict()
    expected = {name: value for name, value in expected.items() if name.startswith("backbone.")}
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if isinstance(config.backbone, ResNetConfig):
        prefix = _backbone_prefix(file, "layer1.0.conv1.weight")
        _check_caffe(file, prefix)
        own_prefix = "img_backbone."
        rows = [
            row._replace(published=prefix + row.published[len(own_prefix) :]) for row in BACKBONE
        ]
    else:
        prefix = _backbone_prefix(file, "patch_embed.conv1.weight")
        rows = [Rename(prefix + theirs, ours) for theirs, ours in RENAMES]
        missing, notes = _optional_layer_scales(file, prefix, config.backbone)
    state, report = convert_weights(
        file.tensors,
        expected,
        rows,
        allow_missing=(*missing, *prefix_patterns(allowed.missing)),
        allow_left_over=(
            *_patterns_outside_backbone(file.tensors, prefix),
            *prefix_patterns(allowed.left_over),
        ),
    )
    return state, report, notes


def choose_box_convention(
    meta: Mapping[str, Any], named: str | None
) -> tuple[str, tuple[str, ...]]:
    """Choose the box convention of a file, as named or by its metadata; return it with a note.

    Raises:
        ValueError: ``named`` is not a convention, or it is None and the metadata are those of a
            modern mmdetection3d.
    """
    if named is not None:
        if named not in BOX_CONVENTIONS:
            raise ValueError(f"boxes must be one of {BOX_CONVENTIONS}; got {named!r}")
        return named, (f"boxes: {named}, as given",)
    version = str(meta.get("mmdet3d_version", ""))
    major = re.match(r"\d+", version)
    if "mmengine_version" in meta or (major and int(major[0]) >= 1):
        writer = f"mmdet3d {version}" if version else f"mmengine {meta['mmengine_version']}"
        raise ValueError(
            f"box convention must be named for weights of {writer}, whose boxes differ from those "
            "of the release; got no name: add --boxes modern (length before width, yaw "
            "counter-clockwise), or --boxes legacy if the training kept the old boxes"
        )
    origin = f"mmdet3d {version}" if version else "the release; the file names no version"
    return "legacy", (f"boxes: legacy, as in {origin}",)


def match_query_groups(
    published: Mapping[str, Tensor], config: Config
) -> tuple[Config, tuple[str, ...]]:
    """Reduce the configuration's query groups to those that the file holds; return it with a note.

    Released files may hold one group (900 rows) of the eleven that training used.
    """
    table = published.get(QUERIES)
    queries, groups = config.decoder.num_queries, config.decoder.num_groups
    if table is None or table.shape[0] % queries or table.shape[0] == groups * queries:
        return config, ()  # it fits, or is refused later by its shape
    held = table.shape[0] // queries
    if held > groups:
        return config, (f"queries: the first {groups} of the {held} groups that the file holds",)
    note = f"queries: the file holds {held} of {groups} groups, so decoder.num_groups is {held}"
    return replace(config, decoder=replace(config.decoder, num_groups=held)), (note,)


def _convert_detector(
    published: Mapping[str, Tensor], config: Config, boxes: str, allowed: Allowed
) -> tuple[dict[str, Tensor], Report]:
    with skeleton():
        expected = build_model(config).state_dict()
    return convert_weights(
        published,
        expected,
        bevformer_rows(boxes),
        allow_missing=prefix_patterns(allowed.missing),
        allow_left_over=(*NOT_WEIGHTS, *prefix_patterns(allowed.left_over)),
    )


def model_with(state: Mapping[str, Tensor], config: Config) -> BEVFormerV2:
    """Build a model, initialised as for training, and load these tensors into it."""
    torch.manual_seed(config.training.seed)
    model = build_model(config)
    model.load_state_dict(dict(state), strict=False)  # every name and shape has been checked
    return model.eval()


def prefix_patterns(prefixes: Iterable[str]) -> list[str]:
    """Return patterns of the names that start with one of the prefixes."""
    return [f"{prefix}*" for prefix in prefixes]


def _backbone_prefix(file: PublishedFile, marker: str) -> str:
    """Return the prefix of the names of the one backbone that a file holds."""
    matches = [name for name in file.tensors if name == marker or name.endswith(f".{marker}")]
    if len(matches) != 1:
        shown = ", ".join(matches) or "none"
        raise ValueError(
            f"{file.name} must hold one backbone of the configuration's kind, and so one name "
            f"that ends with {marker}; got {shown}"
        )
    prefix = matches[0][: -len(marker)]
    if without_wrappers(prefix):
        raise ValueError(
            f"names of the backbone of {file.name} must have no prefix, or one that ends with "
            f"backbone.; got {prefix!r}"
        )
    return prefix


def _check_caffe(file: PublishedFile, prefix: str) -> None:
    """Check that a ResNet is a detector's and, if the file states its style, of the caffe style.

    Raises:
        ValueError: the ResNet is a classifier's or of another style. Its weights would fit but
            compute another function, as its stride is on the 3x3 convolutions.
    """
    style = re.search(r"style\s*=\s*'(\w+)'", str(file.meta.get("config", "")))
    other_style = style is not None and style[1] != "caffe"
    if not prefix.endswith("backbone.") or other_style:
        got = f"style {style[1]!r}" if other_style and style else "a classifier's, without a style"
        raise ValueError(
            "a ResNet must be a detector's of the caffe style (stride on the first 1x1 "
            f"convolution, BGR images of 0..255); got {file.name}, {got}"
        )


def _optional_layer_scales(
    file: PublishedFile, prefix: str, backbone: InternImageConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return patterns of layer scales that may be missing, with a note.

    Layer scales that start at 1 may be missing if the file has none at all, like the ImageNet
    weights of InternImage-T. A scale of 1 does not change the output.
    """
    has = any(re.search(r"\.(gamma|layer_scale)[12]$", name) for name in file.tensors)
    if has or backbone.layer_scale != 1.0:
        return (), ()
    note = "layer scales: the file has none; they start at 1, which does not change the output"
    return ("backbone.levels.*.gamma1", "backbone.levels.*.gamma2"), (note,)


def _patterns_outside_backbone(names: Iterable[str], prefix: str) -> list[str]:
    """Return patterns of the names of a classifier's head, or of a detector's other parts."""
    if prefix.endswith("backbone."):
        return [name for name in names if not name.startswith(prefix)]
    return prefix_patterns(prefix + head for head in CLASSIFIER_HEADS)
