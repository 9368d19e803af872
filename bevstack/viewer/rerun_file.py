"""Recordings for rerun's viewer: moments as a file .rrd, with rerun's own archetypes.

Entities, below the frames that their names state::

    world                       x, y on the ground, z up; the classes' names and colours
    world/ego                   pose of the vehicle
    world/ego/vehicle           outline of the vehicle
    world/ego/CAM_FRONT         pose and pinhole of a camera; ``image``: the bytes of its file
    world/ego/predicted/MODEL   boxes of a model; ``velocity``: where they are after a second
    world/ego/true              true boxes
    world/ego/trails            earlier places of tracks
    world/ego/lidar             points
    world/ego/lines/NAME        lanes, road, trust by sector, poles of lights
    world/ego/traffic           lights and signs, in the colour of their state
    advice, notes               texts

The timeline ``frame`` holds the index of the moment, ``time`` its time since 1970. An entity that a
moment lacks is cleared. rerun stores places in single precision, so poses far from the world's
origin are coarse; boxes stand in the vehicle's frame and are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rerun
import rerun.blueprint as views

from bevstack.render.colors import class_color
from bevstack.viewer import wires
from bevstack.viewer.coloring import identity_color, predicted_colors, true_colors
from bevstack.viewer.drawn import draw, ego_solid
from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, CameraView, Floats, Moment
from bevstack.viewer.panels import cue_text
from bevstack.viewer.primitives import Lines
from bevstack.viewer.strip import ordered
from bevstack.viewer.traffic_shapes import traffic_solids
from bevstack.viewer.view_state import BY_IDENTITY, ViewState

APPLICATION = "bevstack"
FRAME_TIMELINE, TIME_TIMELINE = "frame", "time"
EGO = "world/ego"
_LINES = ("lanes", "road", "own_trail", "sectors", "traffic")  # of a drawing, besides boxes
_BOX_RADIUS_PX, _LINE_RADIUS_PX = 1.2, 1.0
_LIDAR_RADIUS_PX = 1.0


class RerunRecording:
    """A recording that is being written; close it, or use it in a ``with`` statement.

    Args:
        path: the file, which is written at once and replaced if it exists.
        state: the boxes, classes, layers and colours that are recorded.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, state: ViewState) -> None:
        with path.open("wb"):  # rerun itself reports a path that cannot be written later on
            pass
        rerun.set_strict_mode(True)  # errors are raised instead of printed
        self._state = state
        self._stream = rerun.RecordingStream(APPLICATION)
        for switch in (self._stream.set_log_tick_enabled, self._stream.set_log_time_enabled):
            switch(False)  # a frame has its own number and time
        self._stream.save(path)
        self._shown: set[str] = set()  # entities of the last moment
        self._is_first = True

    def __enter__(self) -> RerunRecording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write all that waits, and close the file."""
        self._stream.flush()
        self._stream.disconnect()

    def add(self, moment: Moment) -> None:
        """Write a moment."""
        if self._is_first:
            self._write_static(moment)
            self._is_first = False
        self._stream.set_time(FRAME_TIMELINE, sequence=moment.index)
        self._stream.set_time(
            TIME_TIMELINE, timestamp=np.datetime64(moment.timestamp_us * 1000, "ns")
        )
        entities = dict(self._entities(moment))
        for entity, values in entities.items():
            self._stream.log(entity, *values)
        for entity in sorted(self._shown - entities.keys()):
            self._stream.log(entity, rerun.Clear(recursive=False))
        self._shown = set(entities)

    def _write_static(self, moment: Moment) -> None:
        """Write what holds for the whole recording, and the layout of the viewer."""
        names = moment.class_names
        classes = [
            rerun.AnnotationInfo(id=label, label=name, color=class_color(names, label))
            for label, name in enumerate(names)
        ]
        up = rerun.ViewCoordinates.RIGHT_HAND_Z_UP
        self._stream.log("world", up, rerun.AnnotationContext(classes), static=True)
        vehicle = ego_solid()
        self._stream.log(
            f"{EGO}/vehicle",
            rerun.Boxes3D(
                centers=vehicle.center_m, half_sizes=vehicle.size_m / 2, colors=vehicle.color
            ),
            static=True,
        )
        self._stream.send_blueprint(_layout(moment))

    def _entities(self, moment: Moment) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the entities of a moment with their archetypes."""
        state = self._state
        pose = np.eye(4) if moment.world_from_ego is None else moment.world_from_ego
        yield EGO, (_transform(pose),)
        for camera in moment.cameras:
            yield from _camera(camera)
        for model, predicted in enumerate(moment.predicted):
            rows = moment.shown(model, state.min_score, state.labels)
            boxes, score = predicted.boxes[rows], predicted.score[rows]
            color = predicted_colors(moment, model, state)[rows]
            names = [moment.class_names[label] for label in boxes.label.tolist()]
            labels = [f"{n} {s:.2f}" for n, s in zip(names, score.tolist(), strict=True)]
            entity = f"{EGO}/predicted/{_part(predicted.name)}"
            yield entity, (_boxes(boxes, color, labels),)
            arrows, owners = wires.velocity_arrows(boxes)
            if len(arrows):
                yield f"{entity}/velocity", (_arrows(boxes, color, np.unique(owners)),)
        if moment.true is not None:
            rows = moment.shown_true(state.labels)
            true = moment.true[rows]
            labels = [moment.class_names[label] for label in true.label.tolist()]
            yield f"{EGO}/true", (_boxes(true, true_colors(moment, state)[rows], labels),)
        if moment.lidar_m is not None:
            radii = rerun.Radius.ui_points(_LIDAR_RADIUS_PX)
            yield f"{EGO}/lidar", (rerun.Points3D(moment.lidar_m, radii=radii),)
        yield from self._lines(moment)
        if moment.traffic is not None and moment.traffic.marks:
            yield f"{EGO}/traffic", (_traffic(moment),)
        for entity, text in (("advice", cue_text(moment)), ("notes", "\n\n".join(moment.notes))):
            if text:
                yield entity, (rerun.TextDocument(text),)

    def _lines(self, moment: Moment) -> Iterator[tuple[str, tuple[Any, ...]]]:
        radii = rerun.Radius.ui_points(_LINE_RADIUS_PX)
        for lines in draw(moment, self._state).lines:
            if lines.name in _LINES:
                yield f"{EGO}/lines/{lines.name}", (_strips(lines),)
        trails = [trail for trail in moment.trails if trail.label in self._state.labels]
        if trails and "trails" in self._state.layers:
            by_identity = self._state.color_by == BY_IDENTITY
            names = moment.class_names
            colors = [
                identity_color(t.identity) if by_identity else class_color(names, t.label)
                for t in trails
            ]
            strips = [trail.points_m.astype(np.float32) for trail in trails]
            found = rerun.LineStrips3D(strips, colors=colors, radii=radii)
            yield f"{EGO}/trails", (found,)


