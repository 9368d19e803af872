"""State of a view: the frame, the boxes and the layers that are shown, and the camera."""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.vocabulary import DETECTION_CLASSES

BY_CLASS, BY_IDENTITY, BY_SCORE, BY_ERROR, BY_MODEL = "class", "identity", "score", "error", "model"
COLORINGS = (BY_CLASS, BY_IDENTITY, BY_SCORE, BY_ERROR, BY_MODEL)

# Layer -> its name in the list of switches.
LAYERS = {
    "predicted": "predicted boxes",
    "true": "true boxes",
    "faces": "faces of boxes",
    "arrows": "velocity arrows",
    "trails": "trails",
    "cameras": "camera frusta",
    "lidar": "lidar points",
    "grid": "grid and range rings",
    "ground": "road and lanes",
    "traffic": "lights and signs",
    "sectors": "trust by sector",
}


@dataclass(frozen=True, kw_only=True)
class Eye:
    """Camera of the view, in the ego frame if it follows the vehicle, else in the scene's."""

    position_m: tuple[float, float, float] = (-17.0, 0.0, 11.0)
    look_at_m: tuple[float, float, float] = (9.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Picked:
    """Box that was clicked."""

    model: int | None  # number of the model; None: a true box
    row: int  # in the moment
    identity: int  # of the track or object, or NO_IDENTITY
    scene: str
    index: int  # of the moment


@dataclass(frozen=True, kw_only=True)
class ViewState:
    """All that determines a view of a source of moments.

    Raises:
        ValueError: the colouring or a layer is unknown, or the score is not a number.
    """

    scene: str
    index: int = 0
    min_score: float = 0.2
    labels: frozenset[int] = frozenset(range(len(DETECTION_CLASSES)))
    color_by: str = BY_CLASS
    distance_m: float = 2.0  # of matches
    model: int = 0  # whose errors decide over true boxes
    layers: frozenset[str] = frozenset(LAYERS)
    follow: bool = True  # the camera moves with the vehicle
    eye: Eye = field(default_factory=Eye)
    picked: Picked | None = None

    def __post_init__(self) -> None:
        if self.color_by not in COLORINGS:
            raise ValueError(
                f"color_by must be one of {', '.join(COLORINGS)}; got {self.color_by!r}"
            )
        unknown = self.layers - set(LAYERS)
        if unknown:
            raise ValueError(
                f"layers must be among {', '.join(LAYERS)}; got {', '.join(sorted(unknown))}"
            )
        if not self.min_score == self.min_score:
            raise ValueError(f"min_score must be a number; got {self.min_score}")
