"""Records of a node since its start: numbers, and the last reasons of its tasks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bevstack.runtime.node.cameras import InputState

BACK_US, AHEAD_US = 500_000, 5_000_000  # jumps of the clock beyond these start another drive
_FUTURE_US = 500_000  # a stamp may be ahead of the clock by this


@dataclass
class Counts:
    """Numbers since the start."""

    windows: int = 0  # closed
    steps: int = 0  # with a result
    skipped: int = 0  # windows that a newer one replaced
    dropped: int = 0  # windows that waited while a step computed, beyond a number
    blind: int = 0  # windows without a working camera
    refused: int = 0  # frames that the detector refused
    too_old: int = 0  # windows not computed, and results not published
    without_pose: int = 0
    restarts: int = 0  # of another drive
    undecodable: Counter[str] = field(default_factory=Counter)  # messages by topic


@dataclass
class Faults:
    """The last reasons, for diagnostics, each with its time on the node's clock."""

    step: tuple[int, str] | None = None  # the last step failed
    pose: tuple[int, str] | None = None
    blind: tuple[int, str] | None = None
    restart: tuple[int, str] | None = None
    message: tuple[int, str] | None = None  # a message could not be decoded
    rig: str = ""  # warning of an implausible rig


def fault_of_stamp(stamp_us: int, now_us: int, max_age_us: float) -> tuple[InputState, str] | None:
    """Return what is wrong with the stamp of an image, and the remedy; None: nothing."""
    age_us = now_us - stamp_us
    if stamp_us <= 0:
        return InputState.REJECTED, "header.stamp must be set; got 0: set it in the driver"
    if age_us < -_FUTURE_US or age_us > 60 * AHEAD_US:
        return (
            InputState.REJECTED,
            f"header.stamp must be near the node's time; got {-age_us / 1e6:+.1f} s: "
            "synchronise the clocks, or set use_sim_time and play bags with --clock",
        )
    if age_us > max_age_us:
        return InputState.STALE, f"an image came {age_us / 1e6:.2f} s after its stamp"
    return None
