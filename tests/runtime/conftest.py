"""Fixtures: a small world, its frames, and a small temporal detector with random weights."""

import pytest

from bevstack.runtime.detector import build
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def frames(root):
    """Return the frames of two scenes with different rigs, three each."""
    data = dataset(root, "synth_val")
    return [data.frame(index) for index in range(len(data))]


@pytest.fixture(scope="module")
def detector():
    return build(temporal())
