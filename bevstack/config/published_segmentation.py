"""Settings that the released segmenters share; ``configs/segmentation`` names each one."""

from __future__ import annotations

from dataclasses import replace

from bevstack.config.internimage import detection_config
from bevstack.config.segmentation import (
    RELEASED_TRAINING,
    SEGFORMER,
    LabelAugmentation,
    LabelHeadConfig,
    LabelledSizeConfig,
    SegmentationConfig,
)
from bevstack.config.training import TrainingConfig
from bevstack.vocabulary import SEMANTIC_CLASSES

# ADE20K's 150 classes (scene parsing benchmark), in the order of its labels less one.
ADE20K_CLASSES: tuple[str, ...] = tuple(
    """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
    person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf,
    house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub,
    railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink,
    skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
    screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill,
    bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth,
    television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman,
    bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
    swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food,
    step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket,
    sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate,
    monitor, bulletin board, shower, radiator, glass, clock, flag
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
# Cityscapes' 19 classes in the order of its train ids.
CITYSCAPES_CLASSES: tuple[str, ...] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
WORLD_CLASSES = SEMANTIC_CLASSES  # of synthetic worlds
OUTPUTS = 150  # of every released model, those of Cityscapes included
# Longest sides of test pictures of ADE20K by the shorter side.
_LONG_SIDES = {512: 2048, 640: 2560, 896: 3584}
# Ratio of the learning rates of neighbouring layers of the larger backbones
_LAYER_DECAYS = {
    "internimage_l": 0.94,
    "internimage_xl": 0.94,
    "internimage_h": 0.95,
    "internimage_g": 0.95,
}


def upernet_ade20k(name: str, backbone: str, *, side: int) -> SegmentationConfig:
    """Return the released UperNet of a backbone for ADE20K.

    Args:
        name: of the configuration.
        backbone: its name.
        side: shorter side of test pictures, pixels: 512, 640 or 896.

    Raises:
        ValueError: there is no such backbone.
        KeyError: another side.
    """
    return SegmentationConfig(
        name=name,
        class_names=ADE20K_CLASSES,
        num_outputs=OUTPUTS,
        pictures=LabelledSizeConfig(long_side=_LONG_SIDES[side], short_side=side),
        label_augmentation=LabelAugmentation(crop_px=(side, side)),
        backbone=detection_config(backbone),
        training=_training(backbone),
    )


def upernet_cityscapes(name: str, backbone: str) -> SegmentationConfig:
    """Return the released UperNet of a backbone for Cityscapes.

    Raises:
        ValueError: there is no such backbone.
    """
    return _cityscapes(name, backbone, LabelHeadConfig())


def segformer_cityscapes(name: str, backbone: str) -> SegmentationConfig:
    """Return the released model with SegFormer's head for Cityscapes.

    Raises:
        ValueError: there is no such backbone.
    """
    head = LabelHeadConfig(kind=SEGFORMER, channels=256, auxiliary_channels=0)
    return _cityscapes(name, backbone, head)


def _cityscapes(name: str, backbone: str, head: LabelHeadConfig) -> SegmentationConfig:
    return SegmentationConfig(
        name=name,
        class_names=CITYSCAPES_CLASSES,
        num_outputs=OUTPUTS,
        pictures=LabelledSizeConfig(long_side=2048, short_side=1024, multiple=1),
        label_augmentation=LabelAugmentation(crop_px=(512, 1024)),
        backbone=detection_config(backbone),
        head=head,
        training=_training(backbone),
    )


def _training(backbone: str) -> TrainingConfig:
    """Return the released recipe of a backbone."""
    decay = _LAYER_DECAYS.get(backbone)
    if decay is None:
        return RELEASED_TRAINING
    return replace(RELEASED_TRAINING, learning_rate=2e-5, layer_decay=decay, gradient_clip=0.1)
