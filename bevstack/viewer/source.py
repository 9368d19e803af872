"""Interface of a source of moments."""

from __future__ import annotations

from typing import Protocol

from bevstack.viewer.moment import Moment


class MomentSource(Protocol):
    """Scenes of moments that can be read in any order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes, which labels index."""
        ...

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models whose boxes are shown."""
        ...

    @property
    def distances_m(self) -> tuple[float, ...]:
        """Return the distances at which boxes are matched; none without truth or results."""
        ...

    @property
    def scenes(self) -> tuple[str, ...]:
        """Return the names of the scenes."""
        ...

    def count(self, scene: str) -> int:
        """Return the number of a scene's moments."""
        ...

    def moment(self, scene: str, index: int) -> Moment:
        """Return one moment."""
        ...

    def num_errors(self, model: int, distance_m: float, min_score: float) -> dict[str, list[int]]:
        """Return the errors of each moment by scene; only with ``distances_m``."""
        ...
