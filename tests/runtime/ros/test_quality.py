"""Qualities of service that parameters change, as ROS 2 names them."""

from __future__ import annotations

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import open_store
from bevstack.runtime.node.parameters import Parameters, parse_setting
from bevstack.runtime.ros.quality import RESULTS, SENSOR_DATA, Quality
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.subscriptions import subscriptions
from bevstack.runtime.ros.wiring import make_node
from tests.runtime.node.inputs import CAMERAS, FakeDetector

IMAGE = "/CAM_BACK/image_raw/compressed"


def node(*settings: str) -> NodeParts:
    parameters = Parameters({"cameras": CAMERAS})
    for text in settings:
        parameters.set(*parse_setting(text))
    return make_node(FakeDetector(), parameters, open_store(), model="fake", times=True)


def test_depth_reliability_and_durability_of_one_topic_are_changed() -> None:
    parts = node(
        f"qos_overrides.{IMAGE}.subscription.depth=12",
        f"qos_overrides.{IMAGE}.subscription.reliability=reliable",
        f"qos_overrides.{IMAGE}.subscription.history=keep_last",
        "qos_overrides./bevstack/objects.publisher.durability=transient_local",
        "qos_overrides./bevstack/latency/total_ms.publisher.reliability=best_effort",
    )
    found = {s.topic: s.quality for s in subscriptions(parts.core.parameters)}
    assert found.pop(IMAGE) == Quality(depth=12, reliable=True)
    defaults = {s.topic: s.quality for s in subscriptions(Parameters({"cameras": CAMERAS}))}
    assert defaults.pop(IMAGE) == SENSOR_DATA and found == defaults
    quality = parts.publisher.quality
    assert quality("/bevstack/objects") == Quality(depth=1, reliable=True, latched=True)
    assert quality("/bevstack/latency/total_ms") == Quality(depth=1, reliable=False)
    assert quality("/bevstack/tracks") == RESULTS


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"{IMAGE}.subscription.depth=0", "depth must be a whole number from 1 to 10000; got '0'"),
        (f"{IMAGE}.subscription.depth=1e3", "must be a whole number from 1 to 10000; got '1e3'"),
        (f"{IMAGE}.subscription.reliability=yes", "must be best_effort or reliable; got 'yes'"),
        (f"{IMAGE}.subscription.history=keep_all", "must be keep_last; got 'keep_all'"),
        (f"{IMAGE}.subscription.deadline=1", "must be depth, reliability, durability, history; "),
        ("/bevstack/tracks.publisher.depth=-1", "publisher.depth must be a whole number"),
        (
            "/CAM_BAK/image_raw/compressed.subscription.depth=3",
            f"did you mean {IMAGE}.subscription",
        ),
        ("/tf.publisher.depth=3", "must have TOPIC.subscription or TOPIC.publisher of the node"),
        ("depth=3", "must have TOPIC.subscription or TOPIC.publisher of the node; got 'depth'"),
    ],
)
def test_a_wrong_override_is_named(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^parameter qos_overrides") as caught:
        node(f"qos_overrides.{setting}")
    assert message in str(caught.value)


def test_a_configured_node_refuses_overrides() -> None:
    with pytest.raises(ValueError, match="parameter must be one of the node's; got 'qos_over"):
        node().core.parameters.set("qos_overrides./tf.subscription.depth", 3)
