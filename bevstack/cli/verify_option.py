"""Option ``--no-verify`` of the verbs that read weights."""

from __future__ import annotations

import argparse


def add_no_verify(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare ``--no-verify``, which sets ``verify`` to False."""
    parser.add_argument(
        "--no-verify",
        dest="verify",
        action="store_false",
        help="do not compare weights with the checksum in their file",
    )
