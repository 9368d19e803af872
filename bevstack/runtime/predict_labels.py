"""Labels of the pixels of pictures, predicted into a folder of label maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bevstack.datasets.images import read_image
from bevstack.render.label_view import label_colors
from bevstack.runtime.pixel_labeller import PixelLabeller
from bevstack.runtime.predict_pictures import named_pictures
from bevstack.tables.label_maps import label_map_names, write_classes, write_label_map


def predict_labels(
    labeller: PixelLabeller,
    images: Path,
    out: Path,
    *,
    ratios: Sequence[float] = (1.0,),
    mirror: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the label map of each picture and the list of classes; return the number of pictures.

    Args:
        labeller: the model.
        images: a folder of pictures, sub-folders included, or one picture.
        out: folder of the results (``tables.label_maps``).
        ratios: factors of the size at the network's input; several are averaged.
        mirror: average with the mirrored picture too.
        progress: called with the number of finished pictures and of all.

    Raises:
        FileNotFoundError: there is no such file or folder, or it holds no picture.
        ValueError: a picture is damaged (names it), or two would have one label map.
        OSError: a file cannot be written.
    """
    pictures = named_pictures(images)
    names = label_map_names(list(pictures))
    colors = label_colors(labeller.class_names)
    write_classes(out, labeller.class_names, colors)
    for done, (path, name) in enumerate(zip(pictures.values(), names, strict=True), start=1):
        (labels,) = labeller.segment([read_image(path)], ratios=ratios, mirror=mirror)
        write_label_map(out / name, labels, colors)
        if progress is not None:
            progress(done, len(pictures))
    return len(pictures)
