"""Cues from traffic lights and signs for a planner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.types.memory import Reset
from bevstack.types.traffic import Lamp

GO, STOP, CAUTION, UNKNOWN = "go", "stop", "caution", "unknown"
ADVICE = (GO, STOP, CAUTION, UNKNOWN)


@dataclass(frozen=True)
class LampBelief:
    """A lamp and the probability that it is in this status."""

    lamp: Lamp
    probability: float  # 0..1


@dataclass(frozen=True, kw_only=True)
class TrafficCue:
    """One traffic light or sign around the vehicle, tracked over time."""

    id: str  # UUID, the same as long as the element is tracked
    kind: str  # "light" or "sign"
    timestamp_us: int  # of the frame
    state: tuple[LampBelief, ...]  # of a light; (): off or unknown, see ``state_name``
    state_name: str  # such as "red", "flashing_yellow", "off"; "unknown" if it is stale or unclear
    state_probability: float  # 0..1, of ``state_name``
    last_state_name: str  # the last one that was known; "unknown" if none was
    meaning: str | None  # of a sign, of vocabulary.SIGN_MEANINGS
    speed_limit_mps: float | None  # of a sign for a speed limit
    confidence: float  # 0..1, that the element exists
    position_m: tuple[float, float, float]  # in the ego frame
    position_cov_m2: NDArray[np.float64]  # (3, 3), in the ego frame
    yaw_rad: float  # direction that it faces, in the ego frame
    camera: str | None  # of the box; None: not in the images of this frame
    box_px: tuple[float, float, float, float] | None  # in the image of ``camera``
    visible_now: bool
    last_seen_s: float  # since the last image that showed it; 0 if visible now
    state_since_s: float  # in the present state
    flashing_observable: bool  # False: the images come too slowly to tell flashing from steady
    applies_to_ego: float  # 0..1, for the commanded manoeuvre
    applies_to: tuple[str, ...]  # manoeuvres that it governs with p >= 0.5
    distance_along_path_m: float | None  # None: not on the path
    distance_std_m: float | None
    stop_line_s_m: float | None  # distance to its stop line, from a map or world
    sources: tuple[str, ...]  # cameras that have shown it
    map_id: str | None  # of its element in a map
    in_force: bool = False  # of a sign that was passed and still applies


@dataclass(frozen=True, kw_only=True)
class EgoCue:
    """The summary for one manoeuvre of the own vehicle."""

    timestamp_us: int
    manoeuvre: str  # of vocabulary.MANOEUVRES
    advice: str  # of ADVICE
    probability: float  # 0..1, that the advice is right
    elements: tuple[str, ...]  # ids of the cues that decided
    reason: str  # one sentence, rendered from the cues
    distance_m: float | None  # along the path to the deciding stop line or element
    last_seen_s: float | None  # of the deciding element


@dataclass(frozen=True, kw_only=True)
class FrameCues:
    """All cues of one frame."""

    timestamp_us: int
    elements: tuple[TrafficCue, ...]  # nearest first, signs in force last
    ego: tuple[EgoCue, ...]  # one for each of vocabulary.MANOEUVRES, in that order
    reset: Reset = Reset.NONE  # the reason why no earlier frame was used

    def for_manoeuvre(self, manoeuvre: str) -> EgoCue:
        """Return the summary for one manoeuvre.

        Raises:
            ValueError: the manoeuvre is not in ``vocabulary.MANOEUVRES``.
        """
        for cue in self.ego:
            if cue.manoeuvre == manoeuvre:
                return cue
        names = ", ".join(cue.manoeuvre for cue in self.ego)
        raise ValueError(f"manoeuvre must be one of {names}; got {manoeuvre!r}")
