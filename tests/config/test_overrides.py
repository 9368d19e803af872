"""Overrides of single fields: values by type, nested sections, refusals that suggest a field."""

import dataclasses

import pytest

from bevstack.config import (
    ResNetConfig,
    TemporalConfig,
    flat_fields,
    load_config,
    packaged_configs,
    with_overrides,
)

TINY = load_config("tiny_cpu")
T4 = load_config("tiny_cpu_t4")


@pytest.mark.parametrize(
    ("override", "section", "wanted"),
    [
        ("training.learning_rate=3e-4", "training", 3e-4),
        ("training.learning_rate=1", "training", 1.0),
        ("decoder.num_queries=200", "decoder", 200),
        ("training.tensorboard=true", "training", True),
        ("training.tensorboard=False", "training", False),
        ("training.on_bad_sample=skip", "training", "skip"),
        ("training.schedule='step'", "training", "step"),
        ("decoder.nms_iou=null", "decoder", None),
        ("decoder.nms_iou=0.25", "decoder", 0.25),
        ("encoder.num_levels=none", "encoder", None),
        ("encoder.num_levels=2", "encoder", 2),
        ("images.size=96,160", "images", (96, 160)),
        ("images.size=[96, 160]", "images", (96, 160)),
        ("images.size=(96,160)", "images", (96, 160)),
        ("training.decay_at=[]", "training", ()),
        ("training.decay_at=0.5,", "training", (0.5,)),
        ("training.betas=0.8,0.99", "training", (0.8, 0.99)),
        ("backbone.drop_path_rate = 0.2", "backbone", 0.2),
    ],
)
def test_a_value_is_read_by_the_type_of_its_field(override, section, wanted):
    name = override.split("=")[0].strip().split(".")[1]
    changed = with_overrides(T4, [override])
    value = getattr(getattr(changed, section), name)
    assert value == wanted and type(value) is type(wanted)
    unchanged = dataclasses.replace(
        getattr(changed, section), **{name: getattr(getattr(T4, section), name)}
    )
    assert dataclasses.replace(changed, **{section: unchanged}) == T4


def test_lists_of_names_and_lists_of_lists_need_no_quotes():
    changed = with_overrides(TINY, ["class_names=car,pedestrian", "name=mine", "frames=0,"])
    assert (changed.class_names, changed.name, changed.frames) == (
        ("car", "pedestrian"),
        "mine",
        (0,),
    )
    sizes = ",".join("[4,2,1.5]" for _ in range(10))
    changed = with_overrides(T4, [f"perspective.canonical_size_m=[{sizes}]"])
    assert changed.perspective.canonical_size_m == ((4.0, 2.0, 1.5),) * 10


def test_fields_at_any_depth_and_sections_that_are_null():
    changed = with_overrides(T4, ["perspective.small_images.min_extent=2"])
    assert changed.perspective.small_images.min_extent == 2.0
    assert with_overrides(T4, ["perspective.small_images=null"]).perspective.small_images is None
    changed = with_overrides(TINY, ["frames=-1,0", "temporal.norm=GN", "temporal.norm_groups=8"])
    assert changed.temporal == TemporalConfig(norm="GN", norm_groups=8)


def test_fields_that_depend_on_each_other_change_together():
    with pytest.raises(ValueError, match=r"training\.perspective_steps must be .* num_steps = 600"):
        with_overrides(T4, ["training.num_steps=600"])
    both = with_overrides(T4, ["training.num_steps=600", "training.perspective_steps=200"])
    assert (both.training.num_steps, both.training.perspective_steps) == (600, 200)


def test_a_section_of_another_class_starts_from_its_defaults():
    resnet = with_overrides(TINY, ["backbone.norm=BN", "backbone.kind=ResNetConfig"])
    assert resnet.backbone == ResNetConfig(norm="BN")
    same = with_overrides(TINY, ["backbone.kind=InternImageConfig", "backbone.mlp_ratio=2"])
    assert same.backbone == dataclasses.replace(TINY.backbone, mlp_ratio=2.0)
    with pytest.raises(
        ValueError, match=r"backbone\.kind must be one of .*ResNetConfig; got 'VGG'"
    ):
        with_overrides(TINY, ["backbone.kind=VGG"])


@pytest.mark.parametrize("name", packaged_configs())
def test_printed_fields_are_read_back_to_an_equal_configuration(name):
    config = load_config(name)
    texts = [f"{key}={value}" for key, value in flat_fields(config).items()]
    assert with_overrides(TINY, texts) == config
    assert with_overrides(config, []) is config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.learning_rat=1",
            "no field 'training.learning_rat'; did you mean 'training.learning_rate'",
        ),
        ("trainning.learning_rate=1", "did you mean 'training.learning_rate'"),
        ("training.lr=1", "did you mean 'training.learning_rate'"),
        ("learning_rate=1", "did you mean 'training.learning_rate'"),
        ("lerning_rate=1", "did you mean 'training.learning_rate'"),
        ("encoder.num_queries=1", "did you mean 'decoder.num_queries'"),
        ("num_heads=1", "did you mean 'encoder.num_heads' or 'decoder.num_heads'"),
        ("backbone.depht=50", "no field 'backbone.depht'; did you mean 'backbone.depths'"),
        ("grid.xyzzy=1", "known fields of grid: grid.x_range_m"),
        (
            "training=5",
            "'training' must be set field by field, such as training.num_steps=...; got '5'",
        ),
        ("grid=null", "'grid' must be set field by field"),
        (
            "training.num_steps.x=5",
            "'training.num_steps.x' must be a field; got 'training.num_steps'",
        ),
        ("decoder.num_queries=2.5", "decoder.num_queries must be a whole number; got '2.5'"),
        ("decoder.num_queries=", "decoder.num_queries must be a whole number; got ''"),
        ("decoder.num_queries=-3", "decoder.num_queries must be positive; got -3"),
        ("decoder.nms_iou=often", "decoder.nms_iou must be a finite number or null; got 'often'"),
        ("training.learning_rate=nan", "training.learning_rate must be a finite number; got 'nan'"),
        ("training.learning_rate=null", "must be a finite number; got 'null'"),
        ("training.tensorboard=1", "training.tensorboard must be true or false; got '1'"),
        ("images.size=96", "images.size must hold 2 values; got '96'"),
        ("images.size=[96,160", "images.size must close its brackets"),
        ("images.size=96,wide", "images.size[1] must be a whole number; got 'wide'"),
        ("frames=", "frames must be a list such as 1,2; got no value"),
        ("decoder.num_queries", "must be of the form section.field=value"),
        (".".join("a" * 3000) + "=1", "configuration has no field 'a.a"),
        ("training.learning_rate=" + "x" * 5000, "x..."),
        ("=5", "must be of the form section.field=value"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override, message):
    with pytest.raises(ValueError) as refusal:
        with_overrides(T4, [override])
    assert message in str(refusal.value) and len(str(refusal.value)) < 400, refusal.value


def test_a_key_is_given_once_and_not_beside_its_section():
    for texts in (
        ["name=a", "name=a"],
        ["temporal=null", "temporal.norm=GN"],
        ["temporal.norm=GN", "temporal=null"],
    ):
        with pytest.raises(ValueError, match=r"must (not )?be set"):
            with_overrides(T4, texts)
