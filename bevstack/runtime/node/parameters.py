"""Parameters of the node: declared with a kind, a range and a description, as ROS 2 has them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bevstack.datasets.traffic.yaml_documents import read_yaml
from bevstack.json_files import shorten
from bevstack.vocabulary import CAMERA_CHANNELS

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Declaration of one parameter."""

    name: str
    default: Value
    description: str
    low: float = -math.inf  # of numbers
    high: float = math.inf
    choices: tuple[str, ...] = ()  # of texts; empty: any
    read_only: bool = False  # True: set before the node is configured

    def convert(self, value: object) -> Value:
        """Return a value, or its text in a YAML file, as the parameter's kind.

        Raises:
            ValueError: it is of another kind, or out of range.
        """
        found = _converted(self.name, value, self.default)
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            inside = math.isfinite(found) and self.low <= found <= self.high
            if not inside:
                raise ValueError(
                    f"parameter {self.name} must be from {self.low:g} to {self.high:g}; got {found}"
                )
        if self.choices and found not in self.choices:
            raise ValueError(
                f"parameter {self.name} must be one of {', '.join(self.choices)}; got {found!r}"
            )
        return found


def _number(name: str, default: float, bounds: tuple[float, float], description: str) -> Parameter:
    low, high = bounds
    return Parameter(name=name, default=default, description=description, low=low, high=high)


def _fixed(name: str, default: Value, description: str, choices: tuple[str, ...] = ()) -> Parameter:
    return Parameter(
        name=name, default=default, description=description, choices=choices, read_only=True
    )


DECLARED: tuple[Parameter, ...] = (
    _fixed("cameras", CAMERA_CHANNELS, "names of the cameras, as the weights know them"),
    _fixed("image_topics", (), "topic of each camera's images (default: /CAMERA/image_raw)"),
    _fixed("info_topics", (), "topic of each camera's camera_info (default: /CAMERA/camera_info)"),
    _fixed(
        "image_transport",
        "compressed",
        "compressed: subscribe IMAGE_TOPIC/compressed; raw: IMAGE_TOPIC",
        ("compressed", "raw"),
    ),
    _fixed("images_rectified", False, "images are rectified: take P and R instead of K and D"),
    _fixed("base_frame", "base_link", "frame of the results: x forward, y left, z up"),
    _fixed("odom_frame", "odom", "frame without jumps that the vehicle moves in"),
    _fixed(
        "ego_motion",
        "odometry",
        "source of the vehicle's pose; none: it stands still, and nothing is tracked well",
        ("odometry", "tf", "none"),
    ),
    _fixed("odometry_topic", "/odom", "topic of nav_msgs/Odometry"),
    _fixed("reference_camera", "", "camera whose stamp a result gets (default: the first one)"),
    _fixed("use_sim_time", False, "take the time from /clock"),
    _fixed("track", True, "track the boxes: identities, covariances, paths"),
    _fixed("node_name", "bevstack", "name of the node, and of its topics' namespace"),
    _number("sync_timeout_ms", 60.0, (0, 10_000), "time that a window waits for its cameras"),
    _number("max_camera_time_diff_ms", 60.0, (0, 500), "largest difference of stamps in a window"),
    _number("max_extrapolation_ms", 50.0, (0, 1_000), "pose beyond the newest one's time"),
    _number("max_age_ms", 1_000.0, (1, 60_000), "older results are not published"),
    _number(
        "late_after_ms", 40.0, (1, 10_000), "images that come this much after the rest: a warning"
    ),
    _number("silent_after_ms", 1_000.0, (10, 60_000), "a camera without images is missing then"),
    _number("score_threshold", 0.0, (0, 1), "boxes and tracks below it are not published"),
    _number("diagnostics_rate_hz", 2.0, (1, 10), "rate of /diagnostics"),
    _number("max_processing_time_ms", 500.0, (1, 60_000), "a longer step is a warning"),
    Parameter(
        name="publish_empty_on_error",
        default=False,
        description="publish an empty list if no camera works; else nothing",
    ),
    Parameter(
        name="light_ids",
        default="map",
        description="ids of Autoware's lights: of the map, or a hash of their track",
        choices=("map", "hash"),
    ),
)
QOS_OVERRIDES = "qos_overrides."  # as ROS 2 names them
_BY_NAME: Mapping[str, Parameter] = MappingProxyType({p.name: p for p in DECLARED})


