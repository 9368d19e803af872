"""Panels beside the scene, as HTML: the advice, the picked box, the legend, the counts."""

from __future__ import annotations

import html
import math

import numpy as np

from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES
from bevstack.render.colors import ADVICE_COLORS, class_color
from bevstack.types.cues import EgoCue
from bevstack.viewer.coloring import ERROR_COLORS, MODEL_COLORS, TRUTH, css, score_colors
from bevstack.viewer.moment import NO_MATCH, ErrorKind, Indices, Moment
from bevstack.viewer.picking import picked_row
from bevstack.viewer.view_state import BY_CLASS, BY_ERROR, BY_MODEL, BY_SCORE, ViewState

_FONT = "font:13px/1.5 sans-serif"
# Words for the errors of the metric, with their units and a factor.
_ERRORS = {
    "trans_err": ("position", "m", 1.0),
    "scale_err": ("size, 1 - IoU", "", 1.0),
    "orient_err": ("heading", "deg", math.degrees(1.0)),
    "vel_err": ("velocity", "m/s", 1.0),
    "attr_err": ("attribute", "", 1.0),
}
_KINDS = {
    ErrorKind.TRUE_POSITIVE: "true positive",
    ErrorKind.FALSE_POSITIVE: "false positive",
    ErrorKind.FOUND: "found",
    ErrorKind.MISSED: "missed",
    ErrorKind.UNCOUNTED: "not counted",
}


def cue_html(moment: Moment) -> str:
    """Return the advice for the vehicle: colour, distance, age and trust; "" without any."""
    cue, traffic = _shown_cue(moment), moment.traffic
    if cue is None or traffic is None:
        return ""
    ground, ink = ADVICE_COLORS[cue.advice]
    distance, age = _distance(cue), _age(cue)
    truth = f" &middot; true light: {html.escape(traffic.true_state)}" if traffic.true_state else ""
    return (
        f'<div id="cue" style="{_FONT};padding:6px 10px;border-radius:6px;'
        f'background:{css(ground)};color:{css(ink)}">'
        f'<div style="font-size:18px;font-weight:600">{html.escape(cue.advice)}{distance}</div>'
        f"<div>{html.escape(cue.manoeuvre)} &middot; trust {cue.probability:.2f} &middot; "
        f"{age}{truth}</div><div>{html.escape(cue.reason)}</div></div>"
    )


def cue_text(moment: Moment) -> str:
    """Return the advice for the vehicle as one paragraph; "" without any."""
    cue = _shown_cue(moment)
    if cue is None:
        return ""
    return (
        f"{cue.advice}{_distance(cue)} ({cue.manoeuvre}, trust {cue.probability:.2f}, "
        f"{_age(cue)}): {cue.reason}"
    )


def notes_html(moment: Moment) -> str:
    """Return the notes on cameras and on the node; "" without any."""
    if not moment.notes:
        return ""
    lines = "".join(f"<div>{html.escape(note)}</div>" for note in moment.notes)
    return (
        f'<div id="notes" style="{_FONT};padding:6px 10px;border-radius:6px;'
        f'background:#5a4614;color:#ffe9b8;overflow-wrap:anywhere">{lines}</div>'
    )


def progress_html(progress: str) -> str:
    """Return the line on the growth of a source."""
    return f'<div id="progress" style="{_FONT};padding:2px 10px">{html.escape(progress)}</div>'


def counts_html(moment: Moment, state: ViewState) -> str:
    """Return the numbers of boxes that are shown, and of the kinds of error."""
    parts = []
    for model, predicted in enumerate(moment.predicted):
        shown = moment.shown(model, state.min_score, state.labels)
        text = f"{html.escape(predicted.name)}: {int(shown.sum())} of {len(shown)} boxes"
        if predicted.pairs is not None and moment.true is not None:
            kinds = moment.predicted_kinds(model, state.distance_m)[shown]
            missed = moment.true_kinds(model, state.distance_m, state.min_score)
            missed = missed[moment.shown_true(state.labels)]
            text += (
                f"; {_count(kinds, ErrorKind.TRUE_POSITIVE)} true, "
                f"{_count(kinds, ErrorKind.FALSE_POSITIVE)} false positives, "
                f"{_count(missed, ErrorKind.MISSED)} missed"
            )
        parts.append(text)
    if moment.true is not None:
        parts.append(f"{int(moment.shown_true(state.labels).sum())} true boxes")
    if not parts:
        parts.append("no boxes")
    lines = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div id="counts" style="{_FONT};padding:2px 10px">{lines}</div>'


def legend_html(moment: Moment, state: ViewState) -> str:
    """Return the meaning of the colours."""
    entries: list[tuple[str, str]] = []
    if state.color_by == BY_CLASS:
        names = moment.class_names
        entries = [(css(class_color(names, i)), _words(n)) for i, n in enumerate(names)]
    elif state.color_by == BY_ERROR:
        entries = [(css(ERROR_COLORS[kind]), name) for kind, name in _KINDS.items()]
    elif state.color_by == BY_MODEL:
        named = zip(MODEL_COLORS, moment.predicted, strict=False)
        entries = [(css(color), p.name) for color, p in named]
    elif state.color_by == BY_SCORE:
        scores = np.array((0.0, 0.25, 0.5, 0.75, 1.0))
        pairs = zip(score_colors(scores), scores, strict=True)
        entries = [(css(color), f"{score:g}") for color, score in pairs]
    items = "".join(_swatch(color, text) for color, text in entries)
    if moment.predicted and moment.true is not None and state.color_by != BY_ERROR:
        items += _swatch(css(TRUTH), "true (dashed)", dashed=True)
    if len(moment.predicted) > 1 and state.color_by != BY_MODEL:
        items += f"<div>{html.escape(moment.predicted[1].name)}: edges alone</div>"
    return (
        f'<div id="legend" style="{_FONT};padding:2px 10px;display:grid;'
        f'grid-template-columns:1fr 1fr;column-gap:8px">{items}</div>'
    )


