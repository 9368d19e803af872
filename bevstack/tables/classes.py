"""Detection classes of a data set's categories: nuScenes' own, or a mapping that a user gives."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from bevstack.json_files import read_json, shorten
from bevstack.tables.names import CATEGORIES, CATEGORY_TO_CLASS
from bevstack.vocabulary import DETECTION_CLASSES

Classes = Mapping[str, str | None]  # category -> detection class, None for boxes to leave out

_SHOWN = 12  # names in a message
_LONGEST = 100  # characters of a name that is compared with known ones


def read_classes(source: Classes | Path | str | None) -> Classes:
    """Return a mapping from categories to detection classes, read from a file if it is a path.

    The file is a JSON object, such as ``{"car": "car", "van": "car", "dog": null}``. Its entries
    come before nuScenes' own; null leaves the boxes of a category out.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a JSON object of names, or an unknown class; the message suggests one.
    """
    if source is None:
        return {}
    where, classes = "classes", source
    if isinstance(source, Path | str):
        where, classes = f"classes in {source}", read_json(source, "file of classes")
    if not isinstance(classes, Mapping):
        raise ValueError(
            f"{where} must be an object from categories to classes; got {shorten(classes)}"
        )
    for category, name in classes.items():
        if not isinstance(category, str) or not (name is None or isinstance(name, str)):
            raise ValueError(
                f"{where} must map names of categories to names of classes or null; got "
                f"{shorten(category)}: {shorten(name)}"
            )
        if name is not None and name not in DETECTION_CLASSES:
            raise ValueError(
                f"class of {shorten(category)} in {where} must be among "
                f"{', '.join(DETECTION_CLASSES)}, or null; got {shorten(name)}; "
                f"{suggest_class(name)}"
            )
    return dict(classes)


def classes_of_categories(
    categories: Sequence[str],  # names in category.json
    num_boxes: Sequence[int],  # annotations of each category
    given: Classes,
    root: Path,
) -> dict[str, str]:
    """Return the detection class of each category that has one.

    The given entries come first, then nuScenes' own. Categories without a class are left out; a
    warning lists those that have boxes and are neither nuScenes' nor given.

    Raises:
        ValueError: an entry is given for a category that does not exist, or there are boxes and no
            category has a class; lists the names.
    """
    unknown = [name for name in given if name not in categories]
    if unknown:
        closest = difflib.get_close_matches(unknown[0][:_LONGEST], categories, n=1)
        hint = f"; did you mean {closest[0]!r}?" if closest else ""
        raise ValueError(
            f"classes must map categories of {root}, which are {_listed(categories)}; got "
            f"{shorten(unknown[0])}{hint}"
        )
    found = {name: given.get(name, CATEGORY_TO_CLASS.get(name)) for name in categories}
    classes = {name: found_class for name, found_class in found.items() if found_class is not None}
    if any(num_boxes) and not classes:
        raise ValueError(
            f"a category of {root} must have a detection class ({', '.join(DETECTION_CLASSES)}); "
            f"got the categories {_listed(categories)}: map them with --classes FILE (in Python: "
            'classes=), a JSON object such as {"sedan": "car", "dog": null}'
        )
    ignored = [
        f"{name} ({count} boxes)"
        for name, count in zip(categories, num_boxes, strict=True)
        if count and name not in classes and name not in CATEGORIES and name not in given
    ]
    if ignored:
        warnings.warn(
            f"boxes of categories without a detection class are left out: {_listed(ignored)}; map "
            "them with --classes FILE (in Python: classes=), to null to confirm it",
            stacklevel=2,
        )
    return classes


def suggest_class(name: str) -> str:
    """Return the remedy for a name that is no detection class: the class that it means."""
    folded = name[:_LONGEST].strip().lower().replace(" ", "_").replace("-", "_")
    if folded in CATEGORIES and folded not in CATEGORY_TO_CLASS:
        return f"the category {folded!r} has no detection class, so leave it out"
    meant = {
        label
        for category, label in CATEGORY_TO_CLASS.items()
        if category == folded or category.startswith(f"{folded}.")
    }
    if meant:
        one_of = "" if len(meant) == 1 else "one of "
        return f"did you mean {one_of}{', '.join(map(repr, sorted(meant)))}?"
    by_name = {category.rpartition(".")[2]: c for category, c in CATEGORY_TO_CLASS.items()}
    by_name |= {label: label for label in DETECTION_CLASSES}
    closest = difflib.get_close_matches(folded.rpartition(".")[2], by_name, n=1, cutoff=0.0)
    return f"did you mean {by_name[closest[0]]!r}?"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:_LONGEST] for name in names[:_SHOWN]) + more
