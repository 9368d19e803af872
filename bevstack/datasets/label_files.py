"""Readers of label maps: PNG files of classes and of depth, and the table that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_size
from bevstack.file_bytes import read_bytes
from bevstack.tables.names import DENSE_LABEL_TABLE
from bevstack.tables.reader import Tables
from bevstack.tables.traffic_rows import refuse_duplicate, traffic_rows

_CM_PER_M = np.float32(100.0)


class LabelFiles(NamedTuple):
    """Label files of one camera image."""

    depth: Path
    semantic: Path


def read_label_files(tables: Tables) -> dict[str, LabelFiles]:
    """Read `dense_label.json`: the label files of each image, by its token in `sample_data`.

    Raises:
        FileNotFoundError: the version has no such table.
        ValueError: a row lacks a field, names a file outside the root, or repeats an image.
    """
    files: dict[str, LabelFiles] = {}
    for row in traffic_rows(tables.folder, DENSE_LABEL_TABLE):
        token = row.text("sample_data_token")
        refuse_duplicate(row, "sample_data_token", token, files)
        names = (row.text("depth_filename"), row.text("semantic_filename"))
        files[token] = LabelFiles(*(tables.file_path(name) for name in names))
    return files


def read_label_map(path: Path | str) -> NDArray[np.uint8]:  # (H, W)
    """Read a PNG of 8-bit labels, grey or with a palette, whose indices are the labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no picture of one channel of 8 bits.
    """
    path = Path(path)
    labels = _decode_palette(path) if _color_type(path) == _PALETTE else _decode(path)
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"label map must have one channel of 8 bits; got {_kind(labels)}: {path}")
    return labels


def read_depth(path: Path | str) -> NDArray[np.float32]:  # (H, W)
    """Read a PNG of 16-bit depth in centimetres as metres; nan where it holds 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no picture of one channel of 16 bits.
    """
    stored = _decode(Path(path))
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f"depth must have one channel of 16 bits; got {_kind(stored)}: {path}")
    metres = stored.astype(np.float32) / _CM_PER_M
    metres[stored == 0] = np.nan
    return metres


_PALETTE = 3  # colour type of a PNG in byte 25 of the file


def _color_type(path: Path) -> int:
    read_size(path)  # refuses what is no picture, or too large
    head = read_bytes(path, "label map", max_bytes=None)[:26]
    return head[25] if len(head) == 26 and head.startswith(b"\x89PNG") else -1


def _decode_palette(path: Path) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"label map must be a readable picture; got {path} ({error})") from error


def _decode(path: Path) -> NDArray[Any]:
    read_size(path)
    data = np.frombuffer(read_bytes(path, "label map", max_bytes=None), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError(f"label map must be a readable picture; got {path}")
    return decoded


def _kind(values: NDArray[Any]) -> str:
    channels = 1 if values.ndim == 2 else values.shape[2]
    return f"{channels} of {8 * values.dtype.itemsize} bits"
