"""Cached compiled loops are loaded only from folders that no other user can write."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching

from bevstack.evaluation.detection3d import cached_loop as module
from bevstack.evaluation.detection3d.cached_loop import cached_loop, find_untrusted
from bevstack.evaluation.detection3d.ordering import _stable_order


def test_a_cache_that_another_user_may_have_written_is_found(tmp_path: Path) -> None:
    folder, source = tmp_path / "cache", tmp_path / "code" / "loops.py"
    folder.mkdir(mode=0o700)
    file = folder / "loops.f-1.py311.nbi"
    file.write_bytes(b"index")
    file.chmod(0o600)
    assert find_untrusted(folder, "loops.f-1.py311", source) is None
    file.chmod(0o666)
    assert find_untrusted(folder, "loops.f-1.py311", source) == file
    assert find_untrusted(folder, "loops.g-9.py311", source) is None
    folder.chmod(0o777)
    assert find_untrusted(folder, "loops.g-9.py311", source) == folder
    beside = source.parent / "__pycache__"
    beside.mkdir(parents=True)
    beside.chmod(0o775)
    assert find_untrusted(beside, "loops.f-1.py311", source) is None
    beside.chmod(0o777)
    assert find_untrusted(beside, "loops.f-1.py311", source) == beside
    if os.getuid() == 0:
        folder.chmod(0o700)
        file.chmod(0o600)
        os.chown(file, 12345, 12345)
        assert find_untrusted(folder, "loops.f-1.py311", source) == file


def test_a_loop_without_a_trusted_cache_is_compiled_and_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "find_untrusted", lambda folder, stem, source: folder)

    with pytest.warns(UserWarning, match=r"can be written by one: _stable_order is compiled again"):
        loop = cached_loop(_stable_order.py_func)
    assert isinstance(loop._cache, caching.NullCache)
    assert loop(np.array([3, 1, 2], np.uint64)).tolist() == [1, 2, 0]
    assert not list(tmp_path.rglob("*.nbi"))


def test_a_cache_made_under_a_group_writable_mask_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "made"))
    before = os.umask(0o002)
    try:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                loop = cached_loop(_stable_order.py_func)
                assert loop(np.array([3, 1, 2], np.uint64)).tolist() == [1, 2, 0]
    finally:
        os.umask(before)
    assert sum(loop.stats.cache_hits.values()) == 1 and list(tmp_path.rglob("*.nbi"))
