"""Apollo's messages as protobuf classes, made of the published field numbers."""

from __future__ import annotations

from typing import Any

import pytest

REASON = "needs protobuf"
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason=REASON)
descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool", reason=REASON)
message_factory = pytest.importorskip("google.protobuf.message_factory", reason=REASON)

# Message -> field -> (number, type); "*" marks a repeated field. proto2.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Header": {
        "timestamp_sec": (1, "double"),
        "module_name": (2, "string"),
        "sequence_num": (3, "uint32"),
        "lidar_timestamp": (4, "uint64"),
        "camera_timestamp": (5, "uint64"),
        "radar_timestamp": (6, "uint64"),
        "frame_id": (9, "string"),
    },
    "Point3D": {"x": (1, "double"), "y": (2, "double"), "z": (3, "double")},
    "PerceptionObstacle": {
        "id": (1, "int32"),
        "position": (2, "Point3D"),
        "theta": (3, "double"),
        "velocity": (4, "Point3D"),
        "length": (5, "double"),
        "width": (6, "double"),
        "height": (7, "double"),
        "polygon_point": (8, "*Point3D"),
        "tracking_time": (9, "double"),
        "type": (10, "ObstacleType"),
        "timestamp": (11, "double"),
        "confidence": (13, "double"),
        "sub_type": (19, "ObstacleSubType"),
        "position_covariance": (22, "*double"),
        "velocity_covariance": (23, "*double"),
    },
    "PerceptionObstacles": {
        "perception_obstacle": (1, "*PerceptionObstacle"),
        "header": (2, "Header"),
    },
    "TrafficLight": {
        "color": (1, "LightColor"),
        "id": (2, "string"),
        "confidence": (3, "double"),
        "tracking_time": (4, "double"),
        "blink": (5, "bool"),
        "remaining_time": (6, "double"),
    },
    "TrafficLightDetection": {
        "traffic_light": (1, "*TrafficLight"),
        "header": (2, "Header"),
        "contain_lights": (4, "bool"),
    },
    "PathPoint": {
        "x": (1, "double"),
        "y": (2, "double"),
        "z": (3, "double"),
        "theta": (4, "double"),
        "kappa": (5, "double"),
        "s": (6, "double"),
    },
    "GaussianInfo": {
        "sigma_x": (1, "double"),
        "sigma_y": (2, "double"),
        "correlation": (3, "double"),
    },
    "TrajectoryPoint": {
        "path_point": (1, "PathPoint"),
        "v": (2, "double"),
        "a": (3, "double"),
        "relative_time": (4, "double"),
        "gaussian_info": (7, "GaussianInfo"),
    },
    "Trajectory": {"probability": (1, "double"), "trajectory_point": (2, "*TrajectoryPoint")},
    "PredictionObstacle": {
        "perception_obstacle": (1, "PerceptionObstacle"),
        "timestamp": (2, "double"),
        "predicted_period": (3, "double"),
        "trajectory": (4, "*Trajectory"),
        "is_static": (7, "bool"),
    },
    "PredictionObstacles": {
        "header": (1, "Header"),
        "prediction_obstacle": (2, "*PredictionObstacle"),
        "start_timestamp": (4, "double"),
        "end_timestamp": (5, "double"),
    },
}
ENUMERATIONS = {
    "ObstacleType": (
        *("UNKNOWN", "UNKNOWN_MOVABLE", "UNKNOWN_UNMOVABLE"),
        *("PEDESTRIAN", "BICYCLE", "VEHICLE"),
    ),
    "ObstacleSubType": (
        *("ST_UNKNOWN", "ST_UNKNOWN_MOVABLE", "ST_UNKNOWN_UNMOVABLE", "ST_CAR", "ST_VAN"),
        *("ST_TRUCK", "ST_BUS", "ST_CYCLIST", "ST_MOTORCYCLIST", "ST_TRICYCLIST"),
        *("ST_PEDESTRIAN", "ST_TRAFFICCONE"),
    ),
    "LightColor": ("LIGHT_UNKNOWN", "RED", "YELLOW", "GREEN", "BLACK"),
}


def message_classes() -> dict[str, Any]:
    """Return the class of each message by its name."""
    file = descriptor_pb2.FileDescriptorProto(name="apollo.proto", package="apollo")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            if kind in MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".apollo.{kind}"
            elif kind in ENUMERATIONS:
                # An enumeration stands inside its message, so that names may repeat.
                added.type, added.type_name = kinds.TYPE_ENUM, f".apollo.{name}.{kind}"
                enumeration = message.enum_type.add(name=kind)
                for value, text in enumerate(ENUMERATIONS[kind]):
                    enumeration.value.add(name=text.removeprefix("LIGHT_"), number=value)
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"apollo.{name}"))
        for name in MESSAGES
    }
