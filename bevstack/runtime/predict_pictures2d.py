"""Prediction of the objects in pictures, into one file of COCO's results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bevstack.datasets.images import read_image
from bevstack.evaluation.detection2d.coco_results import result_entries
from bevstack.files import write_text_atomically
from bevstack.runtime.picture_detector import PictureDetector
from bevstack.runtime.picture_predictor import Picture
from bevstack.runtime.predict_pictures import named_pictures
from bevstack.vocabulary import COCO_CLASSES

COCO_NUMBERS = {name: number for number, name in COCO_CLASSES}


def category_numbers(class_names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of classes in results: COCO's if it has all, else 1, 2, 3 and so on."""
    if all(name in COCO_NUMBERS for name in class_names):
        return tuple(COCO_NUMBERS[name] for name in class_names)
    return tuple(range(1, len(class_names) + 1))


def predict_picture(
    detector: PictureDetector, picture: Picture, *, image_id: int, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the results of one picture."""
    (found,) = detector.detect([picture])
    size = (int(picture.shape[0]), int(picture.shape[1]))
    masks = detector.masks(found, size) if detector.has_masks else None
    return result_entries(found, masks, image_id=image_id, category_numbers=numbers)


def predict_folder(
    detector: PictureDetector,
    folder: Path,
    out: Path,
    *,
    image_ids: Mapping[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Predict every picture of a folder, sub-folders included; return pictures and objects.

    Args:
        detector: the detector.
        folder: folder of pictures, or one picture.
        out: file of results in COCO's format. Beside it, OUT.images.json lists the pictures with
            their numbers, in the form of COCO's annotations.
        image_ids: numbers of pictures by their path within the folder; None: a name that is a
            number is the picture's number, as in COCO, and else pictures are counted from 1.
        progress: called with the number of finished pictures and of all.

    Raises:
        FileNotFoundError: there is no such file or folder, or it holds no picture.
        ValueError: a picture is damaged; names it.
        OSError: the file cannot be written.
    """
    named = named_pictures(folder)
    paths, names = list(named.values()), list(named)
    known = dict(image_ids) if image_ids is not None else _numbers(names)
    numbers = category_numbers(detector.class_names)
    results: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    for done, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        picture = read_image(path)
        height, width = picture.shape[:2]
        entry = {"id": known[name], "file_name": name, "height": height, "width": width}
        pictures.append(entry)
        results += predict_picture(detector, picture, image_id=known[name], numbers=numbers)
        if progress is not None:
            progress(done, len(paths))
    categories = [
        {"id": number, "name": name}
        for number, name in zip(numbers, detector.class_names, strict=True)
    ]
    listed = {"images": pictures, "categories": categories}
    write_text_atomically(out, json.dumps(results))
    write_text_atomically(out.with_suffix(".images.json"), json.dumps(listed))
    return len(pictures), len(results)


def _numbers(names: Sequence[str]) -> dict[str, int]:
    """Return the numbers of pictures; of names that are numbers, these."""
    stems = [Path(name).stem for name in names]
    plain = all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems)
    if plain and len({int(stem) for stem in stems}) == len(stems):
        return {name: int(stem) for name, stem in zip(names, stems, strict=True)}
    return {name: row for row, name in enumerate(names, start=1)}
