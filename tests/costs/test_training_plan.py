"""Estimates of the training plan, compared with a real training step."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bevstack.config import load_config
from bevstack.costs import training_plan
from bevstack.costs.detector import count_config
from bevstack.costs.training_plan import activation_bytes, plan_training
from bevstack.datasets.loader import make_training_loader
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.build import build_model
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    config = load_config("tiny_cpu_t4")
    recipe = dataclasses.replace(config.training, batch_size=1, num_workers=0)
    config = dataclasses.replace(config, training=recipe)
    root = small_world(tmp_path_factory)
    stream = make_training_loader(dataset(root), config)
    return config, next(
        b for b in stream if b.frame_valid.sum() == 3
    )  # the longest history in these scenes


def bytes_kept(config, batch):
    """Return the bytes of the storages that autograd keeps in a real forward pass."""
    torch.manual_seed(0)
    model = build_model(config)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_activations_are_estimated_within_a_fifth(batch, precision):
    """Compare with a real pass, which has another rig and computes proposals."""
    config, real = batch
    recipe = dataclasses.replace(config.training, precision=precision)
    config = dataclasses.replace(config, training=recipe)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        expected = bytes_kept(config, real)
    assert activation_bytes(config) == pytest.approx(expected, rel=0.2)


class Work(TorchDispatchMode):
    """Count of matrix products and convolutions, also of the backward pass, by torch's formulas."""

    def __init__(self):
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function._overloadpacket in flop_registry:
            formula = flop_registry[function._overloadpacket]
            self.flop += formula(*args, **(kwargs or {}), out_val=out)
        return out


def test_work_both_ways_is_estimated_within_a_fifth(batch):
    """Compare without the operators' sampling and attention, a small part of the plan's count."""
    config, real = batch
    torch.manual_seed(0)
    model = build_model(config)
    criterion = DetectorCriterion(config.loss, config.perspective)
    with Work() as work:
        criterion(model(real), real, model.grid).total.backward()
    count = count_config("tiny_cpu_t4")
    # The batch has two past frames, not three.
    missing = sum(p.gflop for p in count.parts if p.name in training_plan.ONE_FRAME_BACKWARD)
    planned = training_plan._forward_and_backward_gflop(count) - missing
    assert work.flop / 1e9 == pytest.approx(planned, rel=0.2)


def test_state_and_steps_are_counted(monkeypatch):
    plan = plan_training("tiny_cpu", samples=500)
    parameters = sum(p.numel() for p in build_model(load_config("tiny_cpu")).parameters())
    assert plan.parameters == parameters
    assert plan.state_bytes == 4 * 4 * parameters
    assert plan.samples_per_pass == 2
    assert any("2,000 in total: 4.0 times the 500" in line for line in plan.lines())
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 3 processes"):
        plan_training("tiny_cpu", samples=500, processes=3)


@pytest.mark.parametrize(
    ("first", "steps"), [(6, "steps: 6, the first 3 with"), (12, "steps: 6, all with")]
)
def test_the_plan_names_the_stages_of_another_number_of_steps(tmp_path, first, steps):
    path = tmp_path / "staged.py"
    path.write_text(
        "from dataclasses import replace\nfrom bevstack.configs.tiny_cpu_t4 import CONFIG as T4\n"
        f"recipe = replace(T4.training, num_steps=12, perspective_steps={first})\n"
        "CONFIG = replace(T4, training=recipe)\n"
    )
    plan = plan_training(str(path), samples=500, steps=6)
    assert any(f"{steps} backbone, neck and perspective head only" in line for line in plan.lines())


def test_sharding_divides_the_memory_of_the_state(tmp_path):
    path = tmp_path / "sharded.py"
    path.write_text(
        "from dataclasses import replace\nfrom bevstack.configs.tiny_cpu import CONFIG as T1\n"
        "CONFIG = replace(T1, training=replace(T1.training, engine='fsdp', ema_decay=0.9))\n"
    )
    plan = plan_training(str(path), samples=500, processes=2)
    assert plan.state_bytes == 5 * 4 * plan.parameters // 2
    assert plan.samples_per_pass == 1
