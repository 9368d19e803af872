"""Data sets of pictures with a label map each, whatever their files are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.datasets.label_files import read_label_map
from bevstack.types.label_maps import LabelledPicture
from bevstack.vocabulary import IGNORED_LABEL

_UNKNOWN = -1  # entry of the table of a stored value that the data set does not define


class LabelledFiles(NamedTuple):
    """The two files of a picture, and its name in messages and results."""

    name: str  # path below the folder of pictures, with slashes
    picture: Path
    labels: Path


class LabelledPictures:
    """The pictures of one split with the labels of their pixels.

    Args:
        source: the folder or split, for messages.
        class_names: K classes, in label order.
        files: the pictures.
        label_by_value: label of each value that a label map may hold: 0 to K - 1, or 255 for pixels
            that count nowhere.

    Raises:
        FileNotFoundError: there is no picture, or a label map is missing.
    """

    def __init__(
        self,
        source: str,
        *,
        class_names: Sequence[str],
        files: Sequence[LabelledFiles],
        label_by_value: Mapping[int, int],
    ) -> None:
        if not files:
            raise FileNotFoundError(f"{source} must hold labelled pictures; got none")
        missing = [own.labels for own in files if not own.labels.is_file()]
        if missing:
            raise FileNotFoundError(
                f"each of the {len(files)} pictures of {source} must have a label map; "
                f"{len(missing)} have none, first {missing[0]}"
            )
        self.source, self.class_names, self.files = source, tuple(class_names), tuple(files)
        self._table = np.full(256, _UNKNOWN, np.int16)
        for value, label in label_by_value.items():
            self._table[value] = label

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def with_classes(self, class_names: Sequence[str]) -> LabelledPictures:
        """Return the same pictures with the labels of a model's classes, matched by name.

        Raises:
            ValueError: a class of the data set is not among the model's.
        """
        names = list(class_names)
        unknown = [name for name in self.class_names if name not in names]
        if unknown:
            raise ValueError(
                f"classes of {self.source} must be among the {len(names)} of the model; got "
                f"{', '.join(map(repr, unknown[:5]))}: choose the configuration of this data set, "
                "or give its class_names"
            )
        labels = {row: names.index(name) for row, name in enumerate(self.class_names)}
        labels[IGNORED_LABEL] = IGNORED_LABEL
        table = {v: labels[int(self._table[v])] for v in range(256) if self._table[v] != _UNKNOWN}
        return LabelledPictures(
            self.source, class_names=names, files=self.files, label_by_value=table
        )

    def with_shuffled_labels(self, seed: int) -> LabelledPictures:
        """Return the pictures with the label map of another one each, for a negative control.

        Raises:
            ValueError: there is a single picture.
        """
        count = len(self.files)
        if count < 2:
            raise ValueError(f"pictures must be at least 2 to exchange labels; got {count}")
        order = np.random.default_rng(seed).permutation(count)
        source = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        files = [
            own._replace(labels=self.files[source[row]].labels)
            for row, own in enumerate(self.files)
        ]
        table = {v: int(self._table[v]) for v in range(256) if self._table[v] != _UNKNOWN}
        return LabelledPictures(
            f"{self.source}, labels shuffled",
            class_names=self.class_names,
            files=files,
            label_by_value=table,
        )

    def picture(self, index: int) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Read a picture.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged.
        """
        return read_image(self.files[index].picture)

    def labels(self, index: int) -> NDArray[np.uint8]:  # (H, W); 255: none
        """Read the labels of a picture.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or holds a value that the data set does not define.
        """
        path = self.files[index].labels
        found = self._table[read_label_map(path)]
        if (found == _UNKNOWN).any():
            stored = np.unique(read_label_map(path)[found == _UNKNOWN])
            known = int(np.count_nonzero(self._table != _UNKNOWN))
            raise ValueError(
                f"label map must hold the {known} values of its data set; got "
                f"{', '.join(map(str, stored[:5]))} in {path}"
            )
        return found.astype(np.uint8)

    def sample(self, index: int) -> LabelledPicture:
        """Read a picture and its labels.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, its labels are unknown, or the two sizes differ.
        """
        image, semantic = self.picture(index), self.labels(index)
        if semantic.shape != image.shape[:2]:
            height, width = semantic.shape
            raise ValueError(
                f"label map must have the size of its picture, {image.shape[1]}x{image.shape[0]} "
                f"(width x height); got {width}x{height} in {self.files[index].labels}"
            )
        return LabelledPicture(image=image, semantic=semantic)


def list_labelled(
    folder: Path, labels: Path, *, suffix: str, label_suffix: str
) -> list[LabelledFiles]:
    """Return the pictures below a folder and their label maps, in the order of their names.

    Args:
        folder: of pictures.
        labels: of label maps, with the same sub-folders.
        suffix: end of the name of a picture, which its label map has replaced.
        label_suffix: end of the name of a label map.

    Raises:
        FileNotFoundError: there is no folder of pictures, or none of label maps.
    """
    for own, what in ((folder, "pictures"), (labels, "label maps")):
        if not own.is_dir():
            raise FileNotFoundError(f"{what} must lie in the folder {own}; got none")
    found = []
    for path in sorted(folder.rglob(f"*{suffix}")):
        name = path.relative_to(folder).as_posix()
        found.append(
            LabelledFiles(name, path, labels / f"{name.removesuffix(suffix)}{label_suffix}")
        )
    return found
