"""Models without values, which the loading of weights starts from."""

import subprocess
import sys

import pytest
import torch

from bevstack.config import load_config
from bevstack.models.build import build_model
from bevstack.models.skeleton import skeleton

_LOADS = """
import sys, bevstack
bevstack.load(sys.argv[1])
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("name", ["tiny_cpu_t4", "tiny_cpu_t4_traffic"])
def test_packaged_weights_are_loaded_without_the_compiler_of_torch(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _LOADS, name], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False"]


def test_skeleton_has_the_tensors_of_the_model_and_draws_nothing() -> None:
    config = load_config("tiny_cpu_t4")
    whole = build_model(config).state_dict()
    before = torch.random.get_rng_state()
    with skeleton():
        shapes = build_model(config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in shapes.values())
    assert {name: (t.shape, t.dtype) for name, t in shapes.items()} == {
        name: (t.shape, t.dtype) for name, t in whole.items()
    }


def test_within_a_skeleton_tensors_with_values_are_still_drawn() -> None:
    with skeleton():
        drawn = torch.nn.init.normal_(torch.zeros(100, device="cpu"))
    assert drawn.abs().sum() > 0
