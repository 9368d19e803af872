"""Augmentation of the traffic view: light, glare, zoom and mirror; colours keep their hue.

Mirroring swaps left and right in signs, arrows and manoeuvres. A mirrored U-turn and a mirrored
number exist nowhere, so their labels become unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.traffic import SHUFFLE_COLORS, SWAP_SIDES, TrafficConfig
from bevstack.datasets.traffic_view.front_view import Crop
from bevstack.types.traffic_batch import UNKNOWN, TrafficTargets
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS

EXPOSURE_STOPS = 0.8  # largest change of exposure, as a power of two
GAMMA = (0.8, 1.25)
CONTRAST = (0.75, 1.3)
BRIGHTNESS = 20.0
SATURATION = (0.6, 1.4)
HIDE_MOTION = 0.3  # share of the samples without the own motion
# The veil of `synthetic.renderer.lens_light.add_glare`. At its strongest a dark lamp is still
# darker than a lit one, so the picture shows every label.
VEIL_STRENGTH = (0.2, 0.75)  # share of white at the sun
VEIL_REACH = (0.10, 0.25)  # distance at which 1/e is left, relative to the width of the view
VEIL_REST = 0.08  # share of the strength that is left far from the sun
VEIL_COLOR = (1.0, 0.96, 0.86)  # RGB
VEIL_COLUMN, VEIL_ROW = (-0.1, 1.1), (-0.3, 0.8)  # place of the sun, in widths and heights
_PAIRS = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Veil:
    """White light of a low sun that spreads in the lens: strongest at the sun, nowhere zero."""

    strength: float  # share of white at the sun
    column: float  # of the sun, in widths of the view; it may lie outside
    row: float  # in heights
    reach: float  # distance at which 1/e is left, in widths

    def cover(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:  # (H, W, 3) RGB, new
        """Add the veil to the pixels."""
        height, width = image.shape[:2]
        rows, columns = np.ogrid[0:height, 0:width]
        away = np.hypot(rows - self.row * height, columns - self.column * width) / width
        light = self.strength * (np.exp(-away / self.reach) + VEIL_REST)
        added = 255 * light[..., None] * np.array(VEIL_COLOR)
        return np.asarray(np.rint(np.minimum(image + added, 255)), np.uint8)


@dataclass(frozen=True, kw_only=True)
class TrafficAugmentation:
    """Augmentation of one sample; the defaults change nothing."""

    zoom: float = 1.0
    across: float = 0.5  # place of the crop in what the zoom leaves over, 0 left to 1 right
    down: float = 0.5  # 0 top to 1 bottom
    mirror: bool = False
    gain: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    saturation: float = 1.0
    veil: Veil | None = None
    hide_motion: bool = False  # the first frame of a stream has no known motion
    swap_sides: bool = False  # a control: see TrafficConfig.control
    color_seed: int | None = None  # a control: of the random colours; None: the true ones

    def crop(self, whole: Crop) -> Crop:
        """Return the zoomed crop: part of ``whole`` at its size, or all of it smaller."""
        height, width = whole.bottom - whole.top, whole.right - whole.left
        if self.zoom <= 1:
            size = (
                max(1, round(whole.size[0] * self.zoom)),
                max(1, round(whole.size[1] * self.zoom)),
            )
            return replace(whole, size=size)
        rows, columns = max(1, round(height / self.zoom)), max(1, round(width / self.zoom))
        top = whole.top + round((height - rows) * self.down)
        left = whole.left + round((width - columns) * self.across)
        return Crop(left, top, left + columns, top + rows, whole.size)

    def change_light(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Change exposure, gamma, contrast, brightness and saturation, then add the veil."""
        values = np.arange(256, dtype=np.float64) / 255
        values = np.clip(values * self.gain, 0, 1) ** self.gamma * 255
        values = (values - 127.5) * self.contrast + 127.5 + self.brightness
        table = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
        changed = cv2.LUT(image, table)
        if self.saturation != 1:
            gray = cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)
            gray = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
            changed = cv2.addWeighted(changed, self.saturation, gray, 1 - self.saturation, 0)
        pixels: NDArray[np.uint8] = np.asarray(changed, np.uint8)
        return pixels if self.veil is None else self.veil.cover(pixels)


