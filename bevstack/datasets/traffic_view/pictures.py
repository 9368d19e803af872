"""Training samples of the traffic view from labelled single pictures without rig or pose.

A picture is taken for the image of a level front camera. Labels that pictures do not have are
unknown and give no loss: depth, heading, relevance and, unless the set states road users, the
question if a light is for pedestrians. Boxes of lamps and of housings are two kinds; a kind that a
set does not annotate is neither positive nor negative in its pictures. If a set has a class for an
arrow, a class named by a colour alone is a round lamp; without any arrow, shapes are unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import ImageConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.datasets.images import read_image
from bevstack.datasets.traffic import read
from bevstack.datasets.traffic.real_lights import audit_pictures
from bevstack.datasets.traffic_view.augmentation import TrafficAugmentation
from bevstack.datasets.traffic_view.front_view import FRONT, Crop, FrontCamera, whole_crop
from bevstack.datasets.traffic_view.labels import ElementIndex
from bevstack.datasets.traffic_view.samples import TrafficSample, prepare_sample
from bevstack.file_names import path_inside
from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import LAMP, TrafficElement
from bevstack.types.traffic_batch import BOX_KINDS, LAMP_ONLY, LIGHT, SIGN
from bevstack.vocabulary import ROAD_SIGN

# Camera that a picture without calibration is taken for: 53 degrees wide, as a phone's or a front
# camera's. Distances follow from it, boxes and states do not.
FOCAL_PER_SIDE = 1.0  # focal length in longer sides of the picture
HEIGHT_M = 1.5
_CENTERED = 0.75  # share of the training windows that lie around an element


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """The usable pictures of a data set, with the group that each belongs to."""

    name: str  # first part of the samples' tokens
    root: Path  # that the pictures' paths are relative to
    images: tuple[LabelledImage, ...]
    groups: tuple[str, ...]  # of each picture; pictures of one photo or place share one
    num_dropped: int = 0  # pictures that are upside down or skewed

    @property
    def kinds(self) -> frozenset[int]:
        """Return the kinds of box, of BOX_KINDS, that the set annotates."""
        return frozenset(_kind(e) for image in self.images for e in image.elements)

    def select(self, chosen: Sequence[bool]) -> PictureSet:
        """Return some of the pictures."""
        rows = [row for row, wanted in enumerate(chosen) if wanted]
        images = tuple(self.images[row] for row in rows)
        return replace(self, images=images, groups=tuple(self.groups[row] for row in rows))


def open_pictures(
    name: str, root: Path, format: str, *, box_convention: str | None, streets_by_day: bool
) -> PictureSet:
    """Read a data set of pictures and drop those that are upside down or skewed.

    Args:
        name: name of the set.
        root: its folder, which the pictures' paths are relative to.
        format: of ``bevstack.datasets.traffic.FORMATS``.
        box_convention: what the boxes surround; None for formats that state it.
        streets_by_day: the pictures show streets by day, so that those that are upside down or
            skewed can be found.

    Raises:
        FileNotFoundError: a label file or picture does not exist.
        ValueError: a file is damaged, or there is no element.
    """
    found = read(root, format, box_convention=box_convention)
    audits = audit_pictures(root, found.images, streets_by_day=streets_by_day)
    whole = PictureSet(
        name=name, root=root, images=found.images, groups=tuple(audit.group for audit in audits)
    )
    usable = whole.select([audit.usable for audit in audits])
    if not usable.kinds:
        raise ValueError(
            f"pictures {name} must have an element; got none in {len(usable.images)} pictures"
        )
    return replace(usable, num_dropped=len(found.images) - len(usable.images))


def fold_numbers(groups: Sequence[str], count: int) -> list[int]:
    """Return the fold, 0 to ``count`` - 1, of each picture; groups are never divided.

    The largest group goes first, each into the fold with the fewest pictures. Groups of equal size
    are ordered by the SHA-256 of their names, so that the folds depend on nothing else.

    Raises:
        ValueError: there are fewer groups than folds.
    """
    sizes: dict[str, int] = defaultdict(int)
    for group in groups:
        sizes[group] += 1
    if not 2 <= count <= len(sizes):
        raise ValueError(
            f"number of folds must be from 2 to {len(sizes)}, the groups of pictures; got {count}"
        )
    held = [0] * count
    fold: dict[str, int] = {}
    ordered = sorted(sizes, key=lambda name: (-sizes[name], sha256(name.encode()).hexdigest()))
    for group in ordered:
        fold[group] = held.index(min(held))
        held[fold[group]] += sizes[group]
    return [fold[group] for group in groups]


def split_fold(pictures: PictureSet, number: int, count: int) -> tuple[PictureSet, PictureSet]:
    """Return the pictures outside a fold, to train on, and those in it.

    Raises:
        ValueError: there is no such fold.
    """
    if not 0 <= number < count:
        raise ValueError(f"number of the fold must be from 0 to {count - 1}; got {number}")
    inside = [fold == number for fold in fold_numbers(pictures.groups, count)]
    return pictures.select([not each for each in inside]), pictures.select(inside)


def level_camera(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return intrinsics (3, 3) and ego_from_cam (4, 4), float64, for a picture of size (H, W).

    The camera is level, looks ahead and has a usual angle of view.
    """
    height, width = size
    focal = FOCAL_PER_SIDE * max(height, width)
    pose = torch.eye(4, dtype=torch.float64)
    # columns: right, down and forward in the ego frame
    pose[:3, :3] = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    pose[2, 3] = HEIGHT_M
    rows = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64), pose


