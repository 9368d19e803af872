"""The library's warnings as plain notes on stderr, without the line of source they arose at."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_PACKAGE = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def plain_notes(verb: str) -> Iterator[None]:
    """Within it, a warning of bevstack itself is one line; those of other packages stay as is."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

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
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
