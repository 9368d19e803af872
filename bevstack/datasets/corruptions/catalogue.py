"""The eight corruptions of the RoboBEV benchmark (nuScenes-C), each at three levels.

Names, levels and severities: RoboBEV, arXiv 2304.06719, section 3 and its published code.
Severities count from 1 to 5 and were chosen for pictures of nuScenes, 1600 pixels wide: lengths in
pixels are scaled to the width of a picture.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from bevstack.datasets.corruptions.light import (
    Image,
    blur_by_motion,
    brighten,
    darken,
    quantise_colours,
)
from bevstack.datasets.corruptions.weather import add_fog, add_snow

LEVELS = ("easy", "moderate", "hard")
PUBLISHED_WIDTH_PX = 1600  # of the pictures that the severities were chosen for
CRASHED, LOST = "CameraCrash", "FrameLost"

# From a picture, a severity, a source of random numbers and a scale of lengths to the picture.
Change = Callable[[Image, float, np.random.Generator, float], Image]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """A corruption of one name at three levels."""

    name: str
    severities: tuple[int, int, int]  # of easy, moderate and hard
    change: Change | None = None  # of each picture; None: cameras are lost instead

    @property
    def loses_cameras(self) -> bool:
        """Return True if cameras are lost and the remaining pictures stay as they are."""
        return self.change is None

    def severity(self, level: str) -> int:
        """Return the severity of a level, from 1.

        Raises:
            ValueError: there is no such level.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}; got {level!r}")
        return self.severities[LEVELS.index(level)]

    def severity_between(self, place: float, share: float) -> float:
        """Return a severity that no level has: in the middle half between two whole ones.

        Args:
            place: 0 to 1, exclusive; chooses the lower of the two, from 1 to the one before "hard".
            share: 0 to 1; the place in the middle half.
        """
        hard = self.severities[-1]
        return 1 + int(place * (hard - 1)) + 0.25 + 0.5 * share


def _brighter(image: Image, severity: float, _: np.random.Generator, __: float) -> Image:
    return brighten(image, severity)


def _quantised(image: Image, severity: float, _: np.random.Generator, __: float) -> Image:
    return quantise_colours(image, severity)


def _darker(image: Image, severity: float, rng: np.random.Generator, _: float) -> Image:
    return darken(image, severity, rng)


def _foggy(image: Image, severity: float, rng: np.random.Generator, _: float) -> Image:
    return add_fog(image, severity, rng)  # its field has the size of the picture


_ALL = (
    Corruption(name=CRASHED, severities=(2, 4, 5)),
    Corruption(name=LOST, severities=(2, 4, 5)),
    Corruption(name="ColorQuant", severities=(1, 2, 3), change=_quantised),
    Corruption(name="MotionBlur", severities=(2, 4, 5), change=blur_by_motion),
    Corruption(name="Brightness", severities=(2, 4, 5), change=_brighter),
    Corruption(name="LowLight", severities=(2, 3, 4), change=_darker),
    Corruption(name="Fog", severities=(2, 4, 5), change=_foggy),
    Corruption(name="Snow", severities=(1, 2, 3), change=add_snow),
)
CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType({c.name: c for c in _ALL})


def find_corruptions(names: Sequence[str]) -> tuple[Corruption, ...]:
    """Return the corruptions of the given names in the order of the benchmark; "all" is all.

    Raises:
        ValueError: there is none of that name, or no name is given.
    """
    known = {name.lower(): name for name in CORRUPTIONS}
    wanted = set()
    for name in names:
        if name.lower() != "all" and name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f": did you mean {known[near[0]]}?" if near else ""
            raise ValueError(
                f"corruptions must be all or names among {', '.join(CORRUPTIONS)}; got "
                f"{name!r}{hint}"
            )
        wanted |= set(CORRUPTIONS) if name.lower() == "all" else {known[name.lower()]}
    if not wanted:
        raise ValueError(
            f"corruptions must be all or names among {', '.join(CORRUPTIONS)}; got none"
        )
    return tuple(corruption for name, corruption in CORRUPTIONS.items() if name in wanted)
