"""Entry point of the command ``bevstack``: its verbs, its parser and the handling of errors."""

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
from bevstack.cli.logs import logs_on_stderr, silent_output
from bevstack.cli.options import Parser, add_common
from bevstack.cli.warnings_as_notes import warnings_as_notes

DESCRIPTION = """\
bevstack detects cars, people and other road users in 3D in the images of calibrated cameras, and
scores the detections with the nuScenes metric.

New here? Run `bevstack demo`: it makes a synthetic scene, streams it through the packaged weights,
and scores and draws the detections. It needs no data set and no GPU."""

EPILOG = """\
`bevstack <verb> --help` explains one verb. Something does not work? `bevstack doctor` prints what
is installed, what is missing, and the command that fixes it."""


_FORMATTER = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=26)


class VerbModule(Protocol):
    """Interface of the module of a verb."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments without importing torch, numpy, OpenCV or numba."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the verb and return the exit code."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb of the command."""

    name: str  # as typed
    module: str  # a ``VerbModule``
    summary: str  # line of `bevstack --help`


VERBS = (
    Verb(
        name="demo",
        module="bevstack.cli.demo",
        summary="start here: stream an unseen scene through the packaged weights, score, draw",
    ),
    Verb(
        name="train-demo",
        module="bevstack.cli.train_demo",
        summary="make a small world, train on it, score the model and draw its predictions",
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
        summary="predict boxes in nuScenes scenes, or in your own images",
    ),
    Verb(
        name="show",
        module="bevstack.cli.show",
        summary="draw predicted and true boxes in the images and in the bird's-eye view",
    ),
    Verb(
        name="view",
        module="bevstack.cli.view",
        summary="see a drive in the browser, with results, errors and camera pictures",
    ),
    Verb(
        name="export",
        module="bevstack.cli.export",
        summary="write results in a format that planners read, or a model as an ONNX file",
    ),
    Verb(
        name="make-bag",
        module="bevstack.cli.make_bag",
        summary="write a drive of a data set as a bag of ROS messages",
    ),
    Verb(
        name="node",
        module="bevstack.cli.node",
        summary="run the inference node, on a bag or on the topics of ROS 2",
    ),
    Verb(
        name="play-bag",
        module="bevstack.cli.play_bag",
        summary="play a bag on the topics of ROS 2, for the node",
    ),
    Verb(
        name="benchmark",
        module="bevstack.cli.benchmark",
        summary="measure the speed and memory of operators, backbones and detectors here",
    ),
    Verb(
        name="judge",
        module="bevstack.cli.judge",
        summary="score a detector beside baselines it must beat and controls it must fail",
    ),
    Verb(
        name="study",
        module="bevstack.cli.study",
        summary="train variants of a detector for equal times and compare their scores",
    ),
    Verb(
        name="config",
        module="bevstack.cli.config",
        summary="list the packaged configurations, or show every field of one",
    ),
    Verb(
        name="convert-weights",
        module="bevstack.cli.convert_weights",
        summary="convert published weights into a bevstack detector",
    ),
    Verb(
        name="doctor",
        module="bevstack.cli.doctor",
        summary="report what is installed, what is missing and how to fix it",
    ),
    Verb(
        name="build-ops",
        module="bevstack.cli.build_ops",
        summary="compile the operators' kernels for the installed torch",
    ),
)


def load_verb(verb: Verb) -> VerbModule:
    """Import the module of a verb."""
    return cast(VerbModule, importlib.import_module(verb.module))


def build_parser(verbs: Sequence[Verb] = VERBS) -> argparse.ArgumentParser:
    """Build the parser of ``bevstack`` with one sub-parser for each verb."""
    parser = Parser(
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
        add_common(subparser)
    return parser


def is_silent(args: argparse.Namespace) -> bool:
    """Return True if ``--quiet`` is given and no JSON is asked for."""
    return getattr(args, "quiet", False) and not getattr(args, "json", False)


def main(argv: Sequence[str] | None = None, verbs: Sequence[Verb] = VERBS) -> int:
    """Run the verb of a command line, by default that of this process.

    Returns:
        The verb's exit code; 2 after an error that the user can fix, printed as one sentence on
        stderr; 130 after an interrupt; 141 if the reader of stdout has closed the pipe. An error of
        the program itself is raised with its traceback.
    """
    args = build_parser(verbs).parse_args(argv)
    verb = next(verb for verb in verbs if verb.name == args.verb)
    try:
        with (
            warnings_as_notes(verb.name, strict_rig=getattr(args, "strict_rig", False)),
            logs_on_stderr(verb.name, getattr(args, "verbose", 0)),
            silent_output(is_silent(args)),
        ):
            return load_verb(verb).run(args)
    except BrokenPipeError:
        # The reader of stdout has closed the pipe (`bevstack doctor | head`). Redirect stdout, so
        # that the interpreter's flush at exit does not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"bevstack {verb.name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        if getattr(args, "traceback", False):
            traceback.print_exc()
        print(f"bevstack {verb.name}: error: {sentence}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
