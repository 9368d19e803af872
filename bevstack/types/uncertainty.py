"""Calibrated uncertainty of boxes: covariances, and the probability that the object exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.json_files import expect_field, expect_numbers, expect_object
from bevstack.shapes import expect_shape

# Ellipses with a radius: of x and y; of z; of length, width and height; of the heading modulo pi;
# of vx and vy.
ELLIPSES = ("position", "elevation", "size", "yaw", "velocity")
LEVELS = (0.5, 0.9)  # probabilities that an ellipse holds the true value


@dataclass(frozen=True, kw_only=True)
class BoxUncertainty:
    """Uncertainty of D boxes, in the frame of the boxes.

    Every covariance is that of a box's error, given that its object exists. Centre and velocity in
    the bird's-eye view have a joint covariance; elevation, size and heading are independent of it
    and of each other.

    Headings of two peaks, half a turn apart, have no useful variance. So the heading is split: the
    axis of the box, which is the heading modulo pi, has a normal error of variance ``yaw_rad2``,
    wrapped to that period (a variance above 1 means that the axis is unknown); and the object heads
    the other way with probability ``flip``.

    Errors have heavier tails than normal ones. An ellipse that holds the true value with
    probability 0.5 or 0.9 is therefore {e: sqrt(e' C^-1 e) <= radius}, with the covariance C and
    the radius of that level.

    Raises:
        ValueError: shapes that do not agree.
    """

    state: Tensor  # (D, 4, 4) covariance of x, y (metres) and vx, vy (metres per second)
    elevation_m2: Tensor  # (D,) variance of z
    size_m2: Tensor  # (D, 3) variances of length, width and height
    yaw_rad2: Tensor  # (D,) variance of the heading modulo pi, before it is wrapped
    flip: Tensor  # (D,) probability that the object heads the other way
    # (D, 5, 2) radii of the ellipses of ``ELLIPSES`` at ``LEVELS``, in standard deviations
    radii: Tensor
    existence: Tensor  # (D,) probability that a true object of the class lies at the box

    def __post_init__(self) -> None:
        count = len(self.state)
        for name, axes in _AXES.items():
            expect_shape(name, getattr(self, name), (count, *axes))

    def __len__(self) -> int:
        """Return D."""
        return len(self.state)

    def __getitem__(self, index: Tensor | slice) -> BoxUncertainty:
        """Select boxes."""
        return self._map(lambda value: value[index])

    @property
    def position_m2(self) -> Tensor:  # (D, 3, 3)
        """Return the covariances of the centres."""
        position = self.state.new_zeros(len(self), 3, 3)
        position[:, :2, :2] = self.state[:, :2, :2]
        position[:, 2, 2] = self.elevation_m2
        return position

    @property
    def velocity_m2ps2(self) -> Tensor:  # (D, 2, 2)
        """Return the covariances of the velocities."""
        return self.state[:, 2:, 2:]

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4)
    ) -> BoxUncertainty:
        """Return the uncertainty in another upright frame."""
        turn = dst_from_src[:2, :2].to(torch.float64).contiguous()
        both = torch.kron(torch.eye(2, dtype=torch.float64, device=turn.device), turn)
        state = both @ self.state.to(torch.float64) @ both.T
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return BoxUncertainty(**{**values, "state": state.to(self.state.dtype)})

    def to(self, target: torch.device | torch.dtype | str) -> BoxUncertainty:
        """Return the uncertainty on a device or in a floating dtype."""
        return self._map(lambda value: value.to(target))

    @staticmethod
    def concatenate(parts: Sequence[BoxUncertainty | None]) -> BoxUncertainty | None:
        """Concatenate several sets; None if one of them is unknown."""
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        return BoxUncertainty(
            **{name: torch.cat([getattr(part, name) for part in known]) for name in _AXES}
        )

    def to_entries(self) -> list[dict[str, Any]]:
        """Return plain numbers, one object a box, as files of boxes hold them."""
        columns = {
            label: getattr(self, name).to(torch.float64).tolist()
            for label, name in ENTRY_FIELDS.items()
        }
        return [{name: column[row] for name, column in columns.items()} for row in range(len(self))]

    @staticmethod
    def from_entries(where: str, entries: Sequence[object]) -> BoxUncertainty:
        """Return the uncertainty of JSON objects, one a box; ``where`` is their place in messages.

        Raises:
            ValueError: a field is missing or of another kind, a probability is outside 0 to 1, or a
                variance is not positive.
        """
        columns: dict[str, Tensor] = {}
        objects = [
            expect_object(f"uncertainty of box {i} of {where}", e) for i, e in enumerate(entries)
        ]
        for label, name in ENTRY_FIELDS.items():
            axes = _AXES[name]
            rows = []
            for number, entry in enumerate(objects):
                place = f"uncertainty of box {number} of {where}"
                value = expect_numbers(
                    f"{label} of {place}", expect_field(place, entry, label), axes
                )
                _check_value(f"{label} of {place}", label, value)
                rows.append(value)
            columns[name] = torch.from_numpy(np.array(rows, dtype=np.float64).reshape(-1, *axes))
        return BoxUncertainty(**columns)

    def _map(self, change: Callable[[Tensor], Tensor]) -> BoxUncertainty:
        return BoxUncertainty(**{name: change(getattr(self, name)) for name in _AXES})


# Keys of the JSON object of a box, and the fields that they hold.
ENTRY_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "existence_probability": "existence",
        "state_covariance": "state",
        "elevation_variance_m2": "elevation_m2",
        "size_variance_m2": "size_m2",
        "yaw_variance_rad2": "yaw_rad2",
        "flip_probability": "flip",
        "ellipse_radii": "radii",
    }
)
_AXES: dict[str, tuple[int, ...]] = {
    "radii": (len(ELLIPSES), len(LEVELS)),
    "state": (4, 4),
    "elevation_m2": (),
    "size_m2": (3,),
    "yaw_rad2": (),
    "flip": (),
    "existence": (),
}


def _check_value(where: str, label: str, value: NDArray[np.float64]) -> None:
    """Check the range of a value: a probability, a variance or a covariance."""
    if label.endswith("probability"):
        valid, wanted = bool(0 <= value <= 1), "be from 0 to 1"
    elif label == "state_covariance":
        symmetric = np.allclose(value, value.T, rtol=1e-6, atol=1e-9)
        valid, wanted = symmetric and bool((np.diag(value) > 0).all()), "be a covariance"
    else:
        valid, wanted = bool((value > 0).all()), "be positive"
    if not valid:
        raise ValueError(f"{where} must {wanted}; got {value.tolist()}")
