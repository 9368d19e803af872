"""The part of ``bevstack show`` that draws results in single pictures without calibration."""

from __future__ import annotations

import argparse
from pathlib import Path


def draw_pictures(args: argparse.Namespace) -> list[Path]:
    """Draw the results, a folder of label maps or a file of objects; return the paths.

    Raises:
        FileNotFoundError: a picture or a result is missing.
        ValueError: an option is missing or has no effect, or a file is damaged.
        OSError: the drawings cannot be written.
    """
    from bevstack.runtime.drawn_results import draw_label_results, draw_object_results

    if args.results is None:
        raise ValueError(
            "--results must be given with --images: a folder of label maps, or a file of objects; "
            "got none"
        )
    for option in ("version", "scene", "sample", "no_truth", "dense", "frames", "lost", "cues"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be left out with --images alone; got it")
    if args.results.is_dir():
        return draw_label_results(args.images, args.results, args.out, max_pictures=args.max_frames)
    return draw_object_results(
        args.images,
        args.results,
        args.out,
        min_score=args.min_score,
        max_pictures=args.max_frames,
    )