def details_html(moment: Moment, state: ViewState) -> str:
    """Return the picked box: class, score, size, speed, distance, errors and history."""
    row, picked = picked_row(moment, state), state.picked
    if picked is None:
        return _panel("Click a box to see its class, size, speed and errors.")
    if row is None:
        return _panel("The picked box is not in this frame.")
    boxes = moment.true if picked.model is None else moment.predicted[picked.model].boxes
    assert boxes is not None  # it has a row
    length, width, height = boxes.size_m[row]
    source = "true" if picked.model is None else moment.predicted[picked.model].name
    title = _words(moment.class_names[int(boxes.label[row])])
    facts = [("source", html.escape(source))]
    if picked.model is not None:
        facts.append(("score", f"{moment.predicted[picked.model].score[row]:.2f}"))
    if boxes.identity[row] >= 0:
        facts.append(("track", str(int(boxes.identity[row]))))
    facts += [
        ("size", f"{length:.2f} x {width:.2f} x {height:.2f} m"),
        ("speed", _number(float(boxes.speed_mps[row]), "m/s")),
        ("distance", f"{boxes.distance_m[row]:.1f} m"),
        ("heading", f"{math.degrees(float(boxes.yaw_rad[row])):.0f} deg"),
    ]
    facts += _errors(moment, state, row)
    facts += _history(moment, picked.model, int(boxes.identity[row]))
    lines = "".join(f"<tr><td>{name}&ensp;</td><td>{value}</td></tr>" for name, value in facts)
    return _panel(f'<b style="font-size:15px">{html.escape(title)}</b><table>{lines}</table>')


def _shown_cue(moment: Moment) -> EgoCue | None:
    """Return the cue of the commanded manoeuvre, else the first one; None without any."""
    traffic = moment.traffic
    if traffic is None or not traffic.ego_cues:
        return None
    wanted = traffic.manoeuvre or traffic.ego_cues[0].manoeuvre
    return next((c for c in traffic.ego_cues if c.manoeuvre == wanted), traffic.ego_cues[0])


def _distance(cue: EgoCue) -> str:
    return "" if cue.distance_m is None else f" in {cue.distance_m:.0f} m"


def _age(cue: EgoCue) -> str:
    return "not seen" if cue.last_seen_s is None else f"{cue.last_seen_s:.1f} s ago"


def _errors(moment: Moment, state: ViewState, row: int) -> list[tuple[str, str]]:
    picked = state.picked
    assert picked is not None  # the caller has checked it
    if picked.model is None:
        if not moment.predicted or moment.predicted[state.model].pairs is None:
            return []
        kind = moment.true_kinds(state.model, state.distance_m, state.min_score)[row]
        return [("result", _KINDS[ErrorKind(kind)])]
    pairs = moment.predicted[picked.model].pairs
    if pairs is None:
        return []
    kind = ErrorKind(moment.predicted_kinds(picked.model, state.distance_m)[row])
    facts = [("result", f"{_KINDS[kind]} at {state.distance_m:g} m")]
    level = pairs.at(state.distance_m)
    if pairs.truth[level, row] != NO_MATCH:
        for name, value in zip(ERROR_NAMES, pairs.errors[level, :, row], strict=True):
            words, unit, factor = _ERRORS[name]
            facts.append((f"{words} error", _number(factor * float(value), unit)))
    return facts


def _history(moment: Moment, model: int | None, identity: int) -> list[tuple[str, str]]:
    """Return the seconds and metres that a track has been followed for."""
    source = "" if model is None else moment.predicted[model].name
    for trail in moment.trails:
        if trail.identity == identity and trail.source == source:
            steps = np.linalg.norm(np.diff(trail.points_m[:, :2], axis=0), axis=1)
            return [("seen for", f"{-trail.times_s[0]:.1f} s, {steps.sum():.1f} m driven")]
    return []


def _count(kinds: Indices, kind: ErrorKind) -> int:
    return int((kinds == kind).sum())


def _number(value: float, unit: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f} {unit}".strip()


def _swatch(color: str, text: str, *, dashed: bool = False) -> str:
    box = f"border:2px dashed {color}" if dashed else f"background:{color}"
    return (
        '<div style="display:flex;align-items:baseline;line-height:1.25">'
        f'<span style="flex:none;width:14px;height:10px;margin-right:6px;border-radius:2px;'
        f'box-sizing:border-box;{box}"></span><span>{html.escape(text)}</span></div>'
    )


def _panel(content: str) -> str:
    return f'<div id="details" style="{_FONT};padding:2px 10px">{content}</div>'


def _words(name: str) -> str:
    return name.replace("_", " ")
