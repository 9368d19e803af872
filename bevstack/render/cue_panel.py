"""Panel with the cue for the vehicle: the advice in one word, its reason, and what decided it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bevstack.render.canvas import Canvas, Image, Rect, fit_text, text_size
from bevstack.render.colors import ADVICE_COLORS, MUTED, PANEL, RGB, WHITE
from bevstack.render.element_marks import ElementMark, TrafficLayer
from bevstack.render.lamp_glyphs import draw_glyph
from bevstack.types import Frame
from bevstack.types.cues import UNKNOWN, EgoCue
from bevstack.vocabulary import MANOEUVRES

_LINES = 6  # height of the panel in lines of the sheet's text
_WORD_LINES = 2.4  # height of the advice's capitals in capitals of the sheet's text
_REASON_LINES = 1.8
_MAX_REASON = 2  # lines of text
_CROPS = 3  # enlarged elements at most
_CROP_ZOOM = 1.5  # side of the cut-out relative to the longer side of an element
_MIN_CUT_PX = 12.0  # of the image as given


def draw_cue_panel(frame: Frame, traffic: TrafficLayer, width_px: int, cap_px: float) -> Canvas:
    """Draw the panel; its height depends on ``cap_px`` alone.

    Left: the advice for the commanded manoeuvre, or for going straight, in its colour. Middle: the
    reason, distance, age and probability, and the advice for the other manoeuvres. Right: enlarged
    cut-outs of the elements that decided, else of the nearest ones for the own lane. Without cues,
    the panel states the true lights for the own lane.
    """
    height = _LINES * text_size("x", cap_px)[0]
    canvas = Canvas.filled(height, width_px, PANEL)
    cue = _shown_cue(traffic)
    left = _draw_advice(canvas, cue, traffic, cap_px)
    right = _draw_cutouts(canvas, frame, _shown_marks(traffic, cue), left, cap_px)
    gap = round(1.5 * cap_px)
    _draw_words(canvas, cue, traffic, Rect(left + gap, 0, right - gap, height), cap_px)
    return canvas


def _shown_cue(traffic: TrafficLayer) -> EgoCue | None:
    """Return the cue of the commanded manoeuvre; of the first manoeuvre without a command."""
    wanted = traffic.manoeuvre or MANOEUVRES[0]
    return next((cue for cue in traffic.ego_cues if cue.manoeuvre == wanted), None)


def _shown_marks(traffic: TrafficLayer, cue: EgoCue | None) -> list[ElementMark]:
    visible = [mark for mark in traffic.marks if mark.box_px is not None]
    deciding = [mark for mark in visible if cue is not None and mark.key in cue.elements]
    ranked = sorted(visible, key=lambda mark: (not mark.governs, mark.distance_m or 0.0))
    further = [mark for mark in ranked if mark not in deciding and mark.governs]
    return _distinct([*deciding, *further])[:_CROPS]


def _distinct(marks: Sequence[ElementMark]) -> list[ElementMark]:
    """Return the first mark of each element: several cameras may show one."""
    found: dict[object, ElementMark] = {}
    for number, mark in enumerate(marks):
        found.setdefault(mark.key or number, mark)
    return list(found.values())


def _draw_advice(canvas: Canvas, cue: EgoCue | None, traffic: TrafficLayer, cap_px: float) -> int:
    """Draw the advice in its colour; return the first column right of it."""
    height = canvas.size[0]
    advice = UNKNOWN if cue is None else cue.advice
    word = advice.upper() if traffic.predicted is not None else "TRUE"
    ground, ink = ADVICE_COLORS[advice]
    word_cap = _WORD_LINES * cap_px
    below = f"to go {cue.manoeuvre}".replace("_", "-") if cue is not None else ""
    if traffic.predicted is None:
        below = "lights and signs"
    widths = [text_size(name.upper(), word_cap)[1] for name in ADVICE_COLORS]
    width = max(*widths, text_size(below, cap_px)[1]) + round(2 * cap_px)
    canvas.fill(Rect(0, 0, width, height), ground)
    word_height, word_width = text_size(word, word_cap)
    line = text_size(below, cap_px)[0] if below else 0
    top = (height - word_height - line) // 2
    canvas.text(word, (width - word_width) // 2, top, word_cap, ink)
    if below:
        left = (width - text_size(below, cap_px)[1]) // 2
        canvas.text(below, left, top + word_height, cap_px, ink)
    return width


def _draw_words(
    canvas: Canvas, cue: EgoCue | None, traffic: TrafficLayer, area: Rect, cap_px: float
) -> None:
    """Write the reason, its figures and the advice for the other manoeuvres."""
    large = _REASON_LINES * cap_px
    lines: list[tuple[str, float, RGB]] = []
    if cue is not None:
        lines = [(text, large, WHITE) for text in wrap_text(cue.reason, large, area.width)]
        if cue.distance_m is not None and f"{cue.distance_m:.0f} m" not in cue.reason:
            lines.append((_figures(cue), cap_px, WHITE))
        further = [c for c in traffic.ego_cues if c is not cue]
        text = "   ".join(f"{c.manoeuvre}: {c.advice}" for c in further).replace("_", "-")
        lines.append((text, cap_px, MUTED))
    elif traffic.predicted is not None:
        lines.append(("no cue for this frame", large, WHITE))
    state = traffic.true_state or "no light in view"
    if traffic.predicted is None:
        lines.append((f"for the own lane: {state}", large, WHITE))
        if traffic.manoeuvre:
            turn = traffic.manoeuvre.replace("_", "-")
            lines.append((f"intended at the next junction: {turn}", cap_px, MUTED))
    elif traffic.true or traffic.true_state:
        lines.append((f"truth for the own lane: {state}", cap_px, MUTED))
    while sum(text_size(text, cap)[0] for text, cap, _ in lines) > area.height:
        lines.pop()
    heights = [text_size(text, cap)[0] for text, cap, _ in lines]
    top = area.top + (area.height - sum(heights)) // 2
    for (text, cap, color), height in zip(lines, heights, strict=True):
        fitted = fit_text(text, cap, area.width)
        if fitted:
            canvas.text(fitted, area.left, top, cap, color)
        top += height


def wrap_text(string: str, cap_px: float, width_px: int) -> list[str]:
    """Return a text in lines that fit a width, at most two; the last one may be too long."""
    lines: list[str] = []
    for word in string.split():
        joined = f"{lines[-1]} {word}" if lines else word
        fits = text_size(joined, cap_px)[1] <= width_px
        if lines and (fits or len(lines) == _MAX_REASON):
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _figures(cue: EgoCue) -> str:
    parts = []
    if cue.distance_m is not None:
        parts.append(f"{cue.distance_m:.0f} m ahead")
    if cue.last_seen_s is not None:
        seen = "seen now" if cue.last_seen_s <= 0 else f"last seen {cue.last_seen_s:.1f} s ago"
        parts.append(seen)
    parts.append(f"probability {cue.probability:.2f}")
    return ", ".join(parts)


def _draw_cutouts(
    canvas: Canvas, frame: Frame, marks: Sequence[ElementMark], left: int, cap_px: float
) -> int:
    """Draw enlarged elements from the right; return the first column that they take."""
    height, right = canvas.size
    caption_px = text_size("x", cap_px)[0]
    side = height - caption_px
    for mark in marks:
        image = _image_of(frame, mark)
        if image is None:
            continue
        text = fit_text(mark.caption, cap_px, 2 * side)
        width = max(side + round(1.2 * side), text_size(text, cap_px)[1])
        if right - width < left + canvas.size[1] // 3:  # keep a third for the words
            break
        cell = right - width
        start = cell + (width - side - round(1.2 * side)) // 2
        canvas.paste(Canvas(_cut_out(image, mark, side)), start, 0)
        center = (start + side + 0.6 * side, side / 2)
        draw_glyph(canvas, mark, center, 0.42 * side)
        canvas.text(text, cell + (width - text_size(text, cap_px)[1]) // 2, side, cap_px, WHITE)
        right = cell - round(cap_px)
    return right


def _image_of(frame: Frame, mark: ElementMark) -> Image | None:
    names = frame.camera_names or ("",) * frame.num_cameras
    channels = [name or f"camera {index}" for index, name in enumerate(names)]
    if mark.camera not in channels:
        return None
    return frame.images[channels.index(mark.camera)]


def _cut_out(image: Image, mark: ElementMark, side_px: int) -> Image:
    """Return the square around an element, enlarged; black beyond the image."""
    assert mark.box_px is not None  # _shown_marks
    left, top, right, bottom = mark.box_px
    half = max(right - left, bottom - top, _MIN_CUT_PX / _CROP_ZOOM) * _CROP_ZOOM / 2
    scale = side_px / (2 * half)
    corner = np.array([(left + right) / 2 - half, (top + bottom) / 2 - half])
    # pixel centres at integers, as OpenCV counts them
    shift = scale * (0.5 - corner) - 0.5
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    flags = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    enlarged = cv2.warpAffine(image, matrix, (side_px, side_px), flags=flags)
    return np.asarray(enlarged, np.uint8)
