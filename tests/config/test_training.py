"""Refusal of contradictory training recipes, and recipes with another number of steps."""

import pytest

from bevstack.config import Config, TrainingConfig, config_from_json


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 3}, r"accumulate must divide batch_size = 16; got 3"),
        ({"accumulate": 0}, r"accumulate must be positive; got 0"),
        ({"num_steps": 5, "perspective_steps": 6}, r"at least 0 and at most num_steps = 5; got 6"),
        ({"perspective_steps": -1}, r"perspective_steps must be at least 0"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\); got 1\.0"),
        ({"precision": "float16"}, r"precision must be one of \('float32', 'bfloat16'\)"),
        ({"engine": "horovod"}, r"engine must be one of \('ddp', 'fsdp'\); got 'horovod'"),
        ({"on_bad_sample": "ignore"}, r"on_bad_sample must be one of \('stop', 'skip'\)"),
        ({"on_bad_step": ""}, r"on_bad_step must be one of"),
        ({"max_skipped": -1}, r"max_skipped must be >= 0; got -1"),
        ({"evaluate_every": -5}, r"evaluate_every must be >= 0; got -5"),
    ],
)
def test_contradictions_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**fields)


def test_a_first_stage_needs_a_perspective_head():
    with pytest.raises(ValueError, match=r"perspective_steps must be 0 without perspective"):
        Config(name="x", training=TrainingConfig(perspective_steps=10))


def test_recipes_of_the_first_versions_are_read_with_defaults():
    config = config_from_json('{"name": "x", "training": {"num_steps": 7, "log_every": 3}}')
    assert config.training == TrainingConfig(num_steps=7, log_every=3)
    assert (config.training.accumulate, config.training.ema_decay) == (1, 0.0)
    assert (config.training.on_bad_sample, config.training.on_bad_step) == ("stop", "stop")


def test_a_recipe_with_other_steps_keeps_its_proportions():
    recipe = TrainingConfig(
        num_steps=1000, perspective_steps=400, evaluate_every=250, warmup_steps=30, seed=5
    )
    half = recipe.with_num_steps(500)
    assert (half.num_steps, half.perspective_steps, half.evaluate_every) == (500, 200, 125)
    assert (half.warmup_steps, half.seed) == (20, 5)  # a tenth of the first stage's 200 steps
    assert recipe.with_num_steps(1000) == recipe
    longer = recipe.with_num_steps(10_000)
    assert (longer.perspective_steps, longer.warmup_steps) == (4000, 30)


def test_a_stage_that_is_missing_stays_missing():
    recipe = TrainingConfig(num_steps=1000, perspective_steps=0, warmup_steps=900).with_num_steps(
        10
    )
    assert (recipe.perspective_steps, recipe.evaluate_every, recipe.warmup_steps) == (0, 0, 1)
    shortest = TrainingConfig(num_steps=1000, perspective_steps=1).with_num_steps(2)
    assert (shortest.perspective_steps, shortest.warmup_steps) == (1, 0)
    last = TrainingConfig(num_steps=1000, perspective_steps=999).with_num_steps(10)
    assert last.perspective_steps == 9  # one step remains for the second stage
    single_stage = TrainingConfig(
        num_steps=1000, perspective_steps=1000, warmup_steps=50
    ).with_num_steps(100)
    assert (single_stage.perspective_steps, single_stage.warmup_steps) == (100, 10)


@pytest.mark.parametrize("steps", [-3, 0, 1])
def test_every_stage_needs_a_step(steps):
    with pytest.raises(
        ValueError, match=rf"num_steps must be at least 2, a step for each stage; got {steps}"
    ):
        TrainingConfig(num_steps=100, perspective_steps=40).with_num_steps(steps)
    if steps < 1:
        with pytest.raises(ValueError, match=rf"num_steps must be positive; got {steps}"):
            TrainingConfig(num_steps=100).with_num_steps(steps)
