"""Option ``--strict-rig`` of the verbs that read calibrations."""

from __future__ import annotations

import argparse


def add_strict_rig(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare ``--strict-rig``, which ``main`` applies to the warnings of the verb."""
    parser.add_argument(
        "--strict-rig",
        action="store_true",
        help="refuse a rig that cannot be, instead of warning of it",
    )
