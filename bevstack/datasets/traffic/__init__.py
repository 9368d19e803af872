"""Readers of published data sets of traffic lights and signs; see ``read``."""

from bevstack.datasets.traffic.read import FORMATS, read

__all__ = ["FORMATS", "read"]
