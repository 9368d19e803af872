"""One optimiser step: its passes, its precision, its stages."""

import dataclasses

import pytest
import torch

from bevstack.datasets.loader import make_training_loader
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.tasks.detection3d import Detection3D
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.processes import Processes
from tests.small_world import CONFIG, dataset, small_world
from tests.training.two_ranks import RECIPE, all_stages, one_frame


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def one_step(root, config):
    """Run the first step; return the ``OptimizerStep`` and the outcome."""
    optimizer_step = OptimizerStep(Detection3D(config), Processes())
    stream = make_training_loader(dataset(root), config)
    return optimizer_step, optimizer_step.run(stream, iter(stream), 1)


def recipe(**changes):
    return dataclasses.replace(RECIPE, ema_decay=0.0, **changes)


def test_gradients_are_averaged_over_the_passes(root):
    """Compare with the gradients of single passes, and AdamW's first step from their mean."""
    config = one_frame(recipe(accumulate=2))
    optimizer_step = OptimizerStep(Detection3D(config), Processes())
    before = {name: p.detach().clone() for name, p in optimizer_step.model.named_parameters()}
    stream = make_training_loader(dataset(root), config)
    batches = iter(stream)
    parts = [next(batches), next(batches)]
    assert [part.batch_size for part in parts] == [2, 2]
    criterion = DetectorCriterion(config.loss)
    totals = []
    for part in parts:
        losses = criterion(optimizer_step.model(part), part, optimizer_step.model.grid)
        (0.5 * losses.total).backward()
        totals.append(float(losses.total.detach()))
    gradients = {n: p.grad.clone() for n, p in optimizer_step.model.named_parameters()}
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    outcome = optimizer_step.run(stream, iter(stream), 1)
    assert outcome.loss == pytest.approx(sum(totals) / 2, rel=1e-6)
    assert outcome.gradient_norm == pytest.approx(float(norm), rel=1e-6)
    assert outcome.sample_tokens == tuple(t for part in parts for t in part.sample_tokens)
    assert outcome.num_images == 4 * 6
    scale = min(1.0, config.training.gradient_clip / float(norm))
    for name, parameter in optimizer_step.model.named_parameters():
        rate = 1e-4 * (0.5 if name.startswith("backbone.") else 1.0)
        gradient = gradients[name] * scale
        # Both moments start at 0 and are corrected for it: the first step is g / (|g| + eps).
        step = gradient / (gradient.abs() + 1e-8)
        wanted = before[name] * (1 - rate * config.training.weight_decay) - rate * step
        large = gradient.abs() > 1e-5  # smaller ones are rounding errors, of either sign
        assert torch.allclose(parameter.detach()[large], wanted[large], rtol=1e-5, atol=1e-6), name


def test_bfloat16_affects_only_the_forward_pass(root):
    _, exact = one_step(root, all_stages(recipe()))
    optimizer_step, rounded = one_step(root, all_stages(recipe(precision="bfloat16")))
    assert rounded.loss != exact.loss
    # bfloat16 has 8 bits: each number is off by up to 0.4 %, and a matching may change.
    assert rounded.loss == pytest.approx(exact.loss, rel=0.05)
    assert {name for name, _ in rounded.terms} == {name for name, _ in exact.terms}
    states = [t for s in optimizer_step.optimizer.state.values() for t in s.values()]
    assert {t.dtype for t in (*optimizer_step.model.parameters(), *states)} == {torch.float32}
    assert rounded.updated


def test_the_first_stage_trains_only_backbone_neck_and_perspective_head(root):
    config = all_stages(recipe(perspective_steps=1))
    optimizer_step = OptimizerStep(Detection3D(config), Processes())
    before = {name: p.detach().clone() for name, p in optimizer_step.model.named_parameters()}
    stream = make_training_loader(dataset(root), config)
    batches = iter(stream)
    outcome = optimizer_step.run(stream, batches, 1)
    assert all(name.startswith("perspective_") for name, _ in outcome.terms)
    assert outcome.loss == pytest.approx(sum(value for _, value in outcome.terms), rel=1e-5)
    named = dict(optimizer_step.model.named_parameters())
    moved = {name.split(".")[0] for name, p in named.items() if not torch.equal(p, before[name])}
    assert moved == {"backbone", "neck", "perspective_head"}
    second = optimizer_step.run(stream, batches, 2)
    assert {"class_0", "box_1", "perspective_depth"} <= {name for name, _ in second.terms}
    moved = {name.split(".")[0] for name, p in named.items() if not torch.equal(p, before[name])}
    assert moved == {"backbone", "neck", "perspective_head", "encoder", "decoder", "fusion"}


def test_the_first_stages_losses_are_those_of_the_whole_model(root):
    _, alone = one_step(root, all_stages(recipe(perspective_steps=1)))
    _, complete = one_step(root, all_stages(recipe()))
    all_terms = dict(complete.terms)
    for name, value in alone.terms:
        assert value == pytest.approx(all_terms[name], rel=1e-5), name


def test_dropout_of_a_step_depends_only_on_step_and_seed(root):
    config = one_frame(recipe())
    config = dataclasses.replace(
        config, decoder=dataclasses.replace(config.decoder, dropout=0.4), training=recipe()
    )
    _, first = one_step(root, config)
    torch.manual_seed(77)
    _, again = one_step(root, config)
    assert first.loss == again.loss
    optimizer_step = OptimizerStep(Detection3D(config), Processes())
    stream = make_training_loader(dataset(root), config)
    assert optimizer_step.run(stream, iter(stream), 2).loss != first.loss  # the same samples


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "type"])
def test_initial_weights_that_do_not_fit_are_refused_by_name(change):
    task = Detection3D(CONFIG)
    start = dict(task.build_model().state_dict())
    name = sorted(start)[0]
    if change == "missing":
        del start[name]
    elif change == "unknown":
        name = "a"
        start[name] = torch.zeros(1)
    elif change == "shape":
        start[name] = start[name][..., None]
    else:
        start[name] = start[name].double()
    with pytest.raises(
        ValueError, match=rf"initial weights must fit the model; .* for {name} \(1 "
    ):
        OptimizerStep(task, Processes(device=torch.device("cpu")), start=start)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_initial_weights_in_half_precision_are_widened(dtype):
    task = Detection3D(CONFIG)
    halves = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in task.build_model().state_dict().items()
    }
    step = OptimizerStep(task, Processes(device=torch.device("cpu")), start=halves)
    for name, value in step.model.state_dict().items():
        assert torch.equal(value, halves[name].to(value.dtype)), name