def record_moments(moments: Iterable[Moment], path: Path, state: ViewState) -> int:
    """Write moments as a recording, and return their number.

    Raises:
        OSError: the file cannot be written.
    """
    count = 0
    with RerunRecording(path, state) as opened:
        for moment in moments:
            opened.add(moment)
            count += 1
    return count


def camera_entity(camera: CameraView) -> str:
    """Return the entity of a camera."""
    return f"{EGO}/{_part(camera.name)}"


def _camera(camera: CameraView) -> Iterator[tuple[str, tuple[Any, ...]]]:
    pinhole = rerun.Pinhole(
        image_from_camera=camera.intrinsics,
        resolution=camera.size_px,
        camera_xyz=rerun.ViewCoordinates.RDF,
    )
    yield camera_entity(camera), (_transform(camera.ego_from_cam), pinhole)
    if camera.encoded is not None:
        image = rerun.EncodedImage(contents=camera.encoded, media_type=camera.media_type)
        yield f"{camera_entity(camera)}/image", (image,)


def _transform(parent_from_child: Floats) -> Any:  # (4, 4)
    return rerun.Transform3D(translation=parent_from_child[:3, 3], mat3x3=parent_from_child[:3, :3])


def _boxes(boxes: BoxArrays, color: Any, labels: list[str]) -> Any:
    zero, half = np.zeros(len(boxes)), boxes.yaw_rad / 2
    texts = [
        label if identity == NO_IDENTITY else f"{label} #{identity}"
        for label, identity in zip(labels, boxes.identity.tolist(), strict=True)
    ]
    return rerun.Boxes3D(
        centers=boxes.center_m,
        half_sizes=boxes.size_m / 2,
        quaternions=np.stack((zero, zero, np.sin(half), np.cos(half)), -1),  # xyzw
        colors=color,
        class_ids=boxes.label.astype(np.uint16),
        labels=texts,
        show_labels=False,
        radii=rerun.Radius.ui_points(_BOX_RADIUS_PX),
    )


def _arrows(boxes: BoxArrays, color: Any, rows: Any) -> Any:
    way = np.column_stack((boxes.velocity_mps[rows], np.zeros(len(rows))))
    return rerun.Arrows3D(origins=boxes.center_m[rows], vectors=way, colors=color[rows])


def _strips(lines: Lines) -> Any:
    radii = rerun.Radius.ui_points(lines.width_px / 2)
    return rerun.LineStrips3D(lines.segments_m.astype(np.float32), colors=lines.color, radii=radii)


def _traffic(moment: Moment) -> Any:
    assert moment.traffic is not None  # the caller has checked it
    placed = [mark for mark in moment.traffic.marks if mark.position_m is not None]
    shapes = traffic_solids(placed)
    zero, half = np.zeros(len(placed)), shapes.yaw_rad / 2
    return rerun.Boxes3D(
        centers=shapes.center_m,
        half_sizes=shapes.size_m / 2,
        quaternions=np.stack((zero, zero, np.sin(half), np.cos(half)), -1),
        colors=shapes.color,
        labels=[mark.caption for mark in placed],
        fill_mode="solid",
    )


def _layout(moment: Moment) -> Any:
    """Return the layout: the scene, its texts, and below them the cameras with boxes."""
    scene = views.Spatial3DView(origin=EGO, contents="world/**", name="scene")
    texts = views.Tabs(
        views.TextDocumentView(origin="advice", name="advice"),
        views.TextDocumentView(origin="notes", name="notes"),
    )
    boxes = [f"{EGO}/predicted/**", f"{EGO}/true"]
    cameras = [
        views.Spatial2DView(
            origin=camera_entity(camera), contents=["$origin/**", *boxes], name=camera.name
        )
        for camera in ordered(moment.cameras)
    ]
    top = views.Horizontal(scene, texts, column_shares=[4, 1])
    if not cameras:
        return views.Blueprint(top)
    return views.Blueprint(views.Vertical(top, views.Horizontal(*cameras), row_shares=[3, 1]))


def _part(name: str) -> str:
    """Return a name as a part of an entity's path."""
    return str(rerun.escape_entity_path_part(name))
