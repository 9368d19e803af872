r"""Converts published weights into a detector of ours, or a detector's start from a backbone.

  bevstack convert-weights bevformerv2-r50-t1_epoch_24.pth --to t1.safetensors \
      --config bevformerv2_r50_t1
  bevstack convert-weights internimage_t_1k_224.pth --to start.safetensors \
      --config bevformerv2_internimage_t_t1 --backbone

Every name must find its counterpart, unless you allow it by the beginning of its name; a table says
what matched, what was missing and what was left over. Files are read without running their code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config import Config
    from bevstack.interop.conversion import Converted
    from bevstack.interop.published_files import PublishedFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack convert-weights``."""
    parser.add_argument("file", type=Path, metavar="FILE", help=".pth, .bin or .safetensors file")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="OUT", help="the .safetensors file to write"
    )
    parser.add_argument(
        "--config", required=True, help="name of a packaged configuration, or a file"
    )
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="take the backbone alone (InternImage, caffe-style ResNet); the rest starts fresh",
    )
    parser.add_argument(
        "--boxes",
        choices=("legacy", "modern"),
        help="box convention: mmdet3d before 1.0, or from then on (default: what the file says)",
    )
    parser.add_argument(
        "--weights", choices=("raw", "averaged"), help="which, for a file that holds both"
    )
    for option, what in (("missing", "ours that keep their start"), ("left-over", "not used")):
        parser.add_argument(
            f"--allow-{option}",
            action="append",
            default=[],
            metavar="PREFIX",
            help=f"allow names {what}, by their beginning; may be repeated",
        )
    parser.add_argument("--list", action="store_true", help="print every name, not the counts")


def run(args: argparse.Namespace) -> int:
    """Converts, prints the table and says what was written."""
    from bevstack.config import load_config
    from bevstack.interop.public_weights import UnmatchedError
    from bevstack.interop.published_files import read_published_file
    from bevstack.models.build import save_model
    from bevstack.runtime.predict import check_writable

    if args.to.suffix != ".safetensors":
        raise ValueError(f"--to must end in .safetensors; got {args.to}")
    check_writable(args.to)
    config = load_config(args.config)
    file = read_published_file(args.file, weights=args.weights)
    try:
        converted = _convert(args, file, config)
    except UnmatchedError as error:
        print(error.report.table() if args.list else error.report.summary())
        raise
    print(converted.report.table() if args.list else converted.report.summary())
    for note in converted.notes:
        print(f"note: {note}")
    save_model(args.to, converted.model, converted.config, {"converted_from": file.name})
    print(f"{converted.config.name}: {args.to}")
    return 0


def _convert(args: argparse.Namespace, file: PublishedFile, config: Config) -> Converted:
    from bevstack.interop.conversion import Allowed, convert_backbone, convert_detector

    allowed = Allowed(missing=args.allow_missing, left_over=args.allow_left_over)
    if args.backbone:
        if args.boxes is not None:
            raise ValueError("--boxes must not be given with --backbone, which holds no boxes")
        return convert_backbone(file, config, allowed=allowed)
    return convert_detector(file, config, boxes=args.boxes, allowed=allowed)
