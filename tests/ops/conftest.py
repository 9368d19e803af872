"""Fixtures of the operators' tests."""

from __future__ import annotations

import ctypes
import shutil

import pytest

from tests.ops.host_device import build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernels' code for the CPU")
    return build(compiler, tmp_path_factory.mktemp("host_device"))
