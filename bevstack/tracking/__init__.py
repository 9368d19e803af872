"""Tracks: what successive frames' boxes say of one object, brought together."""

from bevstack.tracking.tracker import update_tracks
from bevstack.tracking.tracks import TrackedScene, Tracks

__all__ = ["TrackedScene", "Tracks", "update_tracks"]
