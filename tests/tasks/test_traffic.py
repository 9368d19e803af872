"""The task of lights and signs: alone with kept boxes, together with them, and as a predictor."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import bevstack
from bevstack.config import TrafficConfig
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.models.build import build_model, save_model
from bevstack.models.weights import read_safetensors
from bevstack.tasks.detection3d import Detection3D
from bevstack.tasks.joint import JointPart, JointTask
from bevstack.tasks.traffic import Traffic
from bevstack.training import train
from bevstack.training.processes import Processes
from tests.models.traffic.cases import camera, sample
from tests.small_world import CONFIG, dataset, small_world

SECTION = TrafficConfig(
    channels=16, num_convs=1, roi_channels=24, max_candidates=8, samples=2, min_height_px=3.0
)


def settings(section=SECTION, **training):
    """Return the small detector with lights; batches of two samples with lights."""
    recipe = dataclasses.replace(
        CONFIG.training, num_steps=2, checkpoint_every=2, batch_size=2, **training
    )
    return dataclasses.replace(CONFIG, traffic=section, training=recipe)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def joint_task(config, root, *, boxes=0, **fields):
    """Return the joint task of boxes and lights; boxes without samples keep their weights."""
    own = dataset(root)
    detection = Detection3D(config, own if boxes else None)
    traffic = Traffic(config, FrontSamples.open(own, config))
    parts = [
        JointPart(task=detection, num_samples=boxes),
        JointPart(task=traffic, num_samples=config.traffic.samples, **fields),
    ]
    return JointTask(parts, config.training)


def test_lights_train_while_boxes_keep_their_weights(root, tmp_path):
    config = settings(dataclasses.replace(SECTION, train_backbone=False))
    torch.manual_seed(3)
    before = build_model(CONFIG).eval()
    save_model(tmp_path / "boxes.safetensors", before, CONFIG)
    task = joint_task(config, root)
    result = train(task, tmp_path / "run", start=tmp_path / "boxes.safetensors")
    weights, metadata = read_safetensors(result.weights)
    assert json.loads(metadata["tasks"]) == ["detection3d", "traffic"]
    for name, value in before.state_dict().items():
        key = name if name.startswith("backbone.") else f"tasks.detection3d.{name}"
        assert torch.equal(weights[key], value), name
    detector = bevstack.load(result.weights)
    frame = dataset(root).frame(1)
    found = detector.further["traffic"].predict(frame)
    assert (found.camera == frame.camera_names.index("CAM_FRONT")).all()
    lost = dataclasses.replace(frame, images=[None] * frame.num_cameras, camera_mask=None)
    assert not len(detector.further["traffic"].predict(lost))
    assert detector.further["traffic"].fingerprint() != ""


def test_lights_ride_on_the_samples_of_the_boxes(root):
    config = settings()
    own = dataset(root)
    traffic = Traffic(config, FrontSamples.open(own, config))
    parts = [
        JointPart(task=Detection3D(config, own), num_samples=2),
        JointPart(task=traffic, same_samples_as="detection3d"),
    ]
    task = JointTask(parts, config.training)
    batch = next(iter(task.make_batches(config.training, Processes(), start=0)))
    labels = batch.parts["detection3d"].labels["traffic"]
    assert labels.sample_tokens == batch.parts["detection3d"].sample_tokens
    model = task.build_model().train()
    losses = task.losses(task.forward(model, batch, first_stage=False), batch)
    losses.total.backward()
    assert float(losses.terms["traffic"]) > 0 and float(losses.terms["detection3d"]) > 0
    again = next(iter(task.make_batches(config.training, Processes(), start=0)))
    views = again.parts["detection3d"].labels["traffic"].views
    assert torch.equal(views.images, labels.views.images)  # the same draw of the augmentation


def test_samples_without_a_front_camera_give_no_loss_and_no_error(root):
    config = settings()
    task = Traffic(config, FrontSamples.open(dataset(root), config))
    blind = dataclasses.replace(sample(camera(), []), images=(), cameras=(), image_from_view=())
    batch = stack_samples([blind, blind])
    model = task.build_model()
    outputs = task.forward(model, batch, first_stage=False)
    losses = task.losses(outputs, batch)
    losses.total.backward()
    assert float(losses.total.detach()) == 0 and task.are_finite(outputs) is None
    assert task.stack([None, None]) is None


def test_weights_without_numbers_start_a_head_that_reads_numbers(tmp_path):
    torch.manual_seed(4)
    plain, numbers = settings(), settings(dataclasses.replace(SECTION, speed_limits_kmh=(30, 50)))
    before = Traffic(plain).build_model().state_dict()
    Traffic(plain).write_model(tmp_path / "plain.safetensors", before, {})
    assert Traffic(plain).read_weights(tmp_path / "plain.safetensors").keys() == before.keys()
    found = Traffic(numbers).read_weights(tmp_path / "plain.safetensors")
    model = Traffic(numbers).build_model()
    model.load_state_dict(dict(found))
    added = {name for name in model.state_dict() if name.startswith("regions.speed_limit.")}
    assert added
    assert found.keys() - before.keys() == added
    assert all(torch.equal(found[name], value) for name, value in before.items())


def test_a_configuration_without_lights_is_refused_by_name():
    with pytest.raises(ValueError, match="must have the section traffic; got small"):
        Traffic(CONFIG)
