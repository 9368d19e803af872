"""List the packaged configurations, or show every field of one.

  bevstack config list
  bevstack config show tiny_cpu_t4 training.learning_rate=3e-4

Each line of `show` is an override that every verb with --config takes after its options.
"""

from __future__ import annotations

import argparse
import json

from bevstack.cli.options import add_common, add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack config``."""
    actions = parser.add_subparsers(
        dest="action", metavar="<action>", title="actions", required=True
    )
    listing = actions.add_parser("list", help="list the packaged configurations")
    add_common(listing)
    show = actions.add_parser("show", help="show every field of a configuration")
    show.add_argument("name", metavar="NAME", help="name of a packaged configuration, or .py file")
    add_overrides(show)
    show.add_argument(
        "--json", action="store_true", help="print the configuration as a weights file holds it"
    )
    add_common(show)


def run(args: argparse.Namespace) -> int:
    """Print the names, or the fields and what the overrides change.

    Raises:
        FileNotFoundError: there is no such configuration.
        ValueError: an override names no field, has a value of the wrong type, or contradicts
            another field.
    """
    if args.action == "list":
        _print_names()
    else:
        _print_fields(args)
    return 0


def _print_names() -> None:
    from bevstack.cli.tables import print_table
    from bevstack.config import describe_packaged
    from bevstack.config.detection2d import DETECTION2D
    from bevstack.config.segmentation import SEGMENTATION
    from bevstack.training.progress_bar import make_console

    tasks = (None, DETECTION2D, SEGMENTATION)
    rows = [row for task in tasks for row in describe_packaged(task).items()]
    print_table(make_console(), ("configuration", "description"), rows, text_columns=2)


def _print_fields(args: argparse.Namespace) -> None:
    from bevstack.config import config_to_json, flat_fields, load_config, with_overrides
    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.config.segmenters import find_segmenter

    original = (
        find_picture_detector(args.name) or find_segmenter(args.name) or load_config(args.name)
    )
    config = with_overrides(original, args.overrides)
    if args.json:
        print(json.dumps(json.loads(config_to_json(config)), indent=2))
        return
    before = flat_fields(original)
    for key, value in flat_fields(config).items():
        change = "" if before.get(key) == value else f"  # was {before.get(key, 'absent')}"
        print(f"{key}={value}{change}")
