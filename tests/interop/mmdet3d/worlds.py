"""A small world with information files that mmdetection3d's own converters made of it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mmdet3d
import pytest
from mmdet3d.registry import DATASETS
from mmdet3d.utils import register_all_modules

import bevstack.interop.mmdet3d  # noqa: F401  registers the step LidarToEgo
from bevstack.interop.mmdet3d_samples import CLASSES
from bevstack.synthetic import WorldSpec, make_world
from tests.small_world import build_once

SPEC = WorldSpec(
    version="v1.0-mini",
    train_scenes=8,
    val_scenes=2,
    test_scenes=0,
    samples_per_scene=2,
    image_size=(90, 160),
)
META_KEYS = (
    *("img_path", "img_shape", "cam2img", "lidar2cam", "lidar2ego", "sample_idx"),
    *("box_type_3d", "box_mode_3d"),
)
LOADING = (
    {"type": "LoadMultiViewImageFromFiles", "to_float32": True, "num_views": 6},
    {"type": "LidarToEgo"},
)
VAL = [*LOADING, {"type": "Pack3DDetInputs", "keys": ["img"], "meta_keys": META_KEYS}]
TRAIN = [
    *LOADING,
    {"type": "LoadAnnotations3D", "with_bbox_3d": True, "with_label_3d": True},
    {
        "type": "Pack3DDetInputs",
        "keys": ["img", "gt_bboxes_3d", "gt_labels_3d"],
        "meta_keys": META_KEYS,
    },
]


def converter(name: str) -> ModuleType:
    """Load one of mmdetection3d's converters, which its wheel holds as data."""
    folder = Path(mmdet3d.__file__).parent / ".mim" / "tools" / "dataset_converters"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(folder: Path) -> None:
    """Write the world, ``infos`` beside its tables, and ``data_list`` in the folder ``newer``."""
    root = folder / "data" / "nuscenes"  # the path that the second converter expects
    make_world(root, SPEC)
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else _chdir(folder):
        converter("nuscenes_converter").create_nuscenes_infos(
            "./data/nuscenes", "nuscenes", version=SPEC.version
        )
        (folder / "newer").mkdir()
        for split in ("train", "val"):
            converter("update_infos_to_v2").update_nuscenes_infos(
                f"./data/nuscenes/nuscenes_infos_{split}.pkl", "newer"
            )


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:  # contextlib has it from Python 3.11 on
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def mini_world(factory: pytest.TempPathFactory) -> Path:
    """Return the folder with ``data/nuscenes`` and ``newer``."""
    return build_once(factory, "mmdet3d_world", _build)


def dataset_config(folder: Path, split: str, pipeline: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the configuration of mmdetection3d's dataset."""
    cameras = ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")
    return {
        "type": "NuScenesDataset",
        "data_root": f"{folder / 'data' / 'nuscenes'}/",
        "ann_file": str(folder / "newer" / f"nuscenes_infos_{split}.pkl"),
        "pipeline": pipeline,
        "metainfo": {"classes": CLASSES, "version": SPEC.version},
        "modality": {"use_lidar": False, "use_camera": True},
        "data_prefix": {f"CAM_{camera}": f"samples/CAM_{camera}" for camera in cameras},
        "box_type_3d": "LiDAR",
        "test_mode": pipeline is VAL,
    }


def open_dataset(folder: Path, split: str, pipeline: list[dict[str, Any]]) -> Any:
    """Return mmdetection3d's dataset of a split."""
    register_all_modules(init_default_scope=True)
    return DATASETS.build(dataset_config(folder, split, pipeline))
