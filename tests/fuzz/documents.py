"""Valid documents that the fuzzed files start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLE_RIG = Path(__file__).parents[2] / "docs" / "rig_example.json"


def rigs() -> list[Any]:
    """Return the documented rig, and a small one with lenses and images that fit into memory."""
    camera = {
        "name": "front",
        "image": "front.jpg",
        "width": 40,
        "height": 30,
        "intrinsics": [[50.0, 0, 20], [0, 50.0, 15], [0, 0, 1]],
        "ego_from_cam": {"rotation_wxyz": [0.5, -0.5, 0.5, -0.5], "translation_m": [1, 0, 1.5]},
        "distortion": {"model": "plumb_bob", "coefficients": [-0.1, 0.01, 0.0, 0.0, 0.0]},
        "lost": False,
        "timestamp_us": 5,
    }
    rear = camera | {
        "name": "rear",
        "ego_from_cam": [[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]],
        "distortion": {"model": "equidistant", "coefficients": [0.1, 0, 0, 0]},
    }
    side = camera | {
        "name": "left",
        "distortion": {"model": "rational_polynomial", "coefficients": [0.1] * 8},
    }
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    top = {"format": "bevstack-rig-1", "timestamp_us": 7, "world_from_ego": eye}
    return [
        json.loads(EXAMPLE_RIG.read_text()),
        top | {"cameras": [camera]},
        top | {"cameras": [camera, rear, side]},
    ]


def detections() -> Any:
    """Return the boxes of one frame."""
    box = {
        "class": "car",
        "score": 0.25,
        "center_m": [12.0, -3.0, 0.8],
        "size_m": [4.5, 1.9, 1.6],
        "yaw_rad": 0.3,
        "velocity_mps": [5.0, -1.0],
    }
    unknown = box | {"class": "tram", "velocity_mps": [None, None]}
    top = {"format": "bevstack-detections-1", "frame": "ego", "timestamp_us": 3}
    return top | {"detections": [box, unknown]}


def frame_detections() -> Any:
    """Return the boxes of two frames, some of them tracked."""
    boxes = detections()["detections"]
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    tracked = [box | {"track": number} for number, box in enumerate(boxes)]
    first = {"timestamp_us": 3, "world_from_ego": eye, "lost": ["rear"], "detections": tracked}
    second = {"timestamp_us": 9, "world_from_ego": None, "lost": [], "detections": boxes}
    top = {"format": "bevstack-frames-detections-1", "frame": "ego", "classes": ["car", "tram"]}
    return top | {"frames": [first, second]}


def frame_tables() -> list[Any]:
    """Return tables of the frames of a drive: with pictures and poses, and with videos."""
    pose = {"rotation_wxyz": [1, 0, 0, 0], "translation_m": [4.0, 2.0, 0.0]}
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    front = {"image": "front/5.jpg", "timestamp_us": 499_000, "world_from_ego": pose}
    frames = [
        {"timestamp_us": 0, "world_from_ego": eye},
        {
            "timestamp_us": 500_000,
            "world_from_ego": pose,
            "cameras": {"front": front, "rear": None},
        },
        {"timestamp_us": 1_000_000, "world_from_ego": pose, "cameras": {"rear": "rear/7.png"}},
    ]
    video = {"file": "front.mp4", "start_us": 20_000, "fps": 12.5}
    top = {"format": "bevstack-frames-1"}
    return [
        top | {"frames": frames},
        top | {"frames": frames[:1], "videos": {"front": video}},
        top | {"videos": {"front": video, "rear": video}},
    ]


def results() -> Any:
    """Return results of two samples in nuScenes' format."""
    box = {
        "sample_token": "a",
        "translation": [600.0, 1600.0, 1.0],
        "size": [1.9, 4.5, 1.6],
        "rotation": [0.7, 0.0, 0.0, 0.7],
        "velocity": [1.0, -2.0],
        "detection_name": "car",
        "detection_score": 0.5,
        "attribute_name": "vehicle.moving",
    }
    cone = box | {"detection_name": "traffic_cone", "attribute_name": "", "num_pts": 5}
    other = box | {"sample_token": "b"}
    meta = {"use_camera": True, "use_lidar": False}
    return {"meta": meta, "results": {"a": [box, cone], "b": [other], "c": []}}


