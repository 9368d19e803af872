"""Readers of binary files: weights, columns, images and archives."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch

from bevstack.datasets.images import read_image
from bevstack.datasets.readiness.archives import unpack_archives
from bevstack.evaluation.results.submission import read_submission, write_submission
from bevstack.interop.info_files import read_info_file
from bevstack.interop.published_files import read_published_file
from bevstack.models.build import load_model, save_model
from bevstack.runtime.detector import build
from bevstack.runtime.loading import load_tasks
from bevstack.tables.column_file import ColumnFile, DamagedFileError, write_column_file
from tests.fuzz import documents, mutations
from tests.fuzz.reader import Reader, write_file
from tests.runtime.traffic_weights import write_both
from tests.small_world import CONFIG


def _write_columns(folder: Path) -> Sequence[bytes]:
    path = folder / "start.safetensors"
    write_submission(path, documents.results()["results"])
    return [path.read_bytes()]


def _read_columns(folder: Path, content: bytes) -> None:
    submission = read_submission(write_file(folder / "results.safetensors", content))
    for token in submission.sample_tokens:
        submission.select_sample(token)


@lru_cache(maxsize=1)
def _model_bytes(folder: Path) -> bytes:
    path = folder / "start.safetensors"
    save_model(path, build(CONFIG).model, CONFIG)
    return path.read_bytes()


def _read_weights(folder: Path, content: bytes) -> None:
    load_model(write_file(folder / "model.safetensors", content), verify=False)


def _start_both(folder: Path) -> Sequence[bytes]:
    """Return weights of boxes and lights on one backbone, and of lights alone."""
    path = folder / "start.safetensors"
    return [write_both(path, boxes=boxes).read_bytes() for boxes in (True, False)]


def _read_both(folder: Path, content: bytes) -> None:
    load_tasks(write_file(folder / "model.safetensors", content), verify=False)


def _start_published(folder: Path) -> Sequence[bytes]:
    starts = []
    for number, wrap in enumerate((lambda t: t, lambda t: {"state_dict": t, "meta": {"a": [1]}})):
        path = folder / f"start_{number}.pth"
        torch.save(wrap({"module.a": torch.ones(3), "module.b": torch.zeros(2, 2)}), path)
        starts.append(path.read_bytes())
    return starts


def _read_published(folder: Path, content: bytes) -> None:
    read_published_file(write_file(folder / "published.pth", content))


def _start_infos(folder: Path) -> Sequence[bytes]:
    """Return both forms of an information file with one camera and two boxes."""
    motion = {"translation": [1.0, 0.0, 0.5], "rotation": [0.6, 0.0, 0.0, 0.8]}
    parts = {
        f"{frame}_{part}": v for frame in ("lidar2ego", "ego2global") for part, v in motion.items()
    }
    camera = {
        **{f"{frame}_{p}": v for frame in ("sensor2ego", "ego2global") for p, v in motion.items()},
        "data_path": "samples/CAM_FRONT/a.jpg",
        "cam_intrinsic": np.diag([500.0, 500.0, 1.0]),
        "timestamp": 1_532_402_927_612_460,
    }
    info = {
        "token": "a",
        "timestamp": 1_532_402_927_647_951,
        "cams": {"CAM_FRONT": camera},
        **parts,
        "gt_boxes": np.arange(14.0, 0.0, -1.0).reshape(2, 7),
        "gt_names": np.array(["car", "pedestrian"]),
        "gt_velocity": np.zeros((2, 2)),
        "num_lidar_pts": np.array([3, 4]),
        "num_radar_pts": np.array([0, 1]),
    }
    box = {"bbox_3d": [1.0] * 7, "velocity": [0.0, 0.0], "bbox_label_3d": 0}
    newer = {
        "token": "a",
        "timestamp": 1_532_402_927.647951,
        "ego2global": np.eye(4).tolist(),
        "lidar_points": {"lidar2ego": np.eye(4).tolist()},
        "images": {
            "CAM_FRONT": {
                **{"img_path": "a.jpg", "timestamp": 1_532_402_927.61246},
                **{"cam2ego": np.eye(4).tolist(), "lidar2cam": np.eye(4).tolist()},
                "cam2img": camera["cam_intrinsic"].tolist(),
            }
        },
        "instances": [{**box, "num_lidar_pts": np.int64(3), "num_radar_pts": np.int64(0)}],
    }
    meta = {"categories": {"car": 0}, "version": "v1.0-mini"}
    contents = ({"infos": [info]}, {"metainfo": meta, "data_list": [newer]})
    return [pickle.dumps(content, protocol=2) for content in contents]


def _read_infos(folder: Path, content: bytes) -> None:
    file = read_info_file(write_file(folder / "infos.pkl", content))
    for row in range(len(file)):
        file.frame(row)


def _encode(suffix: str) -> Callable[[Path], Sequence[bytes]]:
    def start(folder: Path) -> Sequence[bytes]:
        rows, columns = np.mgrid[:48, :64]
        pixels = np.stack((rows * 5, columns * 3, (rows ^ columns) * 4), -1).astype(np.uint8)
        return [
            cv2.imencode(suffix, pixels)[1].tobytes(),
            cv2.imencode(suffix, pixels[:, :, 0])[1].tobytes(),
        ]

    return start


def _read_image(folder: Path, content: bytes, *, suffix: str) -> None:
    path = write_file(folder / f"image{suffix}", content)
    image = read_image(path, (48, 64))
    assert image.shape == (48, 64, 3)


def _start_archive(folder: Path) -> Sequence[bytes]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("samples/CAM_FRONT/a.jpg", "samples/CAM_BACK/b.jpg", "maps/c.png"):
            member = tarfile.TarInfo(name)
            member.size = 700
            tar.addfile(member, io.BytesIO(bytes(range(250)) * 3))
    return [data.getvalue()]


def _read_archive(folder: Path, content: bytes) -> None:
    outer = folder / "outer"
    shutil.rmtree(outer, ignore_errors=True)
    (outer / "root").mkdir(parents=True)
    archive = write_file(outer / "a.tar", content)
    try:
        unpack_archives([archive], outer / "root", lambda line: None)
    finally:
        names = sorted(path.name for path in outer.iterdir())
        assert names == ["a.tar", "root"], f"written outside of the root: {names}"
        assert not mutations.OUTSIDE.exists()


def _start_column_file(folder: Path) -> Sequence[bytes]:
    arrays = {"a.x": np.arange(6.0).reshape(2, 3), "a.y": np.arange(4, dtype=np.int32)}
    write_column_file(folder / "start", arrays, {"tables": "x"})
    return [(folder / "start").read_bytes()]


def _read_column_file(folder: Path, content: bytes) -> None:
    try:
        ColumnFile(write_file(folder / "columns", content)).arrays("a.")
    except DamagedFileError as error:  # a predicate: its callers put the path in front of it
        raise ValueError(f"columns must be whole; got a file that {error}") from None


BINARY_READERS = (
    Reader(
        name="weights",
        start=lambda folder: [_model_bytes(folder)],
        mutate=mutations.mutate_safetensors,
        read=_read_weights,
    ),
    Reader(
        name="weights_of_tasks",
        start=_start_both,
        mutate=mutations.mutate_safetensors,
        read=_read_both,
    ),
    Reader(
        name="results_columns",
        start=_write_columns,
        mutate=mutations.mutate_safetensors,
        read=_read_columns,
    ),
    Reader(
        name="published_weights",
        start=_start_published,
        mutate=mutations.mutate_bytes,
        read=_read_published,
    ),
    Reader(
        name="info_files",
        start=_start_infos,
        mutate=mutations.mutate_bytes,
        read=_read_infos,
    ),
    Reader(
        name="jpeg",
        start=_encode(".jpg"),
        mutate=mutations.mutate_jpeg,
        read=partial(_read_image, suffix=".jpg"),
    ),
    Reader(
        name="png",
        start=_encode(".png"),
        mutate=mutations.mutate_png,
        read=partial(_read_image, suffix=".png"),
    ),
    Reader(
        name="archives",
        start=_start_archive,
        mutate=mutations.mutate_tar,
        read=_read_archive,
    ),
    Reader(
        name="column_file",
        start=_start_column_file,
        mutate=mutations.mutate_safetensors,
        read=_read_column_file,
    ),
)
