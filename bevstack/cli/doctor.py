"""Report what is installed, which kernels are in use, what is missing and how to fix it.

With --config or --model, report the parameters and operations of a detector or a backbone instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from bevstack.cli.options import add_overrides

if TYPE_CHECKING:
    from bevstack.costs.backbone import ModelCount
    from bevstack.costs.detection2d import DetectionCount
    from bevstack.costs.detector import ConfigCount
    from bevstack.costs.segmentation import SegmentationCount

EXIT_BROKEN = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack doctor``."""
    parser.add_argument(
        "--config", metavar="NAME", help="count the parts of this configuration's detector"
    )
    add_overrides(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="count this backbone (internimage_t, _s, _b, _l, _xl, _h or _g), or this model for "
        "single pictures, such as mask_rcnn_internimage_t or upernet_internimage_t_512_ade20k",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="image size for --model, pixels (default: that of the paper's table)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report; return 1 if a requirement of all verbs is missing.

    Raises:
        FileNotFoundError: there is no such configuration.
        ValueError: there is no such backbone, the image size is not positive, or an override does
            not fit.
    """
    if args.overrides and args.config is None:
        raise ValueError(f"--config NAME must be given with overrides; got {args.overrides[0]}")
    if args.config is not None:
        from bevstack.config import load_config
        from bevstack.costs.detector import count_config

        detector = count_config(load_config(args.config, args.overrides))
        _show_counts(detector, args.json)
        return 0
    if args.model is not None:
        _show_counts(_count_model(args.model, tuple(args.size) if args.size else None), args.json)
        return 0
    from bevstack.cli.diagnosis import diagnose

    diagnosis = diagnose()
    _show(diagnosis, diagnosis.lines(), args.json)
    return EXIT_BROKEN if diagnosis.broken else 0


def _count_model(
    name: str, size: tuple[int, int] | None
) -> ModelCount | DetectionCount | SegmentationCount:
    from bevstack.costs.backbone import PUBLISHED_SIZE_PX, count_model
    from bevstack.costs.detection2d import count_detection_model, detection_models
    from bevstack.costs.segmentation import count_segmentation_model, segmentation_models

    if name in PUBLISHED_SIZE_PX:
        return count_model(name, size)
    models, segmenters = detection_models(), segmentation_models()
    if name in segmenters:
        return count_segmentation_model(name, size)
    if name not in (*models, *models.values()):
        known = ", ".join((*PUBLISHED_SIZE_PX, *models, *segmenters))
        raise ValueError(f"--model must be one of {known}; got {name!r}")
    return count_detection_model(name, size)


def _show_counts(
    counts: ConfigCount | ModelCount | DetectionCount | SegmentationCount, as_json: bool
) -> None:
    from bevstack.cli.tables import print_lines

    heading, *notes = counts.lines()
    if as_json:
        _show(counts, [], as_json=True)
        return
    print(heading)
    print_lines(counts.table())
    print("\n".join(notes), end="\n" * bool(notes))


def _show(report: object, lines: list[str], as_json: bool) -> None:
    assert dataclasses.is_dataclass(report) and not isinstance(report, type)
    text = json.dumps(dataclasses.asdict(report), indent=2) if as_json else "\n".join(lines)
    print(text)
