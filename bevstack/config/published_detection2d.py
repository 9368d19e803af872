"""Settings that the released detectors for single pictures share; ``configs/`` names each one."""

from __future__ import annotations

from dataclasses import replace

from bevstack.config.checks import check
from bevstack.config.detection2d import (
    Detection2DConfig,
    PictureAugmentation,
    PictureConfig,
    RoIConfig,
    RPNConfig,
)
from bevstack.config.dino import DinoConfig, DinoDetectorConfig
from bevstack.config.internimage import detection_config
from bevstack.config.training import TrainingConfig
from bevstack.vocabulary import COCO_CLASSES

PICTURES = 117_266  # of COCO's training split that hold an object
SHORT, LONG = 12, 36  # epochs of the two schedules
COCO_NAMES = tuple(name for _, name in COCO_CLASSES)
# Training pictures of the long schedule
SCALES = tuple(range(480, 801, 32))
CROPPED = PictureAugmentation(short_sides=SCALES, crop_short_sides=(400, 500, 600))
_NO_CLIP = 1e9  # the released training does not clip gradients


def mask_rcnn(name: str, backbone: str, *, epochs: int) -> Detection2DConfig:
    """Return the released Mask R-CNN of a backbone, for 12 or 36 epochs.

    Raises:
        ValueError: another number of epochs, or no such backbone.
    """
    return Detection2DConfig(
        name=name,
        class_names=COCO_NAMES,
        picture_augmentation=_augmentation(epochs),
        backbone=detection_config(backbone),
        training=_schedule(epochs, batch_size=16),
    )


def cascade_mask_rcnn(name: str, backbone: str, *, epochs: int) -> Detection2DConfig:
    """Return the released Cascade Mask R-CNN of a backbone, for 12 or 36 epochs.

    Raises:
        ValueError: another number of epochs, or no such backbone.
    """
    long = epochs == LONG
    training = _schedule(epochs, batch_size=64 if long else 16)
    changed = detection_config(backbone)
    if long and backbone == "internimage_xl":
        changed = replace(changed, drop_path_rate=0.6)
    return Detection2DConfig(
        name=name,
        class_names=COCO_NAMES,
        picture_augmentation=_augmentation(epochs),
        backbone=changed,
        rpn=RPNConfig(train_proposals=2000, inside_only=True, smooth_l1_beta=1 / 9),
        roi=RoIConfig(
            num_convs=4,
            num_linear=1,
            stds=((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)),
            ious=(0.5, 0.6, 0.7),
            weights=(1.0, 0.5, 0.25),
            match_best=False,
            giou=True,
            box_weight=10.0,
        ),
        training=replace(
            training,
            learning_rate=2e-4 if long else 1e-4,
            layer_decay=0.90 if long else 0.94,
            ema_decay=1 - 1e-4 if long else 0.0,
        ),
    )


def dino(name: str, backbone: str, *, detections: int) -> DinoDetectorConfig:
    """Return the released DINO of a backbone of moderate size, for 12 epochs.

    The learning rate of each layer of the backbone is 0.9 times that of the next. In the released
    recipe the embeddings of levels have the stem's rate; here they have that of the other parts.

    Args:
        name: of the configuration.
        backbone: its name.
        detections: of an image: 100 for T, 300 for L.

    Raises:
        ValueError: no such backbone.
    """
    training = _schedule(SHORT, batch_size=16)
    return DinoDetectorConfig(
        name=name,
        class_names=COCO_NAMES,
        picture_augmentation=replace(CROPPED, crop_long_side=4200, crop_keeps_object=True),
        backbone=replace(detection_config(backbone), out_indices=(1, 2, 3)),
        dino=DinoConfig(detections=detections, noised_queries=100),
        training=replace(
            training,
            weight_decay=1e-4,
            layer_decay=0.90,
            gradient_clip=0.1,
            decay_at=(11 / 12,),
        ),
    )


def slow_backbone_dino(name: str, backbone: str) -> DinoDetectorConfig:
    """Return the released DINO whose backbone trains at 0.1 times the rate, in all layers alike.

    Raises:
        ValueError: no such backbone.
    """
    config = dino(name, backbone, detections=300)
    training = replace(config.training, weight_decay=0.05, layer_decay=1.0, backbone_multiplier=0.1)
    return replace(config, training=training)


def large_dino(name: str, backbone: str, *, composite: bool = False) -> DinoDetectorConfig:
    """Return the released DINO of a large backbone, which starts from another data set's weights.

    In the released recipe the embeddings of levels have the stem's rate; here they have that of the
    other parts.

    Raises:
        ValueError: no such backbone.
    """
    return DinoDetectorConfig(
        name=name,
        class_names=COCO_NAMES,
        pictures=PictureConfig(long_side=2000, short_side=1000),
        # Any length from 600 to 1800 in the released recipe
        picture_augmentation=PictureAugmentation(short_sides=tuple(range(600, 1801, 2))),
        backbone=replace(detection_config(backbone), out_indices=(1, 2, 3)),
        composite=composite,
        training=replace(
            _schedule(SHORT, batch_size=64),
            num_steps=20_000,
            weight_decay=1e-4,
            # The released rule finds no layers under the names of two backbones
            layer_decay=1.0 if composite else 0.94,
            gradient_clip=0.1,
            decay_at=(),
            offset_multiplier=1e-3,
        ),
    )


def _augmentation(epochs: int) -> PictureAugmentation:
    return CROPPED if epochs == LONG else PictureAugmentation()


def _schedule(epochs: int, *, batch_size: int) -> TrainingConfig:
    """Return the recipe: steps of 8/12 and 11/12, or 27/36 and 33/36, of the epochs."""
    check("epochs", epochs in (SHORT, LONG), f"be {SHORT} or {LONG}", epochs)
    decay_at = (8 / 12, 11 / 12) if epochs == SHORT else (27 / 36, 33 / 36)
    return TrainingConfig(
        num_steps=epochs * -(-PICTURES // batch_size),
        batch_size=batch_size,
        learning_rate=1e-4,
        backbone_multiplier=1.0,
        weight_decay=0.05,
        decay_norms_and_biases=False,
        gradient_clip=_NO_CLIP,
        warmup_steps=500,
        warmup_start=1e-3,
        decay_at=decay_at,
    )
