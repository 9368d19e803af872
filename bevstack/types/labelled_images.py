"""Single pictures with their traffic lights and signs, annotated or predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bevstack.types.traffic import TrafficElement


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """A picture and its elements.

    Raises:
        ValueError: there is not one score for each element.
    """

    path: str  # as in the data set's file, with "/"
    size: tuple[int, int] | None  # (H, W) pixels that the boxes refer to; None: unknown
    elements: tuple[TrafficElement, ...]
    scores: tuple[float, ...] | None = None  # 0..1 of each element; None: annotated ones

    def __post_init__(self) -> None:
        if self.scores is not None and len(self.scores) != len(self.elements):
            raise ValueError(
                f"LabelledImage.scores must have one number for each of {len(self.elements)} "
                f"elements; got {len(self.scores)}"
            )


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The pictures of a data set, and the numbers of labels that were dropped or mended."""

    source: str  # data set or format
    images: tuple[LabelledImage, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason -> number of labels
    mended: Mapping[str, int] = field(default_factory=dict)  # reason -> number of labels
    licence: str = ""  # of the data, as its publisher states it
