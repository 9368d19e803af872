"""Planning: what traffic lights and signs mean for the vehicle."""

from bevstack.planning.stream import CueMemory, CueStream, update_cues

__all__ = ["CueMemory", "CueStream", "update_cues"]
