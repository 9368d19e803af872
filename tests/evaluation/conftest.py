from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import shared_dir
from tests.tables.tiny_root import write_tiny_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write the hand-made root of two scenes with two rigs."""
    return write_tiny_root(tmp_path / "root")


@pytest.fixture
def real_root() -> Path:
    """Return the real mini_val tables, with images of four samples."""
    shared = shared_dir()
    if shared is None:
        pytest.skip("no real data: neither ../shared nor $BEVSTACK_SHARED")
    return shared / "data/nuscenes_minival"
