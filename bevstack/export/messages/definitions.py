"""Fields of messages that no distribution's store holds, as text in ROS' own form.

Names, types and order of fields are facts of the interfaces: autoware_perception_msgs as served
from 1.1.0 on, and vision_msgs 4 (ROS 2) and 0.0.1 (ROS 1). Constants that the export uses stand in
the files of the formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_AUTOWARE = "autoware_perception_msgs/msg/"
_VISION = "vision_msgs/msg/"

# In 1.8.0, TrafficLightGroup got predictions; after 1.11.0, ObjectClassification got the labels
# ANIMAL to UNDER_DRIVABLE (8 to 11), which changes no field.
AUTOWARE_VERSIONS = ("1.1", "1.8", "newest")

AUTOWARE_MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        _AUTOWARE + "ObjectClassification": "uint8 label\nfloat32 probability",
        _AUTOWARE + "Shape": (
            "uint8 type\ngeometry_msgs/Polygon footprint\ngeometry_msgs/Vector3 dimensions"
        ),
        _AUTOWARE + "DetectedObjectKinematics": (
            "geometry_msgs/PoseWithCovariance pose_with_covariance\n"
            "bool has_position_covariance\n"
            "uint8 orientation_availability\n"
            "geometry_msgs/TwistWithCovariance twist_with_covariance\n"
            "bool has_twist\n"
            "bool has_twist_covariance"
        ),
        _AUTOWARE + "DetectedObject": (
            "float32 existence_probability\n"
            "autoware_perception_msgs/ObjectClassification[] classification\n"
            "autoware_perception_msgs/DetectedObjectKinematics kinematics\n"
            "autoware_perception_msgs/Shape shape"
        ),
        _AUTOWARE + "DetectedObjects": (
            "std_msgs/Header header\nautoware_perception_msgs/DetectedObject[] objects"
        ),
        _AUTOWARE + "TrackedObjectKinematics": (
            "geometry_msgs/PoseWithCovariance pose_with_covariance\n"
            "geometry_msgs/TwistWithCovariance twist_with_covariance\n"
            "geometry_msgs/AccelWithCovariance acceleration_with_covariance\n"
            "uint8 orientation_availability\n"
            "bool is_stationary"
        ),
        _AUTOWARE + "TrackedObject": (
            "unique_identifier_msgs/UUID object_id\n"
            "float32 existence_probability\n"
            "autoware_perception_msgs/ObjectClassification[] classification\n"
            "autoware_perception_msgs/TrackedObjectKinematics kinematics\n"
            "autoware_perception_msgs/Shape shape"
        ),
        _AUTOWARE + "TrackedObjects": (
            "std_msgs/Header header\nautoware_perception_msgs/TrackedObject[] objects"
        ),
        _AUTOWARE + "PredictedPath": (
            "geometry_msgs/Pose[] path\nbuiltin_interfaces/Duration time_step\nfloat32 confidence"
        ),
        _AUTOWARE + "PredictedObjectKinematics": (
            "geometry_msgs/PoseWithCovariance initial_pose_with_covariance\n"
            "geometry_msgs/TwistWithCovariance initial_twist_with_covariance\n"
            "geometry_msgs/AccelWithCovariance initial_acceleration_with_covariance\n"
            "autoware_perception_msgs/PredictedPath[] predicted_paths"
        ),
        _AUTOWARE + "PredictedObject": (
            "unique_identifier_msgs/UUID object_id\n"
            "float32 existence_probability\n"
            "autoware_perception_msgs/ObjectClassification[] classification\n"
            "autoware_perception_msgs/PredictedObjectKinematics kinematics\n"
            "autoware_perception_msgs/Shape shape"
        ),
        _AUTOWARE + "PredictedObjects": (
            "std_msgs/Header header\nautoware_perception_msgs/PredictedObject[] objects"
        ),
        _AUTOWARE + "TrafficLightElement": (
            "uint8 color\nuint8 shape\nuint8 status\nfloat32 confidence"
        ),
        "autoware_internal_debug_msgs/msg/Float64Stamped": (
            "builtin_interfaces/Time stamp\nfloat64 data"
        ),
        _AUTOWARE + "TrafficLightGroupArray": (
            "builtin_interfaces/Time stamp\n"
            "autoware_perception_msgs/TrafficLightGroup[] traffic_light_groups"
        ),
    }
)

_GROUP = "int64 traffic_light_group_id\nautoware_perception_msgs/TrafficLightElement[] elements"
# What differs between the versions.
AUTOWARE_GROUPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "1.1": {_AUTOWARE + "TrafficLightGroup": _GROUP},
        "1.8": {
            _AUTOWARE + "PredictedTrafficLightState": (
                "builtin_interfaces/Time predicted_stamp\n"
                "autoware_perception_msgs/TrafficLightElement[] simultaneous_elements\n"
                "float32 reliability\n"
                "string information_source"
            ),
            _AUTOWARE + "TrafficLightGroup": (
                f"{_GROUP}\nautoware_perception_msgs/PredictedTrafficLightState[] predictions"
            ),
        },
    }
)

VISION_MESSAGES_ROS2: Mapping[str, str] = MappingProxyType(
    {
        _VISION + "ObjectHypothesis": "string class_id\nfloat64 score",
        _VISION + "ObjectHypothesisWithPose": (
            "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
        ),
        _VISION + "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
        _VISION + "Detection3D": (
            "std_msgs/Header header\n"
            "vision_msgs/ObjectHypothesisWithPose[] results\n"
            "vision_msgs/BoundingBox3D bbox\n"
            "string id"
        ),
        _VISION + "Detection3DArray": (
            "std_msgs/Header header\nvision_msgs/Detection3D[] detections"
        ),
    }
)

VISION_MESSAGES_ROS1: Mapping[str, str] = MappingProxyType(
    {
        _VISION + "ObjectHypothesisWithPose": (
            "int64 id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose"
        ),
        _VISION + "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
        _VISION + "Detection3D": (
            "Header header\n"
            "vision_msgs/ObjectHypothesisWithPose[] results\n"
            "vision_msgs/BoundingBox3D bbox\n"
            "sensor_msgs/PointCloud2 source_cloud"
        ),
        _VISION + "Detection3DArray": "Header header\nvision_msgs/Detection3D[] detections",
    }
)

# The store of ROS 1 lacks it.
TF_MESSAGE: Mapping[str, str] = MappingProxyType(
    {"tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms"}
)
