"""The option ``--pictures``, a data set of labelled single pictures, and its folds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bevstack.datasets.traffic_view.pictures import PictureSet

BY_DAY = "day"


@dataclass(frozen=True)
class PictureSource:
    """A data set of pictures as the command line names it."""

    name: str
    root: Path
    format: str
    box_convention: str | None
    streets_by_day: bool


def add_pictures(parser: argparse._ActionsContainer, *, purpose: str, many: bool) -> None:
    """Declare ``--pictures`` and ``--fold``; ``purpose`` is a verb."""
    repeated = "; may be repeated" if many else ""
    parser.add_argument(
        "--pictures",
        action="append",
        metavar="NAME=DIR:FORMAT[:BOX][:day]",
        help=f"labelled single pictures to {purpose}, e.g. kr=DIR:yolo:lamp:day. BOX is lamp or "
        "housing, what the boxes of yolo and elements surround; day: the pictures show streets by "
        f"day, so that those that are upside down or skewed are found and left out{repeated}",
    )
    parser.add_argument(
        "--fold",
        metavar="K/N",
        help="keep fold K, from 0, of N apart by source photo and place, to evaluate on "
        "(default: none)",
    )


def parse_pictures(text: str) -> PictureSource:
    """Parse NAME=DIR:FORMAT[:BOX][:day].

    Raises:
        ValueError: the text has another form, or the format is unknown.
    """
    from bevstack.datasets.traffic import FORMATS
    from bevstack.types.traffic import BOX_CONVENTIONS

    name, equals, rest = text.partition("=")
    parts = rest.split(":")
    by_day = len(parts) > 2 and parts[-1] == BY_DAY
    parts = parts[:-1] if by_day else parts
    convention = parts.pop() if len(parts) > 2 and parts[-1] in BOX_CONVENTIONS else None
    root = ":".join(parts[:-1])
    if not (name and equals and root and parts[-1] in FORMATS):
        raise ValueError(
            "--pictures must be NAME=DIR:FORMAT[:BOX][:day] with a format of "
            f"{', '.join(FORMATS)} and lamp or housing as BOX; got {text!r}"
        )
    return PictureSource(name, Path(root), parts[-1], convention, by_day)


def parse_fold(text: str) -> tuple[int, int]:
    """Parse K/N.

    Raises:
        ValueError: the text has another form.
    """
    number, _, count = text.partition("/")
    if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise ValueError(f"--fold must be K/N, e.g. 0/5; got {text!r}")
    return int(number), int(count)


def open_sets(texts: Sequence[str]) -> list[PictureSet]:
    """Open the data sets of ``--pictures``.

    Raises:
        FileNotFoundError: a folder, label file or picture does not exist.
        ValueError: a text has another form, or a file is damaged.
    """
    from bevstack.datasets.traffic_view.pictures import open_pictures

    return [
        open_pictures(
            source.name,
            source.root,
            source.format,
            box_convention=source.box_convention,
            streets_by_day=source.streets_by_day,
        )
        for source in map(parse_pictures, texts)
    ]
