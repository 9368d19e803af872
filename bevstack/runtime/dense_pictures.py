"""Pictures of a data set's dense labels: each camera with its classes and its depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bevstack.datasets.images import read_image
from bevstack.datasets.label_files import read_depth, read_label_files, read_label_map
from bevstack.file_names import safe_name
from bevstack.render import write_picture
from bevstack.render.canvas import Image
from bevstack.render.label_view import (
    SEMANTIC_COLORS,
    draw_depth,
    draw_label_legend,
    draw_labels,
)
from bevstack.tables.reader import Tables
from bevstack.vocabulary import SEMANTIC_CLASSES


def draw_dense_labels(
    root: Path | str,
    version: str,
    out_dir: Path | str,
    *,
    scenes: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    max_samples: int | None = None,
    allow_outside: bool = False,
) -> list[Path]:
    """Draw the cameras of each sample, one a row: image, classes, depth from 2 to 80 m.

    Args:
        root: folder of a data set in nuScenes' format.
        version: folder of its tables.
        out_dir: folder for the pictures; created if missing.
        scenes: draw only samples of these scenes.
        samples: draw only samples with these tokens.
        max_samples: draw at most this number, the first ones.
        allow_outside: the tables are trusted, and may name files outside of ``root``.

    Returns:
        Paths of the pictures, ``<scene>_<key frame>.png`` made a ``safe_name``.

    Raises:
        FileNotFoundError: a table, an image or a label map is missing.
        ValueError: a scene or sample does not exist, or a file is damaged.
        OSError: the folder cannot be written.
    """
    tables = Tables(root, version, allow_outside=allow_outside)
    if not (tables.folder / "dense_label.json").is_file():
        raise FileNotFoundError(
            f"{tables.folder} must hold dense_label.json; got none: make the world with "
            "`bevstack make-world --dense`"
        )
    files = read_label_files(tables)
    names = list(scenes) if scenes is not None else [str(name) for name in tables.scenes.name]
    wanted = None if samples is None else {tables.sample_row(token) for token in samples}
    chosen = [
        (int(sample), f"{name}_{place:03d}")
        for name, scene in zip(names, tables.scene_rows(names), strict=True)
        for place, sample in enumerate(tables.samples_of_scene(int(scene)))
        if wanted is None or int(sample) in wanted
    ]
    paths = []
    for sample, name in chosen[:max_samples]:
        rows: list[Image] = []
        for row in tables.keyframes_of(sample):
            token = tables.keyframes.token[row]
            if token not in files:
                continue  # no camera
            image = read_image(tables.file_path(tables.keyframes.filename[row]))
            labels = read_label_map(files[token].semantic)
            depth = draw_depth(read_depth(files[token].depth))
            rows.append(np.hstack([image, draw_labels(image, labels, SEMANTIC_COLORS), depth]))
        rows.append(draw_label_legend(SEMANTIC_CLASSES, SEMANTIC_COLORS, rows[0].shape[1]))
        paths.append(write_picture(Path(out_dir) / f"{safe_name(name)}.png", np.vstack(rows)))
    return paths
