"""Kinds of the tables of nuScenes' schema, as far as a detector reads them, and of stored figures.

https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md
"""

from __future__ import annotations

from typing import Any

from tests.fuzz.schema import (
    Kind,
    anything,
    flag,
    integer,
    listing,
    mapping,
    null,
    number,
    one_of,
    record,
    string,
)

_POSE = {"translation": listing(number(), 3), "rotation": listing(number(), 4)}
# The devkit reads vectors of boxes one sample at a time; here, the two samples of the test are.
_FIELDS: dict[str, dict[str, Kind]] = {
    "scene": {"name": string, "description": string},
    "sample": {"timestamp": integer(0), "scene_token": string},
    "sample_data": {
        **dict.fromkeys(("sample_token", "calibrated_sensor_token", "ego_pose_token"), string),
        **dict.fromkeys(("height", "width"), one_of(null, integer(0))),
        "is_key_frame": flag,
        "filename": string,
        "timestamp": integer(0),
    },
    "ego_pose": _POSE,
    "sensor": {"channel": string, "modality": string},
    "instance": {"category_token": string},
    "category": {"name": string},
    "attribute": {"name": string},
    "sample_annotation": {
        **dict.fromkeys(("sample_token", "instance_token", "prev", "next"), string),
        "num_lidar_pts": integer(),
        "num_radar_pts": integer(),
        "attribute_tokens": listing(string, at_most=1),
    },
    "calibrated_sensor": {
        "sensor_token": string,
        "translation": listing(number()),
        "rotation": listing(number()),
        "camera_intrinsic": listing(listing(number(), 3)),
    },
}


def table(place: str, value: Any) -> str | None:
    """Accept ``{"table": name, "rows": rows}`` with the fields that are read."""
    name = value["table"]
    if name not in _FIELDS:
        return None
    rows = listing(record({"token": string, **_FIELDS[name]}, open=True))
    return rows(f"{place} {name}", value["rows"])


_FIGURE = one_of(null, number())
_FIGURES = record(
    {"NDS": _FIGURE, "mAP": _FIGURE},
    {"boxes": integer(0), "classes": mapping(record({"AP": _FIGURE}, open=True))},
    open=True,
)
_PLAN = record(
    {
        **dict.fromkeys(("perspective_steps", "num_steps"), integer(0)),
        **dict.fromkeys(("perspective_step_s", "step_s"), number()),
    },
    open=True,
)
FINISHED = record(
    {
        "row": record({"marks": mapping(anything), "found": _FIGURES}, open=True),
        "plan": _PLAN,
        "time": number(),
        "manifest": record({"generator_version": integer(0), "spec": mapping(anything)}, open=True),
    },
    open=True,
)
