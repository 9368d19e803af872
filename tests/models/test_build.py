from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bevstack.config import Config, config_to_json
from bevstack.models.build import build_model, load_model, save_model
from bevstack.models.weights import read_safetensors, write_safetensors
from tests.models.small_models import make_batch, small_config


def saved(folder: Path, config: Config) -> Path:
    path = folder / "model.safetensors"
    torch.manual_seed(0)
    save_model(path, build_model(config), config, {"step": "7"})
    return path


def test_loaded_model_has_the_same_outputs_as_the_saved_one(tmp_path: Path) -> None:
    config = small_config(dropout=0.1)
    torch.manual_seed(3)
    model = build_model(config)
    path = tmp_path / "model.safetensors"
    save_model(path, model, config, {"step": "7"})
    state = torch.get_rng_state()
    loaded, its_config = load_model(path)
    assert its_config == config
    assert not loaded.training
    assert torch.equal(torch.get_rng_state(), state)  # loading draws nothing
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    batch = make_batch(2, 3)
    with torch.no_grad():
        wanted, got = model.eval()(batch), loaded(batch)
    assert torch.equal(got.decoder.codes, wanted.decoder.codes)
    assert torch.equal(got.bev, wanted.bev)
    assert read_safetensors(path)[1]["step"] == "7"


def test_model_builds_on_the_meta_device_with_the_same_names() -> None:
    config = small_config()
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in build_model(config).state_dict().items()}
    real = build_model(config)
    assert shapes == {name: value.shape for name, value in real.state_dict().items()}
    assert real.training
    dtypes = {value.dtype for value in real.parameters()}
    assert dtypes == {torch.float32}


def test_sizes_follow_the_configuration() -> None:
    config = small_config()
    model = build_model(config)
    assert model.encoder.bev_embedding.shape == (77, 24)
    assert model.encoder.level_embeds.shape == (3, 24)
    assert model.encoder.camera_embeds.shape == (5, 24)
    assert model.decoder.query_embedding.shape == (13, 48)
    assert len(model.encoder.layers) == len(model.decoder.layers) == 2
    assert model.decoder.head.class_branches[0][-1].out_features == 3
    assert [conv.in_channels for conv in model.neck.lateral_convs] == [16, 64]
    assert model.backbone.config.out_indices == (1, 3)


def test_images_of_a_pass_follow_the_configuration_and_change_no_output(tmp_path: Path) -> None:
    config = small_config()
    one_by_one = replace(config, images=replace(config.images, pixels_per_pass=1))
    model = build_model(config).eval()
    save_model(tmp_path / "m.safetensors", model, one_by_one)
    loaded, _ = load_model(tmp_path / "m.safetensors")
    assert (model.pixels_per_pass, loaded.pixels_per_pass) == (2**20, 1)
    data = make_batch(1, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(data).bev, model(data).bev, rtol=2e-5, atol=2e-5)


def test_weights_of_another_configuration_name_the_first_differing_fields(tmp_path: Path) -> None:
    config = small_config()
    path = saved(tmp_path, config)
    wider = replace(
        config,
        decoder=replace(config.decoder, num_queries=14),
        encoder=replace(config.encoder, num_layers=3),
    )
    with pytest.raises(ValueError, match="must be of the configuration given") as caught:
        load_model(path, expected=wider)
    assert "decoder.num_queries: 14 != 13" in str(caught.value)
    assert "encoder.num_layers: 3 != 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_how_a_model_was_trained_does_not_matter(tmp_path: Path) -> None:
    config = small_config()
    path = saved(tmp_path, config)
    other = replace(
        config,
        name="other",
        training=replace(config.training, num_steps=3),
        loss=replace(config.loss, box_weight=1.0),
    )
    _, its_config = load_model(path, expected=other)
    assert its_config == config


def test_file_without_its_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    write_safetensors(path, build_model(small_config()).state_dict(), {})
    with pytest.raises(ValueError, match="weights must hold their configuration"):
        load_model(path)


def test_configuration_of_a_newer_version_is_refused_by_field(tmp_path: Path) -> None:
    path = tmp_path / "newer.safetensors"
    text = config_to_json(small_config()).replace('"num_queries"', '"number_of_queries"')
    write_safetensors(
        path,
        build_model(small_config()).state_dict(),
        {"format": "bevstack-model-1", "config": text},
    )
    with pytest.raises(ValueError, match="number_of_queries"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"), [("drop", "lacks"), ("add", "also has"), ("reshape", "other sizes of")]
)
def test_tensors_that_do_not_fit_their_configuration_are_named(
    tmp_path: Path, change: str, message: str
) -> None:
    path = saved(tmp_path, small_config())
    tensors, metadata = read_safetensors(path)
    name = "encoder.level_embeds"
    if change == "drop":
        del tensors[name]
    elif change == "add":
        name = "encoder.extra"
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(2, 2)
    write_safetensors(path, tensors, metadata)
    with pytest.raises(ValueError, match=f"{message} {name}"):
        load_model(path)


def test_metadata_must_not_hide_the_configuration(tmp_path: Path) -> None:
    config = small_config()
    with pytest.raises(ValueError, match="metadata must not use the keys"):
        save_model(tmp_path / "x", build_model(config), config, {"config": "{}"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path, small_config())
    tensors, metadata = read_safetensors(path)
    halved = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
    write_safetensors(path, halved, metadata)
    for name, value in load_model(path)[0].state_dict().items():
        assert value.dtype == tensors[name].dtype
        assert torch.equal(value, halved[name].to(tensors[name].dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64])
def test_weights_of_another_type_are_refused_by_name(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(small_config()), small_config())
    tensors, metadata = read_safetensors(path)
    name = sorted(tensors)[3]
    write_safetensors(path, {**tensors, name: tensors[name].to(dtype)}, metadata)
    got = str(dtype).removeprefix("torch.")
    wanted = rf"must be float32, float16 or bfloat16; got {got} in {name} of "
    with pytest.raises(ValueError, match=wanted):
        load_model(path)
