"""Records of a node since its start: numbers, and the last reasons of its tasks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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
