"""Reading of nuScenes-format roots as model input: clips, preprocessing, augmentation, loading."""

from bevstack.datasets.clips import load_clip
from bevstack.datasets.images import read_image
from bevstack.datasets.loader import collate, make_evaluation_loader, make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset

__all__ = [
    "NuScenesDataset",
    "collate",
    "load_clip",
    "make_evaluation_loader",
    "make_training_loader",
    "read_image",
]
