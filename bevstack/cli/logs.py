"""Output of the library's logs and of a quiet command."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # without -v, with -v, with -vv


@contextlib.contextmanager
def logs_on_stderr(verb: str, verbosity: int) -> Iterator[None]:
    """Print the records of the logger "bevstack" on stderr within the context.

    Args:
        verb: shown at the start of each line.
        verbosity: 0 for warnings, 1 for each file and choice, 2 for details.
    """
    logger = logging.getLogger("bevstack")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"bevstack {verb}: %(message)s"))
    previous = logger.level
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)


@contextlib.contextmanager
def silent_output(silent: bool) -> Iterator[None]:
    """Discard what the verb prints on stdout within the context, if ``silent``."""
    if not silent:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        yield
