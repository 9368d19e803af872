"""Trust in sectors: the share of true objects that a detector finds there, by what cameras see.

A sector is the mixture of its parts: the share of it that a working camera sees, the share that
only a late or a doubtful one sees, the share that a camera saw in the frames of the model's
history, and the blind rest. Each part has a recall of its own, which depends on the distance by a
logistic function. Letters: B bearings, R ranges, S kinds of view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.calibration_file import calibration_path, read_calibration
from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
)
from bevstack.types.sectors import NUM_BEARINGS, RANGE_EDGES_M, SectorTrust

Floats = NDArray[np.float64]

SECTION = "sectors"
# Kinds of view of a place, best first; each place has the best kind that fits.
KINDS = ("seen", "late", "doubtful", "remembered", "blind")
SEEN, LATE, DOUBTFUL, REMEMBERED, BLIND = range(len(KINDS))
REFERENCE_DISTANCE_M = 20.0


@dataclass(frozen=True, kw_only=True)
class SectorModel:
    """Recall of the parts of a sector.

    The recall of kind k at distance d is ``sigmoid(offset[k] + slope[k] * (d / 20 m - 1))``, and
    the trust in a sector is the mean over its places.

    Raises:
        ValueError: a parameter is not finite, or a number does not fit.
    """

    offset: Floats  # (S,)
    slope: Floats  # (S,) per 20 m of distance; negative: far objects are missed
    min_score: float  # boxes below it do not count as found
    memory_s: float  # time that the model's history reaches back; 0: it has none
    range_edges_m: tuple[float, ...] = RANGE_EDGES_M
    num_bearings: int = NUM_BEARINGS
    fitted_on: Mapping[str, Any] = field(default_factory=dict)  # split, samples, objects, faults

    def __post_init__(self) -> None:
        for name in ("offset", "slope"):
            values = getattr(self, name)
            if values.shape != (len(KINDS),) or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be {len(KINDS)} finite numbers, for {', '.join(KINDS)}; got "
                    f"{values.tolist()}"
                )
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1; got {self.min_score}")
        if not 0 <= self.memory_s < math.inf:
            raise ValueError(f"memory_s must be 0 or more; got {self.memory_s}")
        SectorTrust(np.zeros((self.num_bearings, len(self.range_edges_m) - 1)), self.range_edges_m)

    def recall(
        self,
        kind: NDArray[np.int64],  # (...) of KINDS
        distance_m: Floats,  # (...)
    ) -> Floats:  # (...)
        """Return the recall at places."""
        reach = distance_m / REFERENCE_DISTANCE_M - 1
        value: Floats = 1 / (1 + np.exp(-(self.offset[kind] + self.slope[kind] * reach)))
        return value

    def trust(
        self,
        kind: NDArray[np.int64],  # (B, R, P) of KINDS, at the places of ``sector_places``
    ) -> SectorTrust:
        """Return the trust in every sector."""
        places = sector_places(self.num_bearings, self.range_edges_m)
        distance = np.linalg.norm(places[..., :2], axis=-1)
        return SectorTrust(self.recall(kind, distance).mean(-1), self.range_edges_m)

    def to_entry(self) -> dict[str, Any]:
        """Return plain numbers and texts, as the file of calibrations holds them."""
        return {
            "kinds": list(KINDS),
            "offset": self.offset.tolist(),
            "slope": self.slope.tolist(),
            "min_score": self.min_score,
            "memory_s": self.memory_s,
            "range_edges_m": list(self.range_edges_m),
            "num_bearings": self.num_bearings,
            "fitted_on": dict(self.fitted_on),
        }

    @staticmethod
    def from_entry(where: str, value: object) -> SectorModel:
        """Return the model of a JSON object; ``where`` is its place in messages.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        entry = expect_object(where, value)
        kinds = expect_list(f"kinds of {where}", expect_field(where, entry, "kinds"))
        if [expect_text(f"kinds of {where}", name) for name in kinds] != list(KINDS):
            raise ValueError(
                f"kinds of {where} must be {', '.join(KINDS)}; got {kinds}: fit it again with "
                "this version"
            )
        bearings = expect_number(f"num_bearings of {where}", entry.get("num_bearings"))
        if bearings != int(bearings) or bearings < 1:
            raise ValueError(f"num_bearings of {where} must be 1 or more; got {bearings}")
        edges = expect_list(f"range_edges_m of {where}", entry.get("range_edges_m"))
        return SectorModel(
            offset=_numbers(where, entry, "offset"),
            slope=_numbers(where, entry, "slope"),
            min_score=expect_number(f"min_score of {where}", entry.get("min_score")),
            memory_s=expect_number(f"memory_s of {where}", entry.get("memory_s")),
            range_edges_m=tuple(expect_number(f"range_edges_m of {where}", e) for e in edges),
            num_bearings=int(bearings),
            fitted_on=expect_object(where, entry.get("fitted_on", {})),
        )


def read_sector_model(weights: Path) -> SectorModel | None:
    """Return the calibration of sectors beside a weights file; None if there is none.

    Raises:
        ValueError: the file is malformed or belongs to other weights.
    """
    entry = read_calibration(weights, SECTION)
    if entry is None:
        return None
    return SectorModel.from_entry(f"{SECTION} of {calibration_path(weights)}", entry)


def sector_places(
    num_bearings: int = NUM_BEARINGS,
    range_edges_m: Sequence[float] = RANGE_EDGES_M,
    *,
    steps: int = 5,
    height_m: float = 0.8,
) -> Floats:  # (B, R, P, 3) in the ego frame
    """Return places that lie evenly in every sector, at the height of the objects' centres.

    Args:
        num_bearings: B.
        range_edges_m: R + 1 edges.
        steps: places a side: P is its square. Along the range, each stands for an equal area.
        height_m: above ground.
    """
    middle = (np.arange(steps) + 0.5) / steps
    width = 2 * math.pi / num_bearings
    bearing = width * (np.arange(num_bearings)[:, None] + middle - 0.5)  # (B, steps)
    edges = np.asarray(range_edges_m, dtype=np.float64)
    low, high = edges[:-1, None] ** 2, edges[1:, None] ** 2
    distance = np.sqrt(low + (high - low) * middle)  # (R, steps)
    x = distance[None, :, :, None] * np.cos(bearing)[:, None, None, :]
    y = distance[None, :, :, None] * np.sin(bearing)[:, None, None, :]
    places = np.stack((x, y, np.full_like(x, height_m)), -1)
    evenly: Floats = places.reshape(num_bearings, len(edges) - 1, steps * steps, 3)
    return evenly


def sector_indices(
    centers: Floats,  # (N, 2) in the ego frame
    num_bearings: int = NUM_BEARINGS,
    range_edges_m: Sequence[float] = RANGE_EDGES_M,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # (N,), (N,)
    """Return the bearing and the range of points; range -1 outside all sectors."""
    width = 2 * math.pi / num_bearings
    bearing = np.round(np.arctan2(centers[:, 1], centers[:, 0]) / width).astype(np.int64)
    edges = np.asarray(range_edges_m)
    ring = np.searchsorted(edges, np.hypot(centers[:, 0], centers[:, 1]), side="right") - 1
    ring = np.where(ring < len(edges) - 1, ring, -1)
    return bearing % num_bearings, ring.astype(np.int64)


def _numbers(where: str, entry: Mapping[str, Any], name: str) -> Floats:
    values: Floats = expect_numbers(
        f"{name} of {where}", expect_field(where, entry, name), (len(KINDS),)
    )
    return values
