"""Printing of bevstack's warnings as one-line notes, without the line of source."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_PACKAGE = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def warnings_as_notes(verb: str, *, strict_rig: bool = False) -> Iterator[None]:
    """Print bevstack's warnings as notes on stderr within the context.

    Warnings of other packages are shown as usual. With ``strict_rig`` warnings of implausible rigs
    are raised as errors.
    """
    with warnings.catch_warnings():
        if strict_rig:
            from bevstack.geometry.rig_plausibility import ImplausibleRigWarning

            warnings.simplefilter("error", ImplausibleRigWarning)
        show_as_usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if _PACKAGE in Path(filename).resolve().parents:
                print(f"bevstack {verb}: note: {message}", file=sys.stderr)
            else:
                show_as_usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
