"""Data types that the stages exchange, with their units and frames."""

from bevstack.types.batch import Batch
from bevstack.types.boxes import Boxes3D
from bevstack.types.detections import Annotations, Detections
from bevstack.types.frame import Clip, Frame
from bevstack.types.memory import BEVMemory, Reset, sequence_ids
from bevstack.types.perspective import CameraAnnotations

__all__ = [
    "Annotations",
    "BEVMemory",
    "Batch",
    "Boxes3D",
    "CameraAnnotations",
    "Clip",
    "Detections",
    "Frame",
    "Reset",
    "sequence_ids",
]
