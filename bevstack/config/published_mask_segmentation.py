"""Settings that the released Mask2Formers share; ``configs/segmentation`` names each one."""

from __future__ import annotations

from dataclasses import replace

from bevstack.config.internimage import detection_config
from bevstack.config.mask_segmentation import MaskHeadConfig, MaskSegmentationConfig
from bevstack.config.segmentation import RELEASED_TRAINING, LabelAugmentation, LabelledSizeConfig
from bevstack.config.training import TrainingConfig
from bevstack.vocabulary import COCO_CLASSES


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


# The 91 classes of surroundings of COCO-Stuff (arXiv 1612.03716).
STUFF_CLASSES = _names(
    """
    banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
    ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff,
    dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower,
    fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves,
    light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow,
    plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug,
    salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw,
    structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete,
    wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind,
    window-other, wood
    """
)
COCO_STUFF_CLASSES = (*(name for _, name in COCO_CLASSES), *STUFF_CLASSES)  # objects first
# The 59 most frequent classes of Pascal Context.
CONTEXT_CLASSES = _names(
    """
    aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus,
    cabinet, car, cat, ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor,
    flower, food, grass, ground, horse, keyboard, light, motorbike, mountain, mouse, person, plate,
    platform, pottedplant, road, rock, sheep, shelves, sidewalk, sign, sky, snow, sofa, table,
    track, train, tree, truck, tvmonitor, wall, water, window, wood
    """
)
# The 40 classes of NYU Depth V2.
NYU_CLASSES = _names(
    """
    wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter,
    blinds, desk, shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books,
    refrigerator, television, paper, towel, shower curtain, box, whiteboard, person, night stand,
    toilet, sink, lamp, bathtub, bag, otherstructure, otherfurniture, otherprop
    """
)
# The wide head of ADE20K and COCO-Stuff.
WIDE_HEAD = MaskHeadConfig(
    channels=1024,
    num_heads=32,
    num_queries=200,
    encoder_feedforward_channels=4096,
    decoder_feedforward_channels=4096,
)


def mask2former(
    name: str,
    class_names: tuple[str, ...],
    pictures: LabelledSizeConfig,
    head: MaskHeadConfig | None = None,
    *,
    crop: int,
    training: TrainingConfig,
) -> MaskSegmentationConfig:
    """Return a released Mask2Former with InternImage-H.

    Training pictures are resized relative to test pictures. The released recipes of Pascal Context
    and NYU Depth V2 resize them relative to 520 x 520 and 2048 x 512.

    Args:
        name: of the configuration.
        class_names: of the data set.
        pictures: sizes of test pictures.
        head: None: the narrow one, of 256 channels.
        crop: height and width of training pictures, pixels.
        training: the recipe.
    """
    return MaskSegmentationConfig(
        name=name,
        class_names=class_names,
        pictures=pictures,
        label_augmentation=LabelAugmentation(crop_px=(crop, crop)),
        backbone=detection_config("internimage_h"),
        head=MaskHeadConfig() if head is None else head,
        training=training,
    )


def mask_recipe(steps: int, learning_rate: float, *, batch_size: int = 16) -> TrainingConfig:
    """Return a released recipe; those of 40,000 steps do not clip gradients."""
    return replace(
        RELEASED_TRAINING,
        num_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        layer_decay=0.95,
        gradient_clip=0.1 if steps > 40_000 else RELEASED_TRAINING.gradient_clip,
        checkpoint_every=1_000,
        evaluate_every=2_000,
    )


def windows(side: int) -> LabelledSizeConfig:
    """Return the sizes of street scenes: windows of a side in pixels, 512 pixels apart."""
    return LabelledSizeConfig(
        long_side=2048, short_side=1024, window_px=(side, side), window_step_px=(512, 512)
    )
