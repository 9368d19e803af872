r"""Convert published weights into a bevstack detector, or into initial weights with a backbone.

  bevstack convert-weights bevformerv2-r50-t1_epoch_24.pth --out t1.safetensors \
      --config bevformerv2_r50_t1
  bevstack convert-weights internimage_t_1k_224.pth --out start.safetensors \
      --config bevformerv2_internimage_t_t1 --backbone
  bevstack convert-weights mask_rcnn_internimage_t_fpn_1x_coco.pth --out mask_rcnn.safetensors \
      --config mask_rcnn_internimage_t_1x

The first form converts a whole BEVFormer v2 detector. The second one takes only the backbone from
the file and initialises the rest of the detector at random. The third one converts a detector for
single pictures, or a model that labels their pixels. Without --config, the command states what the
file holds and which configuration fits it.

Every tensor of the file needs a counterpart in the detector, and every tensor of the detector one
in the file; --allow-left-over and --allow-missing make exceptions. The command prints a table of
the tensors that matched, that were missing in the file, and that were left over. Objects of
other programs in a file are left out, and no code in it is run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.options import add_config, add_no_verify, add_overrides, rename_options

if TYPE_CHECKING:
    from bevstack.config import Config
    from bevstack.config.picture_detectors import PictureDetectorConfig
    from bevstack.config.segmenters import SegmenterConfig
    from bevstack.interop.conversion import Converted
    from bevstack.interop.public_weights import Report
    from bevstack.interop.published_files import PublishedFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack convert-weights``."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="published weights: .pth, .bin or .safetensors"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file to write: .safetensors"
    )
    add_config(parser)
    add_overrides(parser)
    rename_options(parser, {"--to": "--out", "--weights": "--use"})
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="convert only the backbone (InternImage, caffe-style ResNet); the rest is random",
    )
    parser.add_argument(
        "--boxes",
        choices=("legacy", "modern"),
        help="box convention: legacy is mmdet3d before 1.0, modern from 1.0 on (default: the "
        "version that the file names)",
    )
    parser.add_argument(
        "--use",
        choices=("raw", "averaged"),
        help="trained or averaged (EMA) weights, for a file that holds both",
    )
    add_no_verify(parser)
    for option, permission in (
        ("missing", "be missing in the file, which leaves them as initialised"),
        ("left-over", "be left over in the file"),
    ):
        parser.add_argument(
            f"--allow-{option}",
            action="append",
            default=[],
            metavar="PREFIX",
            help=f"allow tensors whose name starts with PREFIX to {permission}; may be repeated",
        )
    parser.add_argument(
        "--list", action="store_true", help="print the name of every tensor, not only counts"
    )


def run(args: argparse.Namespace) -> int:
    """Convert the weights; print the table, notes and the path of the new file.

    Raises:
        ValueError: a file or option that does not fit, or tensors without counterpart.
        OSError: the file cannot be read or the new one not be written.
    """
    from bevstack.config import load_config
    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.config.segmenters import find_segmenter
    from bevstack.interop.public_weights import UnmatchedError
    from bevstack.interop.published_files import read_published_file
    from bevstack.interop.segmentation import describe
    from bevstack.models.build import save_model
    from bevstack.runtime.predict import check_writable

    if args.out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors; got {args.out}")
    check_writable(args.out)
    file = read_published_file(args.file, weights=args.use, verify=args.verify)
    if args.config is None:
        raise ValueError(f"--config NAME must be given; got none: {describe(file)}")
    segmenter = find_segmenter(args.config, args.overrides)
    if segmenter is not None:
        return _convert_segmenter(args, file, segmenter)
    pictures = find_picture_detector(args.config, args.overrides)
    if pictures is not None:
        return _convert_pictures(args, file, pictures)
    config = load_config(args.config, args.overrides)
    if file.skipped:
        shown = ", ".join(file.skipped[:5]) + (" ..." if len(file.skipped) > 5 else "")
        print(f"note: objects of other programs were left out, and not run: {shown}")
    try:
        converted = _convert(args, file, config)
    except UnmatchedError as error:
        _print_report(error.report, every_name=args.list)
        raise
    _print_report(converted.report, every_name=args.list)
    for note in converted.notes:
        print(f"note: {note}")
    save_model(args.out, converted.model, converted.config, {"converted_from": file.name})
    print(f"{converted.config.name}: {args.out}")
    return 0


def _convert_pictures(
    args: argparse.Namespace, file: PublishedFile, config: PictureDetectorConfig
) -> int:
    """Convert a detector for single pictures."""
    from bevstack.interop.conversion import Allowed
    from bevstack.interop.detection2d import convert_detector2d
    from bevstack.interop.public_weights import UnmatchedError
    from bevstack.models.build_detection2d import save_detector2d

    for option in ("backbone", "boxes"):
        if getattr(args, option):
            raise ValueError(f"--{option} must be left out for {config.name}; got it")
    allowed = Allowed(missing=args.allow_missing, left_over=args.allow_left_over)
    try:
        converted = convert_detector2d(file, config, allowed=allowed)
    except UnmatchedError as error:
        _print_report(error.report, every_name=args.list)
        raise
    _print_report(converted.report, every_name=args.list)
    for note in converted.notes:
        print(f"note: {note}")
    save_detector2d(args.out, converted.weights, config, {"converted_from": file.name})
    print(f"{config.name}: {args.out}")
    return 0


def _convert_segmenter(
    args: argparse.Namespace, file: PublishedFile, config: SegmenterConfig
) -> int:
    """Convert a model that labels pixels."""
    from bevstack.interop.public_weights import UnmatchedError
    from bevstack.interop.segmentation import convert_segmenter
    from bevstack.models.build_segmentation import save_segmenter

    for option in ("backbone", "boxes", "allow_missing", "allow_left_over"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be left out for {config.name}; got it")
    try:
        converted = convert_segmenter(file, config)
    except UnmatchedError as error:
        _print_report(error.report, every_name=args.list)
        raise
    _print_report(converted.report, every_name=args.list)
    save_segmenter(args.out, converted.weights, config, {"converted_from": file.name})
    print(f"{config.name}: {args.out}")
    return 0


def _print_report(report: Report, *, every_name: bool) -> None:
    from bevstack.cli.tables import print_lines

    if every_name:
        print(report.table())
        return
    print_lines(report.counts())
    print(f"left over in the file: {len(report.left_over)}")
    if report.left_over:
        print_lines(report.left_counts())


def _convert(args: argparse.Namespace, file: PublishedFile, config: Config) -> Converted:
    from bevstack.interop.adapter_weights import convert_adapter, is_adapter_file
    from bevstack.interop.conversion import Allowed, convert_backbone, convert_detector

    allowed = Allowed(missing=args.allow_missing, left_over=args.allow_left_over)
    if args.backbone:
        if args.boxes is not None:
            raise ValueError(
                f"--boxes must not be given with --backbone, which has no boxes; got {args.boxes}"
            )
        return convert_backbone(file, config, allowed=allowed)
    if is_adapter_file(file):
        return convert_adapter(file, config, boxes=args.boxes, allowed=allowed)
    return convert_detector(file, config, boxes=args.boxes, allowed=allowed)
