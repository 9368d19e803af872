"""Options that several verbs share, and a parser for overrides and earlier spellings."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bevstack.vocabulary import MANOEUVRES

DEVICE_HELP = "auto (a GPU if torch can use one), cpu, cuda or cuda:N (default: %(default)s)"
_OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")
_DASHED_OVERRIDE = re.compile(r"--?[A-Za-z_]\w*(\.\w+)+=")


class Parser(argparse.ArgumentParser):
    """Parser of a verb: overrides may stand between options, and earlier spellings still work."""

    old_names: Mapping[str, str] = MappingProxyType({})  # earlier spelling -> present option
    takes_overrides = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments; return the namespace and the arguments that no option takes."""
        words = list(sys.argv[1:] if args is None else args)
        parsed, left_over = super().parse_known_args(self._with_present_names(words), namespace)
        if not self.takes_overrides:
            return parsed, left_over
        # argparse takes positional arguments from one place only, before or between the options.
        words = [*parsed.overrides, *left_over]
        for word in words:
            if _DASHED_OVERRIDE.match(word):
                self.error(f"an override must be given without dashes; got {word}")
        parsed.overrides = [word for word in words if _OVERRIDE.match(word)]
        return parsed, [word for word in words if not _OVERRIDE.match(word)]

    def _with_present_names(self, words: Sequence[str]) -> list[str]:
        """Return the words with the present name of each option, with a note on earlier ones."""
        present = []
        for word in words:
            name, equals, value = word.partition("=")
            if name in self.old_names:
                new = self.old_names[name]
                print(f"{self.prog}: note: {name} is now {new}", file=sys.stderr)
                word = f"{new}{equals}{value}"
            present.append(word)
        return present


def rename_options(parser: argparse.ArgumentParser, old_names: Mapping[str, str]) -> None:
    """Let a verb accept earlier spellings of options, which its help does not show."""
    if isinstance(parser, Parser):
        parser.old_names = MappingProxyType(dict(old_names))


def add_only(parser: argparse.ArgumentParser, names: str) -> None:
    """Declare ``--only``, a list of names; ``names`` is the rest of its help."""
    parser.add_argument(
        "--only",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="NAME,...",
        help=f"compute only these {names}",
    )


def add_max_samples(parser: argparse.ArgumentParser) -> None:
    """Declare ``--max-frames``, stored as ``max_samples``, with its earlier spelling."""
    rename_options(parser, {"--max-samples": "--max-frames"})
    parser.add_argument(
        "--max-frames",
        dest="max_samples",
        type=int,
        metavar="N",
        help="score only the first scenes, with at most N samples in total",
    )


def add_cues(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cues``, a file that is read."""
    parser.add_argument(
        "--cues",
        type=Path,
        metavar="FILE",
        help="file of lights, signs and cues of `bevstack predict` (default: beside the results)",
    )


def add_shown_manoeuvre(parser: argparse.ArgumentParser) -> None:
    """Declare ``--manoeuvre``, the turn whose advice is shown."""
    parser.add_argument(
        "--manoeuvre",
        choices=MANOEUVRES,
        help="turn at the next junction whose advice is shown (default: that of the data set, else "
        "straight)",
    )


def add_config(parser: argparse._ActionsContainer, *, required: bool = False) -> None:
    """Declare ``--config``."""
    parser.add_argument(
        "--config",
        required=required,
        metavar="NAME",
        help="name of a packaged configuration (see `bevstack config list`), or a .py file",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Declare overrides of the configuration's fields."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="fields of the configuration to change, e.g. training.learning_rate=3e-4; "
        "`bevstack config show NAME` lists all",
    )
    if isinstance(parser, Parser):
        parser.takes_overrides = True


def add_device(parser: argparse._ActionsContainer) -> None:
    """Declare ``--device``."""
    parser.add_argument("--device", default="auto", metavar="DEVICE", help=DEVICE_HELP)


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Declare ``--precision``."""
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="arithmetic of the 3D detector: float32, bfloat16, auto (bfloat16 if the hardware "
        "computes it), and on a GPU tf32 and float16 (default: %(default)s)",
    )


def add_scenes(parser: argparse._ActionsContainer, *, required: bool, purpose: str) -> None:
    """Declare ``--split`` and ``--scene``, of which one is given; ``purpose`` is a verb."""
    scenes = parser.add_mutually_exclusive_group(required=required)
    scenes.add_argument("--split", help=f"split to {purpose}, e.g. mini_val")
    scenes.add_argument(
        "--scene",
        action="append",
        metavar="NAME",
        help=f"scene to {purpose}, e.g. scene-0103; may be repeated",
    )


def add_allow_outside(parser: argparse._ActionsContainer) -> None:
    """Declare ``--allow-outside``."""
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="trust the tables or the rig file: read images outside their folder too",
    )


def add_classes(parser: argparse._ActionsContainer) -> None:
    """Declare ``--classes``."""
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="JSON object from categories of the data set to detection classes, or to null",
    )


def add_no_verify(parser: argparse._ActionsContainer) -> None:
    """Declare ``--no-verify``, which sets ``verify`` to False."""
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="do not compare weights with the checksum in their file",
    )


def add_strict_rig(parser: argparse._ActionsContainer) -> None:
    """Declare ``--strict-rig``, which ``main`` applies to the warnings of the verb."""
    parser.add_argument(
        "--strict-rig",
        action="store_true",
        help="refuse a rig that cannot be, instead of warning of it",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every verb; a verb inside of a verb keeps those of the outer one."""
    common = parser.add_argument_group("options of every verb")
    common.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="also print what is read, written and chosen; -vv prints more",
    )
    common.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print only warnings and errors, and with --json the JSON",
    )
    common.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,
        help="after an error, also print the traceback",
    )
