"""Classes of pixels of a data set in nuScenes' format with dense labels, as synthetic worlds have.

``bevstack make-world --dense`` writes such a world.
"""

from __future__ import annotations

from bevstack.datasets.label_files import read_label_files
from bevstack.datasets.segmentation.labelled import LabelledFiles, LabelledPictures
from bevstack.tables.names import DENSE_LABEL_TABLE
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.vocabulary import IGNORED_LABEL, SEMANTIC_CLASSES


def read_dense_world(tables: Tables, split: str) -> LabelledPictures:
    """Open the key-frame images of a split's scenes that have dense labels.

    Raises:
        FileNotFoundError: the version has no dense labels, or a label map is missing.
        ValueError: there is no such split, or a row of the table is damaged.
    """
    if not (tables.folder / f"{DENSE_LABEL_TABLE}.json").is_file():
        raise FileNotFoundError(
            f"{tables.folder} must hold {DENSE_LABEL_TABLE}.json; got none: make the world with "
            "`bevstack make-world --dense`"
        )
    known = read_label_files(tables)
    files = []
    for scene in tables.scene_rows(scenes_of_split(tables, split)):
        for sample in tables.samples_of_scene(int(scene)):
            for row in tables.keyframes_of(int(sample)):
                labels = known.get(str(tables.keyframes.token[row]))
                if labels is not None:  # a camera
                    name = str(tables.keyframes.filename[row])
                    files.append(LabelledFiles(name, tables.file_path(name), labels.semantic))
    values = {**{n: n for n in range(len(SEMANTIC_CLASSES))}, IGNORED_LABEL: IGNORED_LABEL}
    return LabelledPictures(
        f"{tables.root} ({split})",
        class_names=SEMANTIC_CLASSES,
        files=files,
        label_by_value=values,
    )
