"""Fields of installed message classes are compared with those that the node writes."""

from __future__ import annotations

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import ROS2_DISTROS, MessageStore, open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.publishing import TOPICS
from bevstack.runtime.ros.rclpy_messages import import_class
from bevstack.runtime.ros.subscriptions import subscriptions
from tests.runtime.ros.fake_rclpy import installed


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


def test_installed_messages_with_other_fields_are_refused(store: MessageStore) -> None:
    older = open_store("humble", "1.1")
    with installed(older):
        assert import_class(older, "autoware_perception_msgs/TrafficLightGroupArray")
        with pytest.raises(
            ValueError,
            match="installed message autoware_perception_msgs/msg/TrafficLightGroup must have the "
            r"fields of humble and Autoware 1\.8; got no predictions: choose",
        ):
            import_class(store, "autoware_perception_msgs/TrafficLightGroupArray")


@pytest.mark.parametrize("distro", ROS2_DISTROS)
def test_the_types_of_all_topics_agree_with_those_of_each_distribution(distro: str) -> None:
    own = open_store(distro)
    names = [s.type_name for s in subscriptions(Parameters())] + list(TOPICS.values())
    names += ["diagnostic_msgs/msg/DiagnosticArray", "rosgraph_msgs/msg/Clock"]
    with installed(own):
        for name in names:
            assert import_class(own, name).__name__ == name.rpartition("/")[2]


def test_names_of_types_are_those_of_generated_classes(store: MessageStore) -> None:
    """As `get_fields_and_field_types` of ROS 2's own packages gives them."""
    known = {
        "diagnostic_msgs/msg/DiagnosticStatus": {
            "level": "octet",
            "name": "string",
            "message": "string",
            "hardware_id": "string",
            "values": "sequence<diagnostic_msgs/KeyValue>",
        },
        "unique_identifier_msgs/msg/UUID": {"uuid": "uint8[16]"},
        "geometry_msgs/msg/PoseWithCovariance": {
            "pose": "geometry_msgs/Pose",
            "covariance": "double[36]",
        },
        "std_msgs/msg/ColorRGBA": dict.fromkeys("rgba", "float"),
        "sensor_msgs/msg/CompressedImage": {
            "header": "std_msgs/Header",
            "format": "string",
            "data": "sequence<uint8>",
        },
        "sensor_msgs/msg/RegionOfInterest": {
            **dict.fromkeys(("x_offset", "y_offset", "height", "width"), "uint32"),
            "do_rectify": "boolean",
        },
    }
    with installed(store):
        for name, fields in known.items():
            assert import_class(store, name).get_fields_and_field_types() == fields
