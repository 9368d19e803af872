"""Upper limits of every size in a configuration, so that no file can ask for endless memory.

A configuration may come from a stranger's weights file. The limits are far above every published
detector and far below what exhausts a machine; raise one here if a detector of yours needs more.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from bevstack.config.checks import check

MAX_VALUES = 1_024  # of a list
MAX_STAGES = 8  # of a backbone; each has twice the channels of the one before
MAX_FRAMES = 64  # of a clip
_KINDS: Mapping[type, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a text",
        type(None): "None",
    }
)
_COUNT = 10**9  # of steps and intervals, which take no memory

# Largest value, or largest value of a list, of every field that holds whole numbers, and of the
# fractional numbers that multiply a size.
LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "": {"frames": 1_000},  # offsets, also -1000
        "images": {"size": 16_384, "pad_to": 4_096, "pixels_per_pass": 2**28},
        "grid": {"shape": 2_048},
        "backbone": {
            # InternImage. Largest published: 512 channels, 48 layers, 128 groups (G)
            "channels": 4_096,
            "depths": 256,
            "groups": 4_096,
            "mlp_ratio": 32,
            "norm_groups": 4_096,
            "dw_kernel_size": 63,
            "level2_post_norm_block_ids": 256,
            "class_scale": 32,
            "out_indices": 7,
            "frozen_stages": 8,
            # ResNet
            "depth": 152,
            "base_channels": 1_024,
        },
        "fpn": {"in_stages": 7, "num_outputs": 16, "channels": 8_192},
        "encoder": {
            "num_layers": 64,
            "num_levels": 16,
            "num_heads": 256,
            "feedforward_channels": 65_536,
            "num_heights": 64,
            "cross_points": 256,
            "self_points": 256,
            "self_queues": 16,
            "num_camera_embeddings": 1_024,
            "pair_step": 1 << 20,
        },
        "temporal": {"num_fusion": 64, "inter_channels": 8_192, "norm_groups": 4_096},
        "decoder": {
            "num_layers": 64,
            "num_heads": 256,
            "feedforward_channels": 65_536,
            "num_queries": 100_000,
            "num_groups": 64,
            "num_points": 256,
            "max_detections": 100_000,
        },
        "perspective": {
            "strides": 1_024,
            "num_convs": 64,
            "predictor_size": 31,
            "norm_groups": 4_096,
            "num_attributes": 1_024,
            "min_points": _COUNT,
            "max_candidates": 1_000_000,
            "max_detections": 100_000,
        },
        "perspective.small_images": {"min_visibility": _COUNT},
        "proposals": {"max_per_view": 100_000, "max_proposals": 100_000, "max_per_class": 100_000},
        "traffic": {
            "num_cameras": 16,
            "max_width_px": 16_384,
            "stages": 7,
            "channels": 1_024,
            "pixel_channels": 1_024,
            "num_convs": 16,
            "roi_channels": 8_192,
            "roi_map_cells": 16,
            "roi_image_cells": 64,
            "number_cells": 128,
            "max_candidates": 4_096,
            "max_elements": 4_096,
            "samples": 65_536,
            "speed_limits_kmh": 1_000,
            "window_px": 16_384,
        },
        "pictures": {"long_side": 16_384, "short_side": 16_384, "pad_to": 4_096},
        "picture_augmentation": {
            "short_sides": 16_384,
            "crop_short_sides": 16_384,
            "crop_long_side": 16_384,
            "crop_px": 16_384,
        },
        "detection2d": {"channels": 8_192},
        "rpn": {
            "candidates": 1_000_000,
            "proposals": 100_000,
            "train_candidates": 1_000_000,
            "train_proposals": 100_000,
            "samples": 1_000_000,
        },
        "roi": {
            "num_convs": 64,
            "num_linear": 64,
            "hidden_channels": 65_536,
            "num_mask_convs": 64,
            "box_cells": 256,
            "mask_cells": 256,
            "samples": 100_000,
            "detections": 100_000,
        },
        "dino": {
            "channels": 8_192,
            "num_heads": 256,
            "num_points": 256,
            "num_levels": 16,
            "encoder_layers": 64,
            "decoder_layers": 64,
            "feedforward_channels": 65_536,
            "num_queries": 100_000,
            "norm_groups": 4_096,
            "noised_queries": 100_000,
            "detections": 100_000,
        },
        "dino_detector": {},
        "labelled_pictures": {
            "long_side": 16_384,
            "short_side": 16_384,
            "multiple": 4_096,
            "window_px": 16_384,
            "window_step_px": 16_384,
        },
        "label_augmentation": {"resize": 16, "crop_px": 16_384},
        "label_head": {"channels": 8_192, "pool_cells": 256, "auxiliary_channels": 8_192},
        "segmentation": {"num_outputs": 255},
        "mask_head": {
            "channels": 8_192,
            "num_heads": 256,
            "num_points": 256,
            "num_queries": 100_000,
            "encoder_layers": 64,
            "decoder_layers": 64,
            "encoder_feedforward_channels": 65_536,
            "decoder_feedforward_channels": 65_536,
            "norm_groups": 4_096,
            "sampled_points": 10_000_000,
            "oversampling": 1_000,
        },
        "mask_segmentation": {},
        "loss": {},
        "tracking": {},
        "health": {
            "width_px": 16_384,
            "lasting_pictures": 1_000,
            "min_side_px": 16_384,
            "cover_pictures": 1_000,
            "cover_level": 255,
            "motion_pairs": 1_000,
            "min_points": 100_000,
            "max_turned": 1_000,
        },
        "augmentation": {"resize": 16, "resize_steps": _COUNT},
        "training": {
            "num_steps": _COUNT,
            "perspective_steps": _COUNT,
            "batch_size": 65_536,
            "accumulate": 65_536,
            "warmup_steps": _COUNT,
            "checkpoint_every": _COUNT,
            "evaluate_every": _COUNT,
            "log_every": _COUNT,
            "num_workers": 256,
            "max_skipped": _COUNT,
            "seed": 2**63 - 1,
        },
    }
)


def check_section(section: str, config: object) -> None:
    """Check every field of a section: its kind, finite numbers, and ``LIMITS``.

    Args:
        section: path of the section, such as "backbone"; "" for the whole configuration.
        config: the section, a dataclass. Sections within it check themselves.

    Raises:
        ValueError: a value is of another kind, a number is too large or not finite, or a list too
            long; names the field.
    """
    limits = LIMITS[section]
    for name, hint in _hints(typing.cast(Any, type(config))).items():
        path = f"{section}.{name}" if section else name
        value = getattr(config, name)
        requirement = _missed_kind(hint, value)
        check(path, requirement is None, requirement or "", value)
        if isinstance(value, (tuple, list)):
            got = f"{len(value)} values"
            check(path, len(value) <= MAX_VALUES, f"hold at most {MAX_VALUES} values", got)
        for number in _numbers(value):
            check(path, abs(number) <= sys.float_info.max, "be finite", value)
            limit = limits.get(name)
            if limit is not None:
                check(path, abs(number) <= limit, f"be at most {limit:,}", value)


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _missed_kind(hint: Any, value: object) -> str | None:
    """Return the requirement that a value misses, such as "be a whole number"; None if it fits."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        missed = [_missed_kind(option, value) for option in options]
        return None if None in missed else " or ".join(dict.fromkeys(filter(None, missed)))
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return "be a tuple"
        inner = options[:1] * len(value) if options[-1] is Ellipsis else options
        if len(inner) != len(value):
            return f"hold {len(inner)} values"
        missed = [_missed_kind(*pair) for pair in zip(inner, value, strict=True)]
        return next((f"hold values that must {text}" for text in missed if text), None)
    if hint is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, hint)
    return None if fits else f"be {_KINDS.get(hint, hint.__name__)}"


def _numbers(value: object) -> Iterator[int | float]:
    """Yield the numbers of a field, at any depth of its lists."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _numbers(item)
