"""The node on a stand-in for rclpy: topics, life cycle, parameters, simulated time and its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.lifecycle import State
from bevstack.runtime.node.parameters import DECLARED, Parameters
from bevstack.runtime.ros.publishing import LATENCIES, TOPICS
from bevstack.runtime.ros.rclpy import RclpyTransport
from bevstack.runtime.ros.subscriptions import subscriptions
from bevstack.types import Detections, Frame
from tests.runtime.node.inputs import CAMERAS
from tests.runtime.ros.fake_rclpy import installed
from tests.runtime.ros.fake_rclpy.network import Network
from tests.runtime.ros.fake_rclpy.running import wait_for
from tests.runtime.ros.rclpy_rig import Rig


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


@pytest.fixture
def network(store: MessageStore) -> Iterator[Network]:
    with installed(store) as found:
        yield found


@pytest.fixture
def rig(network: Network) -> Iterator[Rig]:
    made = Rig(network)
    made.start()
    yield made
    if network.nodes:
        made.stop()


def test_results_of_four_cameras_arrive_as_typed_messages(rig: Rig) -> None:
    tracks = rig.network.listen("/bevstack/tracks", "autoware_perception_msgs/TrackedObjects")
    rig.send_places()
    result = rig.cycle_until_result()
    assert result.header.frame_id == "base_link" and len(result.detections) == 4
    # The boxes stand 10 m before each camera, which are mounted in base_link.
    centers = [d.bbox.center.position for d in result.detections]
    found = sorted((round(c.x, 3), round(c.y, 3)) for c in centers)
    boxes = rig.detector.frames[-1]
    wanted = boxes.ego_from_cam[:, :3, 3] + 10 * boxes.ego_from_cam[:, :3, 2]
    assert np.allclose(found, sorted(map(tuple, wanted[:, :2].tolist())), atol=1e-3)
    wait_for(lambda: tracks)
    assert len(tracks[-1].objects) == 4 and len(tracks[-1].objects[0].object_id.uuid) == 16
    assert rig.stop() < 3  # 2 s on a processor of its own
    assert rig.node.lifecycle.state is State.FINALIZED and not rig.network.nodes


def test_diagnostics_go_on_in_every_state_and_end_as_finalized(rig: Rig) -> None:
    arrays = rig.network.listen("/diagnostics", "diagnostic_msgs/DiagnosticArray")
    wait_for(lambda: len(arrays) >= 2)
    assert rig.network.change_state("bevstack", "deactivate")
    count = len(arrays)
    wait_for(lambda: len(arrays) >= count + 2)
    rig.stop()

    def state(array: Any) -> str:
        (model,) = [s for s in array.status if s.name.endswith("model")]
        assert model.level in (b"\0", b"\1", b"\2")
        return str({v.key: v.value for v in model.values}["state"])

    assert [state(arrays[i]) for i in (0, -1)] == ["active", "finalized"]
    assert "inactive" in {state(array) for array in arrays}


def test_the_services_of_the_life_cycle_change_what_is_published(network: Network) -> None:
    rig = Rig(network)
    events = network.listen("/bevstack/transition_event", "lifecycle_msgs/TransitionEvent")
    rig.start()
    rig.send_places()
    rig.cycle_until_result()
    assert not network.change_state("bevstack", "configure")  # it is active
    for label, state in (("deactivate", State.INACTIVE), ("cleanup", State.UNCONFIGURED)):
        assert network.change_state("bevstack", label)
        assert rig.node.lifecycle.state is rig.node.live.state is state
        assert network.get_state("bevstack") == state.label
        before = len(rig.objects)
        for _ in range(3):
            rig.now_us = time.time_ns() // 1000
            rig.send_cycle()
            time.sleep(0.1)
        assert len(rig.objects) == before
    threads = threading.active_count()
    for label in ("configure", "activate"):
        assert network.change_state("bevstack", label)
    assert threading.active_count() == threads and len(rig.detector.singles) == 1
    rig.cycle_until_result()
    assert network.change_state("bevstack", "shutdown")
    assert rig.stop() < 3
    goals = [e.goal_state.label for e in events]
    primary = [goal for goal in goals if goal.upper() in State.__members__]
    assert primary == [
        *("inactive", "active", "inactive", "unconfigured", "inactive", "active", "finalized")
    ]
    assert len(goals) == 2 * len(primary)  # the node adds none to those of rclpy


def test_a_detector_that_refuses_the_first_pass_leaves_the_node_unconfigured(
    network: Network,
) -> None:
    rig = Rig(network)

    def refuse(frame: Frame) -> Detections:
        raise ValueError("images must be larger")

    rig.detector.predict = refuse  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="configure failed: images must be larger"):
        rig.node.start()
    assert network.get_state("bevstack") == "unconfigured"
    assert ("error", "configure failed: images must be larger") in rig.own.get_logger().lines
    rig.transport.close()


def test_a_fault_of_the_program_in_a_transition_is_raised_and_finalizes(network: Network) -> None:
    rig = Rig(network)

    def fail(frame: Frame) -> Detections:
        raise KeyError("a fault")

    rig.detector.predict = fail  # type: ignore[method-assign]
    with pytest.raises(KeyError, match="a fault"):
        rig.node.start()
    assert network.get_state("bevstack") == "finalized" and rig.transport.has_ended
    with pytest.raises(KeyError, match="a fault"):
        rig.transport.close()


def test_parameters_are_declared_with_descriptions_ranges_and_choices(network: Network) -> None:
    rig = Rig(network, use_sim_time=True, image_topics=[f"/x/{c}" for c in CAMERAS])
    for declared in DECLARED:
        found = rig.own.get_parameter(declared.name).value
        expected = rig.parameters[declared.name]
        assert found == (list(expected) or [""] if isinstance(expected, tuple) else expected)
        if declared.name == "use_sim_time":
            continue  # rclpy's own
        descriptor = rig.own.describe_parameter(declared.name)
        assert descriptor.description == declared.description
        assert descriptor.read_only == declared.read_only
        assert all(choice in descriptor.additional_constraints for choice in declared.choices)
        ranges = [(r.from_value, r.to_value) for r in descriptor.floating_point_range]
        is_number = isinstance(declared.default, float)
        assert ranges == ([(declared.low, declared.high)] if is_number else [])
    rig.transport.close()


def test_parameters_change_at_run_time_all_or_none(rig: Rig) -> None:
    def change(**values: object) -> tuple[bool, str]:
        found = rig.network.set_parameters("bevstack", **values)
        return found.successful, found.reason

    assert change(score_threshold=0.6, light_ids="hash") == (True, "")
    assert rig.parameters["score_threshold"] == 0.6 and rig.parameters["light_ids"] == "hash"
    rig.send_places()
    result = rig.cycle_until_result()
    scores = [d.results[0].hypothesis.score for d in result.detections]
    assert scores and min(scores) >= 0.6 and len(scores) < 4
    done, reason = change(score_threshold=0.1, light_ids="none")
    assert not done and "parameter light_ids must be one of map, hash" in reason
    assert rig.parameters["score_threshold"] == 0.6  # none of both
    assert change(node_name="a") == (False, "Trying to set a read-only parameter: node_name.")
    done, reason = change(use_sim_time=True)
    assert not done and "parameter use_sim_time must be set before the node starts" in reason
    assert not change(score_threshold=1.5)[0] and not change(score_threshold=1)[0]


def test_times_of_processing_and_all_topics_are_offered_with_the_documented_quality(
    network: Network,
) -> None:
    given = {"qos_overrides./bevstack/objects.publisher.reliability": "best_effort"}
    rig = Rig(network, **given)
    topics = {f"/bevstack/{name}" for name in (*TOPICS, "transition_event")} | {"/diagnostics"}
    topics |= {f"/bevstack/latency/{name}_ms" for name in LATENCIES}
    offered = {p.topic: p.quality for p in network.publishers}
    assert offered.keys() == topics
    qualities = {t: q.reliability.name for t, q in offered.items() if "event" not in t}
    assert qualities.pop("/bevstack/objects") == "BEST_EFFORT"
    assert set(qualities.values()) == {"RELIABLE"}
    asked = {s.topic: s.quality for s in network.subscriptions if "detections" not in s.topic}
    wanted = {s.topic: s.quality for s in subscriptions(rig.parameters)}
    assert asked.keys() == wanted.keys()
    for topic, quality in asked.items():
        assert quality.depth == wanted[topic].depth
        assert (quality.reliability.name == "RELIABLE") == wanted[topic].reliable
        assert (quality.durability.name == "TRANSIENT_LOCAL") == wanted[topic].latched
    rig.transport.close()


def test_simulated_time_comes_from_the_clock(network: Network) -> None:
    rig = Rig(network, use_sim_time=True, max_age_ms=1_000)
    rig.start()
    rig.now_us = 1_600_000_000_000_000
    clock = network.message("rosgraph_msgs/Clock", clock=rig.header("").stamp)
    network.publish("/clock", clock)
    wait_for(lambda: rig.node.live.now_us() == rig.now_us)
    rig.send_places()
    rig.send_cycle()
    wait_for(lambda: rig.objects)
    assert rig.objects[0].header.stamp.sec == 1_600_000_000
    rig.stop()


def test_a_shut_down_by_another_part_of_the_program_ends_the_node(rig: Rig) -> None:
    rig.own.context.try_shutdown()
    wait_for(lambda: not rig.network.nodes)
    assert rig.node.lifecycle.state is State.FINALIZED
    assert rig.stop() < 3


def test_without_autoware_messages_its_topics_are_left_out_and_named(store: MessageStore) -> None:
    missing = ("autoware_perception_msgs", "autoware_internal_debug_msgs")
    with installed(store, missing=missing) as network:
        rig = Rig(network)
        left_out = rig.transport.left_out
        names = ("objects", "tracks", "predicted", "traffic_lights")
        latencies = [f"latency/{name}_ms" for name in LATENCIES]
        assert set(left_out) == {f"/bevstack/{name}" for name in (*names, *latencies)}
        reason = left_out["/bevstack/objects"]
        assert reason.startswith("message autoware_perception_msgs/msg/DetectedObjects must be")
        assert reason.endswith(
            "package autoware_perception_msgs of ROS 2, and source its setup file"
        )
        lines = [line for _, line in rig.own.get_logger().lines]
        assert f"/bevstack/objects is not published: {reason}" in lines
        rig.start()
        rig.send_places()
        assert len(rig.cycle_until_result().detections) == 4
        rig.stop()


def test_a_package_of_needed_messages_that_is_missing_is_named(store: MessageStore) -> None:
    message = "nav_msgs/msg/Odometry must be importable"
    with (
        installed(store, missing=("nav_msgs",)) as network,
        pytest.raises(ModuleNotFoundError, match=message),
    ):
        Rig(network)


def test_a_missing_rclpy_is_named_with_the_page_that_helps(
    store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(ModuleNotFoundError, match=r"rclpy must be importable; got .* docs/node.md"):
        RclpyTransport(store, Parameters())


def test_a_store_of_ros_1_is_refused(network: Network) -> None:
    with pytest.raises(ValueError, match="distro must be one of ROS 2 for rclpy; got 'noetic'"):
        RclpyTransport(open_store("noetic"), Parameters())
