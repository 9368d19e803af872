"""Errors of exported files."""

from __future__ import annotations


class FailedCheckError(ValueError):
    """An exported file whose outputs differ from ours."""
