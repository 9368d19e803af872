"""Tracking: the boxes of successive frames joined into one track per object."""

from bevstack.tracking.tracker import update_tracks
from bevstack.tracking.tracks import TrackedScene, Tracks

__all__ = ["TrackedScene", "Tracks", "update_tracks"]
