"""Fixtures of the tests of tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from bevstack.tables import cache


@pytest.fixture
def cache_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build column caches without a second process, which takes a second to start."""

    @contextlib.contextmanager
    def built_here(*_: object) -> Iterator[Callable[[], None]]:
        yield lambda: None

    monkeypatch.setattr(cache, "_built_in_subprocess", built_here)