def tracks() -> Any:
    """Return tracks of two samples in nuScenes' format; one has no score."""
    unscored = {
        "sample_token": "a",
        "translation": [600.0, 1600.0, 1.0],
        "size": [1.9, 4.5, 1.6],
        "rotation": [0.7, 0.0, 0.0, 0.7],
        "velocity": [1.0, -2.0],
        "tracking_id": "7",
        "tracking_name": "car",
    }
    scored = unscored | {"tracking_id": "8", "tracking_name": "pedestrian", "num_pts": 5}
    scored |= {"tracking_score": 0.5}
    other = scored | {"sample_token": "b"}
    meta = {"use_camera": True, "use_lidar": False}
    return {"meta": meta, "results": {"a": [unscored, scored], "b": [other], "c": []}}


def traffic_elements() -> Any:
    """Return a light, a sign and a lane."""
    light = {
        "token": "t",
        "instance_token": "i",
        "sample_token": "s",
        "sample_data_token": "d",
        "camera": "CAM_FRONT",
        "category": 1,
        "attribute": 1,
        "points": [[10.0, 20.0], [14.0, 30.0]],
        "translation": [600.0, 1600.0, 4.0],
        "size": [0.4, 0.3, 1.0],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "visibility": 0.9,
        "lane_token": "l",
    }
    sign = light | {"token": "u", "category": 2, "attribute": 5}
    lane = {"token": "l", "scene_token": "s", "centerline": [[0.0, 1.0], [5.0, 1.0]]}
    return {"traffic_element": [light, sign], "lane": [lane]}


def rich_traffic() -> Any:
    """Return the traffic tables of the preset `lights`: all fields, states and an ego lane."""
    tables = traffic_elements()
    lamp = {"color": "red", "shape": "left", "status": "on"}
    light, sign = tables["traffic_element"]
    light |= {"lane_tokens": ["l"], "lamps": [lamp], "manoeuvres": ["left"]}
    light |= {"road_user": "vehicle", "orientation": "vertical", "is_dark": False}
    light |= {"lamp_pixels": 4.25}
    sign |= {"meaning": "speed_limit", "speed_limit_mps": 8.3333}
    lane = tables["lane"][0]
    lane |= {"successors": ["l"], "stop_line_s_m": [4.0], "manoeuvres": ["straight"]}
    state = {"instance_token": "i", "scene_token": "s", "timestamp_us": [5, 9]}
    state |= {"lamps": [[lamp], []], "flash_hz": 1.5, "flash_offset_us": 3}
    ego = {"sample_token": "s", "lane_token": "l", "manoeuvre": "left", "stop_line_m": 3.5}
    return tables | {
        "traffic_state": [state],
        "ego_lane": [ego | {"stop_line_m": None}, ego | {"sample_token": "t"}],
    }


def openlane_frames(*, predicted: bool) -> Any:
    """Return a frame with two lanes and a light in the form of OpenLane-V2, and an empty frame."""
    lanes: list[Any] = [
        {"id": 0, "points": [[1.0, -2.0, 0.0], [4.0, -2.0, 0.0], [7.0, -2, 0]]},
        {"id": 1, "points": [[7.0, -2.0, 0.0], [10.5, -2.5, 0.0]]},
    ]
    light: Any = {"id": 7, "category": 1, "attribute": 2, "points": [[10.5, 20.0], [14, 30.0]]}
    empty: Any = {key: [] for key in ("lane_centerline", "traffic_element")}
    empty |= {key: [] for key in ("topology_lclc", "topology_lcte")}
    edges: Any = {"topology_lclc": [[0, 1], [0, 0]], "topology_lcte": [[0], [1]]}
    if predicted:
        lanes = [lane | {"confidence": c} for lane, c in zip(lanes, (0.9, 0.4), strict=True)]
        light |= {"confidence": 0.75}
        edges = {"topology_lclc": [[0.0, 0.75], [0.25, 0.0]], "topology_lcte": [[0.5], [1]]}
    frame = {"lane_centerline": lanes, "traffic_element": [light], **edges}
    return {"val/0/315": frame, "val/0/316": empty}


def log() -> Any:
    """Return the lines of a training log."""
    line = {"step": 1, "loss": 2.5, "loss/class_0": 1.5, "learning_rate": 1e-3, "images": 24}
    return [line, line | {"step": 2, "loss": None}, line | {"step": 3}]


def finished(generator: str, spec: Any) -> Any:
    """Return the files that a later run of a judge or a study reuses."""
    figures = {"NDS": 0.25, "mAP": None, "boxes": 7, "classes": {"car": {"AP": 0.5}}}
    return {
        "row": {"marks": {"model": {"bytes": 3}}, "found": figures},
        "plan": {"perspective_steps": 1, "num_steps": 2, "perspective_step_s": 0.5, "step_s": 1},
        "time": 12.5,
        "manifest": {"generator_version": generator, "spec": spec},
    }