def draw_traffic_augmentation(
    config: TrafficConfig, rng: np.random.Generator
) -> TrafficAugmentation:
    """Draw the augmentation of one sample; every parameter is drawn, used or not."""
    low, high = (math.log(side) for side in config.scale)
    zoom = math.exp(rng.uniform(low, high))
    across, down, mirror, motion = rng.uniform(size=4)
    stops = rng.uniform(-EXPOSURE_STOPS, EXPOSURE_STOPS)
    gamma = math.exp(rng.uniform(math.log(GAMMA[0]), math.log(GAMMA[1])))
    contrast, saturation = rng.uniform(*CONTRAST), rng.uniform(*SATURATION)
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    place = TrafficAugmentation(
        zoom=zoom,
        across=float(across),
        down=float(down),
        mirror=bool(mirror < 0.5 and config.mirror),
        hide_motion=bool(motion < HIDE_MOTION),
        swap_sides=config.control == SWAP_SIDES,
        color_seed=int(rng.integers(2**31)) if config.control == SHUFFLE_COLORS else None,
    )
    if rng.random() < config.glare:  # drawn last: glare changes no other draw
        place = replace(place, veil=_draw_veil(rng))
    if not config.photometric:
        return place
    return replace(
        place,
        gain=float(2**stops),
        gamma=gamma,
        contrast=float(contrast),
        brightness=float(brightness),
        saturation=float(saturation),
    )


def _draw_veil(rng: np.random.Generator) -> Veil:
    limits = (VEIL_STRENGTH, VEIL_COLUMN, VEIL_ROW, VEIL_REACH)
    return Veil(*(float(rng.uniform(low, high)) for low, high in limits))


def swapped_name(name: str) -> str | None:
    """Return the name of the mirror image of an arrow, meaning or turn; None for a U-turn."""
    if name in ("u_turn", "no_u_turn"):
        return None
    return "_".join(_PAIRS.get(part, part) for part in name.split("_"))


def mirror_targets(targets: TrafficTargets, widths: Tensor) -> TrafficTargets:
    """Mirror labels with their images.

    Args:
        targets: the labels.
        widths: (M,) pixels, of the images.
    """
    left, top, right, bottom = targets.boxes_px.unbind(1)
    width = widths.to(left.dtype)[targets.image]
    return replace(
        swap_sides(targets),
        boxes_px=torch.stack((width - right, top, width - left, bottom), 1),
        speed_limit=torch.full_like(targets.speed_limit, UNKNOWN),
        aspect_rad=-targets.aspect_rad,
    )


def swap_sides(targets: TrafficTargets) -> TrafficTargets:
    """Swap left and right in arrows, meanings and manoeuvres; boxes stay."""
    columns = [_swapped_index(MANOEUVRES)[place] for place in range(len(MANOEUVRES))]
    relevance = targets.relevance[:, [max(column, 0) for column in columns]].clone()
    relevance[:, [place for place, column in enumerate(columns) if column < 0]] = UNKNOWN
    return replace(
        targets,
        shape=_swapped(targets.shape, LAMP_SHAPES),
        meaning=_swapped(targets.meaning, SIGN_MEANINGS),
        relevance=relevance,
    )


def draw_colors(targets: TrafficTargets, seed: int) -> TrafficTargets:
    """Replace every known colour by one that is drawn uniformly from all of them."""
    drawn = np.random.default_rng(seed).integers(len(LIGHT_COLORS), size=len(targets))
    known = targets.color >= 0
    return replace(targets, color=torch.where(known, torch.from_numpy(drawn), targets.color))


def mirror_camera(
    intrinsics: Tensor,  # (3, 3)
    ego_from_cam: Tensor,  # (4, 4)
    width: int,
) -> tuple[Tensor, Tensor]:
    """Return the calibration of the mirror image of a camera: u' = W - u, y' = -y of the ego."""
    mirrored = intrinsics.clone()
    mirrored[0, 1] = -intrinsics[0, 1]
    mirrored[0, 2] = width - intrinsics[0, 2]
    rows = ego_from_cam.new_tensor((1.0, -1.0, 1.0, 1.0))
    columns = ego_from_cam.new_tensor((-1.0, 1.0, 1.0, 1.0))
    return mirrored, rows[:, None] * ego_from_cam * columns


def _swapped_index(names: tuple[str, ...]) -> list[int]:
    """Return the index of each name's mirror image; -1 if it has none."""
    swapped = [swapped_name(name) for name in names]
    return [UNKNOWN if name is None else names.index(name) for name in swapped]


def _swapped(classes: Tensor, names: tuple[str, ...]) -> Tensor:
    table = torch.tensor([*_swapped_index(names), UNKNOWN])  # the last one stands for -1
    return table[classes]