class PictureSamples:
    """Pictures of several sets as samples of the traffic view.

    Args:
        sets: the pictures.
        config: the traffic section.
        images: normalisation.

    Raises:
        ValueError: two sets have one name, or two pictures of a set one path.
    """

    def __init__(
        self, sets: Sequence[PictureSet], *, config: TrafficConfig, images: ImageConfig
    ) -> None:
        names = [pictures.name for pictures in sets]
        if len(set(names)) < len(names):
            raise ValueError(f"names of picture sets must be distinct; got {', '.join(names)}")
        self.sets = tuple(sets)
        self.config = config
        self.images = images
        self.rows = [(own, image) for own in self.sets for image in own.images]
        self._tokens = [f"{own.name}/{image.path}" for own, image in self.rows]
        if len(set(self._tokens)) < len(self._tokens):
            raise ValueError("paths of pictures must be distinct; got one twice")
        learned = [element for own in self.sets for element in _learned(own)]
        self.index: ElementIndex | None = ElementIndex.build(learned)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.rows)

    def token(self, index: int) -> str:
        """Return the name of a set and the path of a picture in it."""
        return self._tokens[index]

    def prepare(self, index: int, augmentation: TrafficAugmentation | None = None) -> TrafficSample:
        """Read a picture and prepare it with its labels.

        With an augmentation, pictures larger than ``traffic.window_px`` are cut to a window.

        Raises:
            FileNotFoundError: the picture is missing.
            ValueError: it is damaged, or its size is not that of its labels.
        """
        own, image = self.rows[index]
        pixels = read_image(path_inside(own.root, image.path, what="path of a picture"))
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        if image.size is not None and image.size != size:
            raise ValueError(
                f"picture {self.token(index)} must have the size {image.size} of its labels; "
                f"got {size}"
            )
        crop = None
        if augmentation is not None:
            crop = augmentation.crop(self._window(image, size, augmentation))
        sample = prepare_sample(
            [FrontCamera(pixels, *level_camera(size), 0, FRONT)],
            self.config,
            self.images,
            token=self.token(index),
            ego_motion=torch.zeros(3),
            augmentation=augmentation,
            labels=(self._index(), torch.eye(4, dtype=torch.float64)),
            crop=crop,
        )
        labelled = torch.tensor([[kind in own.kinds for kind in range(len(BOX_KINDS))]])
        return replace(sample, labelled=labelled)

    def _index(self) -> ElementIndex:
        assert self.index is not None  # pictures have labels
        return self.index

    def _window(
        self, image: LabelledImage, size: tuple[int, int], augmentation: TrafficAugmentation
    ) -> Crop:
        """Return the training window: around an element, or anywhere; all of a small picture.

        ``across`` chooses the element and the place beside it, ``down`` the place above it.
        """
        whole = whole_crop(size, self.config)
        scale = min(whole.scale)
        side = self.config.window_px
        columns = min(round(side / scale), whole.right) if side else whole.right
        tallest = whole.bottom - whole.top
        rows = min(round(side / scale), tallest) if side else tallest
        across, down = augmentation.across, augmentation.down
        left, top = across * (whole.right - columns), whole.top + down * (tallest - rows)
        if image.elements and across < _CENTERED:
            place = across / _CENTERED * len(image.elements)
            box = image.elements[int(place)].box_px
            left = (box[0] + box[2]) / 2 - (0.15 + 0.7 * (place % 1)) * columns
            top = (box[1] + box[3]) / 2 - (0.15 + 0.7 * down) * rows
        x = round(min(max(left, 0), whole.right - columns))
        y = round(min(max(top, whole.top), whole.bottom - rows))
        target = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        return Crop(x, y, x + columns, y + rows, target)


def _kind(element: TrafficElement) -> int:
    if element.category == ROAD_SIGN:
        return SIGN
    return LAMP_ONLY if element.box_convention == LAMP else LIGHT


def _learned(pictures: PictureSet) -> list[TrafficElement]:
    """Return the elements with what the set really states, under the samples' tokens."""
    elements = [element for image in pictures.images for element in image.elements]
    shapes = {lamp.shape for element in elements for lamp in element.lamps or ()}
    round_lamps = bool(shapes - {"unknown"})
    knows_users = any(element.road_user != "vehicle" for element in elements)
    return [
        replace(
            element,
            sample_token=f"{pictures.name}/{image.path}",
            camera=FRONT,
            road_user=element.road_user if knows_users else "unknown",
            lamps=None
            if element.lamps is None
            else tuple(
                replace(lamp, shape="circle") if round_lamps and lamp.shape == "unknown" else lamp
                for lamp in element.lamps
            ),
        )
        for image in pictures.images
        for element in image.elements
    ]
