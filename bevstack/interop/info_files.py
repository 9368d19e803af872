"""Information files of mmdetection3d for nuScenes: their samples as frames.

Two forms exist, both pickles: a dictionary with ``infos`` and ``metadata``, or the bare list of
``infos``, of mmdetection3d before 1.1; and one with ``metainfo`` and ``data_list`` from then on.
No package of OpenMMLab is needed, and nothing in a file is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bevstack.datasets.images import read_image
from bevstack.file_names import path_inside
from bevstack.geometry import invert_se3
from bevstack.geometry.bev_grid import FRAMES
from bevstack.interop.info_entries import (
    InfoCamera,
    InfoSample,
    sample_from_data_list,
    sample_from_infos,
)
from bevstack.interop.plain_fields import Fields
from bevstack.interop.plain_pickle import read_plain_pickle
from bevstack.types import Annotations, Boxes3D, Frame
from bevstack.vocabulary import DETECTION_CLASSES

BOX_CONVENTIONS = ("legacy", "modern")
# Classes whose true boxes are longer than wide; their share tells the box convention.
_LONG_CLASSES = ("car", "truck", "bus", "trailer")
_CLEAR_SHARE = 0.95


class InfoFile:
    """Samples of an information file; each is checked when it is asked for.

    ``read_info_file`` returns one.
    """

    def __init__(
        self,
        path: Path,
        entries: Sequence[Mapping[Any, Any]],
        *,
        version: str,
        class_names: Mapping[int, str] | None,
        boxes: str,
    ) -> None:
        self.path = path
        self.version = version  # of the tables, such as "v1.0-mini"; "" if the file has none
        self.boxes = boxes  # convention of the file's boxes: "legacy" or "modern"
        self._entries = entries
        self._class_names = class_names  # by label; None: the form with ``infos``
        self.tokens: tuple[str, ...] = tuple(entry["token"] for entry in entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[InfoSample]:
        """Yield the samples in file order."""
        return (self.sample(row) for row in range(len(self)))

    def sample(self, row: int) -> InfoSample:
        """Return one sample.

        Raises:
            IndexError: there is no such row.
            ValueError: the sample is not of the format; names the file, the sample and the entry.
        """
        entry = self._entries[row]
        try:
            if self._class_names is None:
                return sample_from_infos(entry, boxes=self.boxes)
            return sample_from_data_list(entry, class_names=self._class_names)
        except ValueError as error:
            raise ValueError(
                f"info file must hold whole samples; got {self.path}, sample "
                f"{ascii(self.tokens[row])[:60]}: {error}"
            ) from None

    def frame(
        self,
        row: int,
        root: Path | str | None = None,
        *,
        bev_frame: str = "lidar",
        class_names: Sequence[str] = DETECTION_CLASSES,
    ) -> Frame:
        """Return one sample as a frame, as ``NuScenesDataset`` returns it from the tables.

        Args:
            row: of the sample.
            root: the folder of the data set, with ``samples/``; None: load no image, so that every
                camera counts as lost.
            bev_frame: "lidar" or "ego", frame of the boxes.
            class_names: classes whose boxes are kept; labels index into them.

        Raises:
            IndexError: there is no such row.
            FileNotFoundError: an image is missing.
            ValueError: the sample is not of the format, or an image is damaged.
        """
        if bev_frame not in FRAMES:
            raise ValueError(f"bev_frame must be one of {', '.join(FRAMES)}; got {bev_frame!r}")
        sample = self.sample(row)
        cameras = sample.cameras
        bev_from_ego = torch.eye(4, dtype=torch.float64)
        if bev_frame == "lidar":
            bev_from_ego = invert_se3(sample.ego_from_lidar)
        return Frame(
            images=[None if root is None else _read(Path(root), camera) for camera in cameras],
            intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
            ego_from_cam=torch.stack([camera.ego_from_cam for camera in cameras]),
            camera_names=tuple(camera.name for camera in cameras),
            timestamp_us=sample.timestamp_us,
            camera_timestamp_us=tuple(camera.timestamp_us for camera in cameras),
            world_from_ego=sample.world_from_ego,
            world_from_ego_at_camera=torch.stack([camera.world_from_ego for camera in cameras]),
            bev_from_ego=bev_from_ego,
            sample_token=sample.token,
            annotations=_annotations(sample, bev_from_ego @ sample.ego_from_lidar, class_names),
        )


def read_info_file(path: Path | str, *, boxes: str | None = None) -> InfoFile:
    """Read an information file of mmdetection3d for nuScenes, of either form.

    Files with ``infos`` do not state their box convention. It is judged by the vehicles, all of
    which are longer than wide.

    Args:
        path: the pickle.
        boxes: "legacy" (width before length, of mmdetection3d before 1.0) or "modern"; None: judge.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, names a class or function, or is not of either form; two
            samples have one token; or ``boxes`` is needed or contradicts the form.
    """
    path = Path(path)
    if boxes not in (None, *BOX_CONVENTIONS):
        raise ValueError(f"boxes must be one of {', '.join(BOX_CONVENTIONS)}; got {boxes!r}")
    content = read_plain_pickle(path, what="info file")
    try:
        if isinstance(content, Mapping) and "data_list" in content:
            if boxes == "legacy":
                raise ValueError("boxes of data_list must be modern; got 'legacy'")
            return _data_list(path, Fields(content, "content"))
        return _infos(path, content, boxes)
    except ValueError as error:
        raise ValueError(
            f"info file must be one of mmdetection3d for nuScenes; got {path}: {error}"
        ) from None


def _data_list(path: Path, fields: Fields) -> InfoFile:
    entries = _entries(fields.items("data_list"), "images")
    meta = fields.inner("metainfo")
    names: dict[int, str] = {}
    for name, label in meta.inner("categories").content.items():
        if not isinstance(name, str) or not isinstance(label, int):
            raise ValueError(f"categories must be labels by name; got {ascii(name)[:40]}")
        if label >= 0:
            names[label] = name
    version = meta.content.get("version")
    return InfoFile(
        path,
        entries,
        version=version if isinstance(version, str) else "",
        class_names=names,
        boxes="modern",
    )


def _infos(path: Path, content: object, boxes: str | None) -> InfoFile:
    version: object = ""
    if isinstance(content, Mapping):
        fields = Fields(content, "content")
        metadata = content.get("metadata")
        version = metadata.get("version") if isinstance(metadata, Mapping) else ""
        content = fields.items("infos")
    if not isinstance(content, list):
        raise ValueError(
            f"its content must be a dictionary or a list; got {type(content).__name__}"
        )
    entries = _entries(content, "cams")
    return InfoFile(
        path,
        entries,
        version=version if isinstance(version, str) else "",
        class_names=None,
        boxes=_box_convention(entries) if boxes is None else boxes,
    )


def _entries(items: Sequence[object], cameras: str) -> list[Mapping[Any, Any]]:
    """Check that all entries have cameras and a token of their own."""
    entries: list[Mapping[Any, Any]] = []
    seen: set[str] = set()
    for row, item in enumerate(items):
        fields = Fields(item, f"sample {row}")
        fields.get(cameras)
        token = fields.text("token")
        if token in seen:
            raise ValueError(f"tokens must differ; got {ascii(token)[:60]} twice")
        seen.add(token)
        entries.append(fields.content)
    return entries


def _box_convention(entries: Sequence[Mapping[Any, Any]]) -> str:
    """Judge the box convention by the share of vehicles that are longer than wide."""
    longer = total = num_boxes = 0
    for entry in entries:
        if "gt_boxes" not in entry:
            continue
        fields = Fields(entry, f"sample {ascii(entry['token'])[:60]}")
        rows = fields.array("gt_boxes", (None, 7))
        names = np.asarray(fields.get("gt_names"))
        num_boxes += len(rows)
        if names.shape == (len(rows),):
            long = np.isin(names, _LONG_CLASSES) & (rows[:, 3] != rows[:, 4])
            longer += int((rows[long, 3] > rows[long, 4]).sum())
            total += int(long.sum())
    if not num_boxes:
        return "modern"  # there is no box that could be misread
    if total and longer >= _CLEAR_SHARE * total:
        return "modern"
    if total and longer <= (1 - _CLEAR_SHARE) * total:
        return "legacy"
    raise ValueError(
        f"its box convention must be named, since {longer} of {total} vehicles are longer than "
        "wide: give boxes='modern' (length before width) or boxes='legacy' (width before length)"
    )


def _read(root: Path, camera: InfoCamera) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return read_image(path_inside(root, camera.path, what="image of an info file"))


def _annotations(
    sample: InfoSample,
    bev_from_lidar: Tensor,  # (4, 4)
    class_names: Sequence[str],
) -> Annotations | None:
    if sample.boxes is None:
        return None
    rows = [row for row, name in enumerate(sample.names) if name in class_names]
    index = torch.tensor(rows, dtype=torch.int64)
    labels = [list(class_names).index(sample.names[row]) for row in rows]
    boxes: Boxes3D = sample.boxes[index].transformed(bev_from_lidar).to(torch.float32)
    return Annotations(boxes, torch.tensor(labels, dtype=torch.int64), sample.num_points[index])


__all__ = ["InfoCamera", "InfoFile", "InfoSample", "read_info_file"]
