"""Parser of the command ``bevstack`` and the table of its verbs."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from bevstack import __version__
from bevstack.cli.errors import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EXIT_USAGE, explain
from bevstack.cli.warnings_as_notes import plain_notes

DESCRIPTION = """\
bevstack finds cars, people and other road users in 3D from the images of calibrated cameras,
and scores what it found with nuScenes' own metric.

New here? Run `bevstack demo`: it makes a synthetic scene, streams it through the weights that come
with bevstack, scores them and draws what they found. It needs no data set and no GPU."""

EPILOG = """\
`bevstack <verb> --help` explains one verb. Something does not work? `bevstack doctor` prints what
is installed, what is missing, and the command that mends it."""


_FORMATTER = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=26)


class VerbModule(Protocol):
    """What each module of this package offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the verb's arguments; imports nothing heavy."""

    def run(self, args: argparse.Namespace) -> int:
        """Does the work and returns the exit code."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One row of the table: what is typed, where it lives, and its line of help."""

    name: str
    module: str
    summary: str


VERBS = (
    Verb(
        name="demo",
        module="bevstack.cli.demo",
        summary="stream an unseen scene through the weights that ship, score and draw: start here",
    ),
    Verb(
        name="train-demo",
        module="bevstack.cli.train_demo",
        summary="make a small world, train on it, score the model and draw the result",
    ),
    Verb(
        name="make-world",
        module="bevstack.cli.make_world",
        summary="write a synthetic data set in nuScenes' format",
    ),
    Verb(
        name="train",
        module="bevstack.cli.train",
        summary="train a configuration on a data set in nuScenes' format",
    ),
    Verb(
        name="evaluate",
        module="bevstack.cli.evaluate",
        summary="score a results file with the nuScenes metric",
    ),
    Verb(
        name="predict",
        module="bevstack.cli.predict",
        summary="find boxes in nuScenes scenes, or in your own images and rig",
    ),
    Verb(
        name="show",
        module="bevstack.cli.show",
        summary="draw predicted and true boxes on the images and from above",
    ),
    Verb(
        name="judge",
        module="bevstack.cli.judge",
        summary="score a detector beside baselines it must beat and controls it must fail",
    ),
    Verb(
        name="study",
        module="bevstack.cli.study",
        summary="train variants of a detector on equal budgets and compare their scores",
    ),
    Verb(
        name="convert-weights",
        module="bevstack.cli.convert_weights",
        summary="turn published weights into a detector of ours",
    ),
    Verb(
        name="doctor",
        module="bevstack.cli.doctor",
        summary="say what is installed, what is missing and how to mend it",
    ),
    Verb(
        name="build-ops",
        module="bevstack.cli.build_ops",
        summary="compile the operators' kernels for the installed torch",
    ),
)


def load_verb(verb: Verb) -> VerbModule:
    """Imports the module of a verb."""
    return cast(VerbModule, importlib.import_module(verb.module))


def build_parser(verbs: Sequence[Verb] = VERBS) -> argparse.ArgumentParser:
    """Builds the parser of ``bevstack`` with one sub-parser a verb."""
    parser = argparse.ArgumentParser(
        prog="bevstack",
        usage="bevstack [-h] [--version] <verb> [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_FORMATTER,
    )
    parser.add_argument("--version", action="version", version=f"bevstack {__version__}")
    actions = parser.add_subparsers(
        dest="verb", metavar="<verb> [options]", title="verbs", prog="bevstack", required=True
    )
    for verb in verbs:
        module = load_verb(verb)
        subparser = actions.add_parser(
            verb.name,
            help=verb.summary,
            description=module.__doc__,
            formatter_class=_FORMATTER,
        )
        module.add_arguments(subparser)
        subparser.add_argument(
            "--traceback",
            action="store_true",
            help="after an error, also print where in the program it arose",
        )
    return parser


def main(argv: Sequence[str] | None = None, verbs: Sequence[Verb] = VERBS) -> int:
    """Runs one verb of the command line ``argv``, by default the process's own.

    Returns:
        The verb's exit code; 2 after an error the caller can mend, told in one sentence on
        stderr; 130 after an interrupt. An error of the program itself keeps its traceback.
    """
    args = build_parser(verbs).parse_args(argv)
    verb = next(verb for verb in verbs if verb.name == args.verb)
    try:
        with plain_notes(verb.name):
            return load_verb(verb).run(args)
    except BrokenPipeError:
        # The reader of our output has gone (`bevstack doctor | head`); the interpreter must not
        # complain of it again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"bevstack {verb.name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        if args.traceback:
            traceback.print_exc()
        print(f"bevstack {verb.name}: error: {sentence}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
