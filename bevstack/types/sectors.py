"""Trust in the surroundings, by bearing and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import expect_field, expect_list, expect_number, expect_object

RANGE_EDGES_M = (0.0, 15.0, 30.0, 50.0)
# Names of eight bearings, counter-clockwise.
BEARINGS = (
    "front",
    "front_left",
    "left",
    "back_left",
    "back",
    "back_right",
    "right",
    "front_right",
)
NUM_BEARINGS = len(BEARINGS)


@dataclass(frozen=True)
class SectorTrust:
    """The share of objects that the detector finds in each sector around the vehicle.

    Sector (b, r) reaches from bearing 2 pi (b - 1/2) / B to 2 pi (b + 1/2) / B, counter-clockwise
    from straight ahead in the ego frame, and from ``range_edges_m[r]`` to the next edge. So sector
    0 lies ahead, and with 8 bearings sector 2 lies to the left. Trust 1: every object there is
    found; 0: the detector is blind there, and no box means nothing.

    Raises:
        ValueError: a shape is wrong, a trust is outside 0..1 or the edges do not ascend.
    """

    trust: NDArray[np.float64]  # (B, R), 0..1
    range_edges_m: tuple[float, ...] = RANGE_EDGES_M  # R + 1, ascending

    def __post_init__(self) -> None:
        num_ranges = len(self.range_edges_m) - 1
        if self.trust.ndim != 2 or self.trust.shape[1] != num_ranges or not len(self.trust):
            raise ValueError(
                f"SectorTrust.trust must have shape (bearings, {num_ranges}); got "
                f"{self.trust.shape}"
            )
        if not ((self.trust >= 0) & (self.trust <= 1)).all():
            raise ValueError(f"SectorTrust.trust must be from 0 to 1; got {self.trust.tolist()}")
        edges = np.array(self.range_edges_m)
        if not (np.isfinite(edges).all() and edges[0] >= 0 and (np.diff(edges) > 0).all()):
            raise ValueError(
                "SectorTrust.range_edges_m must ascend from 0 or more; got "
                f"{list(self.range_edges_m)}"
            )

    def to_entry(self) -> dict[str, Any]:
        """Return plain numbers, as files and messages hold them."""
        return {"trust": self.trust.tolist(), "range_edges_m": list(self.range_edges_m)}

    @staticmethod
    def from_entry(where: str, value: object) -> SectorTrust:
        """Return the trust of a JSON object; ``where`` is its place in messages.

        Raises:
            ValueError: a field is missing, of another kind or out of range.
        """
        entry = expect_object(where, value)
        rows = [
            [expect_number(f"trust of {where}", number) for number in expect_list(where, row)]
            for row in expect_list(where, expect_field(where, entry, "trust"))
        ]
        edges = expect_list(where, expect_field(where, entry, "range_edges_m"))
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"trust of {where} must have rows of one length; got {len(rows)} rows")
        numbers = tuple(expect_number(f"range_edges_m of {where}", edge) for edge in edges)
        return SectorTrust(np.array(rows, dtype=np.float64), numbers)

    def at(self, x_m: float, y_m: float) -> float:
        """Return the trust at a point of the ego frame; 0 beyond the last range."""
        bearings = len(self.trust)
        bearing = round(float(np.arctan2(y_m, x_m)) / (2 * np.pi / bearings)) % bearings
        edges = np.array(self.range_edges_m)
        ring = int(np.searchsorted(edges, float(np.hypot(x_m, y_m)), side="right")) - 1
        return float(self.trust[bearing, ring]) if 0 <= ring < self.trust.shape[1] else 0.0
