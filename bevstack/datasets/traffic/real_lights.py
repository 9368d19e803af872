"""Audit of pictures that a labelling service augmented: upside-down and skewed ones, and groups.

The service exports several versions of a photo, flipped, rotated and sheared, under the photo's
name: ``<photo>_jpg.rf.<digest>.jpg``. A flipped street teaches a model a world that does not exist.
Three measurements find such pictures without a list:

- **Upside down.** A street by day has its sky, which is brighter, above. A picture whose lower
  third is brighter than its upper third is upside down. Night, indoor and close pictures break the
  rule, so ``audit_pictures`` takes it from the caller that a set shows streets by day.
- **Skew.** Rotation and shear leave black wedges at the borders. The angle of the steepest wedge is
  the greatest turn of a side. Wedges are found by the line that most of the border's black runs
  end on, so that dark objects at the border do not count.
- **Group.** Pictures of one photo, or of one place seconds apart, must not lie in training and test
  both. Those whose thumbnails correlate belong together, as do those of one batch of a telephone.
  Numbered photos are shot in series, so blocks of 20 numbers stay together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.file_names import path_inside
from bevstack.types.labelled_images import LabelledImage

MAX_SKEW_DEG = 10.0  # of a picture that is used in training
MIN_CORRELATION = 0.85  # of thumbnails of one place
SERIES_LENGTH = 20  # of photos' numbers that stay together
_BLACK = 20  # greatest value of a filled pixel, after JPEG's rounding
_THUMBNAIL = 24
_COLUMNS = 48  # of a border, at which black runs are measured
_MIN_INLIERS = 10
_NEAR_PX = 1.5
_PHOTO = re.compile(r"(?P<photo>.+?)_(?:jpe?g|png)\.rf\.[0-9a-f]{32}$", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<name>\D*)--(?P<number>\d{1,9})-")
_BATCH = re.compile(r"(?P<batch>KakaoTalk_\d{8}_\d{9})(?:_\d+)?$")


@dataclass(frozen=True, kw_only=True)
class PictureAudit:
    """The measurements of one picture."""

    path: str
    photo: str  # name of the photo that it was made from
    group: str  # of pictures that must stay together
    upside_down: bool
    skew_deg: float  # greatest angle of a side of the photo; 0: no wedge

    @property
    def usable(self) -> bool:
        """Return True if the picture may be used in training."""
        return not self.upside_down and self.skew_deg <= MAX_SKEW_DEG


def audit_pictures(
    root: Path | str, images: Sequence[LabelledImage], *, streets_by_day: bool
) -> tuple[PictureAudit, ...]:
    """Measure the pictures of a data set.

    Args:
        root: folder that the pictures' paths are relative to.
        images: the pictures.
        streets_by_day: look for upside-down and skewed pictures, by rules that hold for streets by
            day alone. False takes all pictures as upright: look at them.

    Raises:
        FileNotFoundError: a picture does not exist.
        ValueError: a picture is damaged, or its path leads out of ``root``.
    """
    photos = [photo_name(image.path) for image in images]
    flipped, skews, thumbnails = [], [], []
    for image in images:
        pixels = read_image(path_inside(Path(root), image.path, what="path of a picture"))
        flipped.append(streets_by_day and is_upside_down(pixels))
        skews.append(skew_deg(pixels) if streets_by_day else 0.0)
        thumbnails.append(_thumbnail(pixels[::-1] if flipped[-1] else pixels))
    groups = _groups(photos, np.array(thumbnails))
    return tuple(
        PictureAudit(path=image.path, photo=photo, group=group, upside_down=up, skew_deg=skew)
        for image, photo, group, up, skew in zip(
            images, photos, groups, flipped, skews, strict=True
        )
    )


def photo_name(path: str) -> str:
    """Return the name of the photo that an exported picture was made from."""
    stem = Path(path).stem
    match = _PHOTO.fullmatch(stem)
    return match["photo"] if match else stem


def is_upside_down(
    pixels: NDArray[np.uint8],  # (H, W, 3)
) -> bool:
    """Return True if the lower third is brighter than the upper one; filled pixels do not count."""
    third = len(pixels) // 3
    upper, lower = (_brightness(part) for part in (pixels[:third], pixels[-third:]))
    return lower > upper


def skew_deg(
    pixels: NDArray[np.uint8],  # (H, W, 3)
) -> float:
    """Return the greatest angle between a side of the photo and the picture's side, in degrees."""
    black = _is_black(pixels)
    return max(_wedge_deg(side) for side in (black, black[::-1], black.T, black.T[::-1]))