class Parameters:
    """Values of all parameters.

    Args:
        values: the given ones, by name; the remaining ones have their defaults.

    Raises:
        ValueError: a name is unknown, or a value is wrong.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self._values: dict[str, Value] = {p.name: p.default for p in DECLARED}
        self._overrides: dict[str, object] = {}
        self._is_configured = False
        for name, value in (values or {}).items():
            self.set(name, value)
        self._check_cameras()

    def __getitem__(self, name: str) -> Any:
        """Return a value."""
        return self._values[name]

    def microseconds(self, name: str) -> int:
        """Return a parameter of milliseconds in microseconds."""
        return round(1000 * float(self[name]))

    def configured(self) -> None:
        """Check the parameters together, and refuse changes of read-only ones from now on.

        Raises:
            ValueError: the lists of topics do not fit the cameras.
        """
        self._check_cameras()
        self._is_configured = True

    def set(self, name: str, value: object) -> None:
        """Change a value; a configured node uses it from the next window on.

        Raises:
            ValueError: the name is unknown, the value is wrong, or the parameter is read-only.
        """
        if name.startswith(QOS_OVERRIDES) and not self._is_configured:
            self._overrides[name.removeprefix(QOS_OVERRIDES)] = value
            return
        declared = _BY_NAME.get(name)
        if declared is None:
            near = difflib.get_close_matches(name, _BY_NAME, n=2)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"parameter must be one of the node's; got {shorten(name)}{hint}")
        converted = declared.convert(value)
        if declared.read_only and self._is_configured and converted != self._values[name]:
            raise ValueError(
                f"parameter {name} must be set before the node starts; got {shorten(value)}: start "
                "it again with the value in its file"
            )
        self._values[name] = converted

    @property
    def qos_overrides(self) -> Mapping[str, object]:
        """Return the given values by TOPIC.subscription.POLICY or TOPIC.publisher.POLICY."""
        return MappingProxyType(self._overrides)

    @property
    def reference_camera(self) -> str:
        """Return the camera whose stamp a result gets."""
        return str(self["reference_camera"]) or self.cameras[0]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras."""
        names: tuple[str, ...] = self["cameras"]
        return names

    def image_topic(self, camera: str) -> str:
        """Return the topic of a camera's images, with the suffix of the transport."""
        base = self._topic("image_topics", camera, "image_raw")
        return f"{base}/compressed" if self["image_transport"] == "compressed" else base

    def info_topic(self, camera: str) -> str:
        """Return the topic of a camera's calibration."""
        return self._topic("info_topics", camera, "camera_info")

    def _topic(self, parameter: str, camera: str, default: str) -> str:
        given: Sequence[str] = self[parameter]
        return given[self.cameras.index(camera)] if given else f"/{camera}/{default}"

    def _check_cameras(self) -> None:
        names = self.cameras
        if not names or len(set(names)) != len(names):
            raise ValueError(f"parameter cameras must be distinct names; got {list(names)}")
        for name in ("image_topics", "info_topics"):
            if len(self[name]) not in (0, len(names)):
                raise ValueError(
                    f"parameter {name} must be one topic a camera, {len(names)}; got "
                    f"{len(self[name])}"
                )
        if self["reference_camera"] not in ("", *names):
            raise ValueError(
                f"parameter reference_camera must be one of {', '.join(names)}; got "
                f"{self['reference_camera']!r}"
            )


def read_parameters(path: Path, node_name: str = "bevstack") -> Parameters:
    """Read a file of parameters as ``ros2 run --params-file`` takes it.

    Sections ``/**`` and those of the node are read, the latter last.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, has no section of the node, or a parameter is unknown or wrong.
    """
    content = read_yaml(path, f"parameter file {path}")
    if not isinstance(content, dict):
        raise ValueError(f"parameter file {path} must hold sections; got {shorten(content)}")
    names = ("/**", node_name, f"/{node_name}")
    sections = [content[name] for name in names if name in content]
    if not sections:
        raise ValueError(
            f"parameter file {path} must have a section /** or {node_name}; got "
            f"{', '.join(content) or 'none'}"
        )
    values: dict[str, object] = {}
    for section in sections:
        inner = section.get("ros__parameters") if isinstance(section, dict) else None
        if not isinstance(inner, dict):
            raise ValueError(
                f"sections of parameter file {path} must have ros__parameters; got "
                f"{shorten(section)}"
            )
        values.update(_flattened(inner))
    try:
        return Parameters(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_setting(text: str) -> tuple[str, object]:
    """Return name and value of "name=value"; a list has commas.

    Raises:
        ValueError: there is no "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"parameter must be given as NAME=VALUE; got {shorten(text)}")
    declared = _BY_NAME.get(name)
    is_list = declared is not None and isinstance(declared.default, tuple)
    return name, [part for part in value.split(",") if part] if is_list else value


def _flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested names joined by dots, as ROS 2 names parameters."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _converted(name: str, value: object, default: Value) -> Value:
    """Return a value as the kind of the default; texts come from YAML files."""
    if isinstance(default, bool):
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
        raise ValueError(f"parameter {name} must be true or false; got {shorten(value)}")
    if isinstance(default, (int, float)):
        if isinstance(value, bool):
            raise ValueError(f"parameter {name} must be a number; got {value}")
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"parameter {name} must be a number; got {shorten(value)}") from None
    if isinstance(default, tuple):
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError(f"parameter {name} must be a list of texts; got {shorten(value)}")
    if not isinstance(value, str):
        raise ValueError(f"parameter {name} must be a text; got {shorten(value)}")
    return value
