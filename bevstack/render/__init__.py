"""Pictures of boxes, and plots; no dataset, model or window needed."""

from bevstack.render.animation import write_animation
from bevstack.render.bev_view import BEVView, draw_bev
from bevstack.render.camera_view import draw_camera, draw_lost_camera
from bevstack.render.canvas import Canvas, Rect
from bevstack.render.element_marks import ElementMark, TrafficLayer, cue_marks, true_marks
from bevstack.render.files import write_picture
from bevstack.render.layers import (
    PREDICTED,
    TRUE,
    BoxLayer,
    BoxStyle,
    Selection,
    choose_detections,
    make_layers,
    select_detections,
)
from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
from bevstack.render.sheet import SheetStyle, draw_sheet
from bevstack.render.surroundings import Surroundings

__all__ = [
    "PREDICTED",
    "TRUE",
    "BEVView",
    "BoxLayer",
    "BoxStyle",
    "Canvas",
    "CurveStyle",
    "ElementMark",
    "Rect",
    "Selection",
    "SheetStyle",
    "Surroundings",
    "TrafficLayer",
    "choose_detections",
    "cue_marks",
    "draw_bev",
    "draw_camera",
    "draw_learning_curve",
    "draw_lost_camera",
    "draw_sheet",
    "make_layers",
    "select_detections",
    "true_marks",
    "write_animation",
    "write_picture",
]
