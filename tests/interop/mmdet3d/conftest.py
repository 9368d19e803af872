"""The world of the tests, which `make test-mmdet3d` runs where mmdetection3d is installed.

Without mmcv's compiled operators (mmcv-lite) mmdetection3d cannot be imported. No test but those of
`test_operators.py` calls one, so functions that refuse to run take their place.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

OPERATORS = "mmcv._ext"


class StandIn(ModuleType):
    """Module with a function of every name, which raises an error."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*arguments: object, **options: object) -> None:
            raise RuntimeError(f"mmcv was installed without its operators; got a call of {name}")

        return missing


if importlib.util.find_spec("mmcv") and not importlib.util.find_spec(OPERATORS):
    sys.modules[OPERATORS] = StandIn(OPERATORS)
    sys.modules[OPERATORS].__spec__ = ModuleSpec(OPERATORS, None)  # mmengine looks for it


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with ``data/nuscenes`` and ``newer``; see ``worlds``."""
    from tests.interop.mmdet3d.worlds import mini_world

    return mini_world(tmp_path_factory)
