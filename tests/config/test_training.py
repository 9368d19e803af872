"""Contradictions between the fields of a recipe are named."""

import pytest

from bevstack.config import Config, TrainingConfig, config_from_json


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 3}, r"accumulate must divide batch_size = 16; got 3"),
        ({"accumulate": 0}, r"accumulate must be positive; got 0"),
        ({"num_steps": 5, "perspective_steps": 5}, r"at least 0 and below num_steps = 5; got 5"),
        ({"perspective_steps": -1}, r"perspective_steps must be at least 0"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\); got 1\.0"),
        ({"precision": "float16"}, r"precision must be in \('float32', 'bfloat16'\)"),
        ({"engine": "horovod"}, r"engine must be in \('ddp', 'fsdp'\); got 'horovod'"),
        ({"on_bad_sample": "ignore"}, r"on_bad_sample must be in \('stop', 'skip'\)"),
        ({"on_bad_step": ""}, r"on_bad_step must be in"),
        ({"max_skipped": -1}, r"max_skipped must be >= 0; got -1"),
        ({"evaluate_every": -5}, r"evaluate_every must be >= 0; got -5"),
    ],
)
def test_contradictions_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**fields)


def test_a_first_stage_needs_a_perspective_head():
    with pytest.raises(ValueError, match=r"perspective_steps must be 0 without perspective"):
        Config(name="x", training=TrainingConfig(perspective_steps=10))


def test_the_first_recipes_are_read_with_defaults():
    config = config_from_json('{"name": "x", "training": {"num_steps": 7, "log_every": 3}}')
    assert config.training == TrainingConfig(num_steps=7, log_every=3)
    assert (config.training.accumulate, config.training.ema_decay) == (1, 0.0)
    assert (config.training.on_bad_sample, config.training.on_bad_step) == ("stop", "stop")
