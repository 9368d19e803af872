"""Options of data sets with labelled pixels: ``--ade20k``, ``--cityscapes`` and ``--dense``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.datasets.segmentation.labelled import LabelledPictures

LABEL_DATA = ("ade20k", "cityscapes", "dense")  # the options


def add_label_data(parser: argparse._ActionsContainer, *, purpose: str) -> None:
    """Declare the options; ``purpose`` is a verb."""
    group = parser.add_argument_group("labels of pixels, with --split")
    group.add_argument(
        "--ade20k",
        type=Path,
        metavar="ROOT",
        help=f"folder ADEChallengeData2016 to {purpose}: images/SPLIT and annotations/SPLIT",
    )
    group.add_argument(
        "--cityscapes",
        type=Path,
        metavar="ROOT",
        help=f"folder of Cityscapes to {purpose}: leftImg8bit/SPLIT and gtFine/SPLIT",
    )
    group.add_argument(
        "--dense",
        type=Path,
        metavar="ROOT",
        help=f"world of `bevstack make-world --dense` to {purpose} (--version: its tables, "
        "v1.0-synth by default)",
    )


def add_ratios(parser: argparse._ActionsContainer) -> None:
    """Declare ``--ratios``."""
    parser.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        metavar="R",
        help="of weights that label pixels: factors of the size of pictures, whose results are "
        "averaged, e.g. 0.5 1 1.5",
    )


def label_data_option(args: argparse.Namespace) -> str | None:
    """Return the name of the given option; None without any.

    Raises:
        ValueError: several are given.
    """
    given = [name for name in LABEL_DATA if getattr(args, name, None) is not None]
    if len(given) > 1:
        raise ValueError(f"one data set must be given; got --{' and --'.join(given)}")
    return given[0] if given else None


def open_label_data(args: argparse.Namespace, split: str) -> LabelledPictures:
    """Open a split of the data set of the given option.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing.
        ValueError: there is no such split, or several data sets are given.
    """
    option = label_data_option(args)
    if option == "ade20k":
        from bevstack.datasets.segmentation.ade20k import read_ade20k

        return read_ade20k(args.ade20k, split)
    if option == "cityscapes":
        from bevstack.datasets.segmentation.cityscapes import read_cityscapes

        return read_cityscapes(args.cityscapes, split)
    from bevstack.datasets.segmentation.dense_world import read_dense_world
    from bevstack.tables.reader import Tables

    return read_dense_world(Tables(args.dense, args.version or "v1.0-synth"), split)