def training_split(audits: Sequence[PictureAudit], test_share: float) -> tuple[bool, ...]:
    """Return for each picture if it belongs to the test part; groups are never divided.

    Groups are ordered by the SHA-256 of their names, so that the split depends on nothing else.
    They go to the test part until it holds ``test_share`` of the pictures.
    """
    sizes: dict[str, int] = {}
    for audit in audits:
        sizes[audit.group] = sizes.get(audit.group, 0) + 1
    chosen, count = set(), 0
    for group in sorted(sizes, key=lambda name: sha256(name.encode()).hexdigest()):
        if count + sizes[group] <= test_share * len(audits) + 0.5:
            chosen.add(group)
            count += sizes[group]
    return tuple(audit.group in chosen for audit in audits)


def _brightness(part: NDArray[np.uint8]) -> float:
    """Return the mean of the channels of pixels that are not filled."""
    kept = (~_is_black(part)).astype(np.uint8)
    return float(sum(cv2.mean(part, mask=kept)[:3]))


def _is_black(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue) < _BLACK)


def _wedge_deg(black: NDArray[np.bool_]) -> float:
    """Return the angle of the wedge at the first row of a mask; 0 if there is none."""
    height, width = black.shape
    columns = np.linspace(4, width - 5, _COLUMNS).round()
    light = ~black[:, columns.astype(np.int64)]
    depths = np.where(light.any(axis=0), light.argmax(axis=0), height).astype(np.float64)
    if (depths > _NEAR_PX).sum() < _MIN_INLIERS:
        return 0.0
    first, second = np.triu_indices(_COLUMNS, k=4)
    slopes = (depths[second] - depths[first]) / (columns[second] - columns[first])
    lines = depths[first, None] + slopes[:, None] * (columns - columns[first, None])  # (pairs, C)
    in_wedge = lines > _NEAR_PX
    fits = in_wedge & (np.abs(depths - lines) < _NEAR_PX)
    share = fits.sum(axis=1) / np.maximum(in_wedge.sum(axis=1), 1)
    steep = np.abs(slopes) < np.tan(np.radians(20.0))  # 7 of rotation and 10 of shear, and a rest
    votes = np.where(steep & (share > 0.6), fits.sum(axis=1), 0)
    best = int(votes.argmax())
    if votes[best] < _MIN_INLIERS:
        return 0.0
    return float(np.degrees(np.arctan(abs(slopes[best]))))


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a grey thumbnail with mean 0 and length 1."""
    size = (_THUMBNAIL, _THUMBNAIL)
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))


def _groups(photos: Sequence[str], thumbnails: NDArray[np.float64]) -> list[str]:
    """Return the name of each picture's group: the first photo of it."""
    parents = list(range(len(photos)))

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    names: dict[str, int] = {}
    for index, photo in enumerate(photos):
        parents[root(index)] = root(names.setdefault(_series(photo), index))
    similar = thumbnails @ thumbnails.T > MIN_CORRELATION
    for first, second in np.argwhere(np.triu(similar, k=1)):
        one, other = sorted((root(int(first)), root(int(second))))
        parents[other] = one
    return [photos[root(index)] for index in range(len(photos))]


def _series(photo: str) -> str:
    """Return the name that photos of one series share: a batch, a block of numbers, or itself."""
    batch, numbered = _BATCH.fullmatch(photo), _NUMBERED.fullmatch(photo)
    if batch:
        return batch["batch"]
    if numbered:
        return f"{numbered['name']}/{int(numbered['number']) // SERIES_LENGTH}"
    return photo
