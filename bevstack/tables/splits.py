"""Scenes of a split: an official split, one of the version's ``splits.json``, or a list."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bevstack.json_files import expect_text, read_json, shorten
from bevstack.tables.reader import Tables

MINI_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mini_train": (
            "scene-0061",
            "scene-0553",
            "scene-0655",
            "scene-0757",
            "scene-0796",
            "scene-1077",
            "scene-1094",
            "scene-1100",
        ),
        "mini_val": ("scene-0103", "scene-0916"),
    }
)

# Official split -> ending of the names of the versions that hold it.
OFFICIAL_SPLITS: Mapping[str, str] = MappingProxyType(
    {
        "train": "trainval",
        "val": "trainval",
        "train_detect": "trainval",
        "train_track": "trainval",
        "test": "test",
        "mini_train": "mini",
        "mini_val": "mini",
    }
)

SPLITS_FILE = "splits.json"


def scenes_of_split(
    tables: Tables,
    split: str | Sequence[str],
) -> tuple[str, ...]:
    """Return the names of the scenes of a split.

    Names of official splits have a fixed meaning. All remaining names are looked up in
    ``splits.json`` in the version's folder, the file that nuscenes-devkit uses. The result of an
    official split is limited to the scenes that the version holds. For a list or a split of
    ``splits.json``, the version must hold every scene.

    Args:
        tables: the version's tables.
        split: the name of a split, or a list of scene names.

    Raises:
        ValueError: an unknown split (the message suggests the closest name), an official split of
            another version, a scene that is not in the version or listed twice, or no scene at all.
        ImportError: only nuscenes-devkit lists the scenes of the split, and it is not installed.
    """
    if not isinstance(split, str):
        names = tuple(split)
        return _listed_scenes(tables, names, "scenes")
    if split in OFFICIAL_SPLITS:
        return _official_scenes(tables, split)
    custom = _custom_splits(tables)
    if split not in custom:
        known = [
            *custom,
            *(s for s, end in OFFICIAL_SPLITS.items() if tables.version.endswith(end)),
        ]
        closest = difflib.get_close_matches(split, known, n=1)
        example = json.dumps({split: [str(name) for name in tables.scenes.name[:1]]})
        remedy = f"name scenes with --scene, or group them in {tables.folder / SPLITS_FILE}, "
        remedy = f"did you mean {closest[0]!r}?" if closest else f"{remedy}e.g. {example}"
        raise ValueError(
            f"split must be one of {', '.join(known) or 'none'} for {tables.version}; got "
            f"{split!r}; {remedy}"
        )
    where = f"split {split!r} in {tables.folder / SPLITS_FILE}"
    return _listed_scenes(tables, custom[split], where)


def _listed_scenes(tables: Tables, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names of a list, after a check that each is a scene and occurs once."""
    if not names:
        raise ValueError(f"{where} must name at least one scene; got an empty list")
    for row, name in enumerate(names):
        if name in names[:row]:
            raise ValueError(
                f"{where} must list every scene once; got {name!r} twice, which would count its "
                "samples twice: remove one"
            )
    tables.scene_rows(names)
    return tuple(names)


def is_official(split: str | Sequence[str]) -> bool:
    """Return True if nuscenes-devkit knows the split by name.

    The devkit then requires results for exactly the samples of the split.
    """
    return isinstance(split, str) and split in OFFICIAL_SPLITS


def _official_scenes(tables: Tables, split: str) -> tuple[str, ...]:
    ending = OFFICIAL_SPLITS[split]
    if not tables.version.endswith(ending):
        custom = ", ".join(_custom_splits(tables)) or "none"
        raise ValueError(
            f"split {split!r} must be asked of a version that ends in {ending!r}; got "
            f"{tables.version!r}; splits in its splits.json: {custom}"
        )
    wanted = set(MINI_SPLITS[split] if split in MINI_SPLITS else _devkit_scenes(split))
    names = tuple(str(name) for name in tables.scenes.name if name in wanted)
    if not names:
        raise ValueError(
            f"split {split!r} must have a scene in {tables.version} of {tables.root}; got none of "
            f"its {len(wanted)} scenes: the tables are of another part of the data set"
        )
    return names


def _devkit_scenes(split: str) -> list[str]:
    """Read the scenes of a split from the source text of the devkit.

    Importing the devkit would take two seconds, most of them for scikit-learn.
    """
    devkit = importlib.util.find_spec("nuscenes")
    if devkit is None or not devkit.submodule_search_locations:
        raise ImportError(
            f"split {split!r} must be looked up in nuscenes-devkit, which lists its scenes; got no "
            "such module: pip install 'bevstack[nuscenes]', or name the scenes"
        )
    path = Path(devkit.submodule_search_locations[0]) / "utils" / "splits.py"
    lists: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            lists |= {t.id: ast.literal_eval(node.value) for t in node.targets if hasattr(t, "id")}
    lists["train"] = sorted({*lists["train_detect"], *lists["train_track"]})
    return lists[split]


def _custom_splits(tables: Tables) -> Mapping[str, list[str]]:
    path = tables.folder / SPLITS_FILE
    if not path.is_file():
        return {}
    requirement = "map split names to lists of scene names"
    splits = read_json(path, str(path))
    if not isinstance(splits, dict):
        raise ValueError(f"{path} must {requirement}; got {shorten(splits)}")
    for name, scenes in splits.items():
        expect_text(f"name of a split in {path}", name)
        if not isinstance(scenes, list) or not all(isinstance(scene, str) for scene in scenes):
            raise ValueError(
                f"{path} must {requirement}; got {shorten(scenes)} for {name!r}: write it as "
                f'{{"{name}": ["scene-0001"]}}'
            )
    return splits
