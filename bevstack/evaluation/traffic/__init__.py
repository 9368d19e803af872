"""Scores of traffic lights and signs, of their topology with lanes, and of cues over time."""
