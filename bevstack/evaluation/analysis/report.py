"""The report of a submission: one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import cv2

from bevstack.evaluation.analysis.analysis import Analysis
from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES, LEVEL, Interval
from bevstack.evaluation.analysis.limits_table import (
    REACH_TITLES,
    SUBSTITUTION_TITLES,
    reach_cells,
    substitution_cells,
)
from bevstack.evaluation.analysis.plots import error_plots, precision_plots, reliability_plots
from bevstack.files import write_atomically, write_text_atomically
from bevstack.render.canvas import Image

REPORT_NAME = "report.html"
WORST_SCENES = 12

_STYLE = """
:root { color-scheme: light dark; --line: #d5dae1; --soft: #6b7480; --bar: #56b4e9; }
@media (prefers-color-scheme: dark) { :root { --line: #3a424d; --soft: #9aa4b2; --bar: #2b6f97; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { max-width: 52rem; } .soft, caption { color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: .5rem; min-width: 7rem; padding: .6rem 1rem; }
.tile b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } img { background: #fff; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
caption { caption-side: bottom; padding-top: .3rem; text-align: left; }
td.bar { background: linear-gradient(90deg, var(--bar) var(--share), transparent var(--share)); }
"""


def write_report(
    folder: Path,
    analysis: Analysis,
    *,
    title: str,
    comparison: tuple[str, Sequence[Interval]] | None = None,
) -> Path:
    """Write ``report.html``, and its pictures as PNG files beside it; the report is written last.

    Args:
        folder: created if needed.
        analysis: the analysis of the submission.
        title: name of the submission.
        comparison: name of a second submission, and the differences "second minus first".

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
        ModuleNotFoundError: matplotlib is not installed.
    """
    plots = {
        "precision": precision_plots(analysis.scored.metrics, analysis.config),
        "errors": error_plots(analysis.matches, analysis.config),
        "reliability": reliability_plots(analysis.reliabilities),
    }
    pictures = {name: _png(image) for name, image in plots.items()}
    for name, data in pictures.items():
        write_atomically(folder / f"{name}.png", data)
    page = "\n".join(_page(analysis, title, pictures, comparison))
    write_text_atomically(folder / REPORT_NAME, page)
    return folder / REPORT_NAME


def _page(
    analysis: Analysis,
    title: str,
    pictures: dict[str, bytes],
    comparison: tuple[str, Sequence[Interval]] | None,
) -> Iterable[str]:
    """Yield the parts of the HTML page."""
    name = html.escape(title)
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield from _heading(analysis, name)
    yield from _classes(analysis)
    note = "One line for each matching distance."
    yield from _picture("Precision over recall", pictures["precision"], note)
    if comparison is not None:
        yield from _comparison(*comparison)
    yield from _limits(analysis)
    yield from _groups(analysis)
    distance = f"{analysis.config.error_distance_m:g} m"
    note = f"Errors of boxes matched within {distance}; larger errors count in the last bar."
    yield from _picture("Errors", pictures["errors"], note)
    note = "Precision of the boxes over their score: a calibrated detector follows the diagonal."
    yield from _picture("Calibration", pictures["reliability"], note)
    yield from _scenes(analysis)
    yield "</body></html>\n"


def _heading(analysis: Analysis, name: str) -> Iterable[str]:
    """Yield the title and the tiles with the main figures."""
    loaded, metrics = analysis.scored.loaded, analysis.scored.metrics
    count = len(analysis.scenes)
    yield f"<h1>{name}</h1><p class=soft>nuScenes detection metric over {count} scenes, "
    yield f"{len(loaded.samples)} samples, {len(loaded.submission.boxes)} predicted and "
    yield f"{len(loaded.truth.boxes)} true boxes.</p><div class=tiles>"
    for interval in analysis.intervals[:7]:
        label = interval.name.replace("_", " ").replace("err", "error")
        yield f"<div class=tile>{label}<b>{_number(interval.value)}</b>"
        yield f"<span class=soft>{_number(interval.low)} to {_number(interval.high)}</span></div>"
    yield f"</div><p class=soft>Below each figure: the interval that contains {100 * LEVEL:g} % of "
    yield f"the bootstrap draws, each of {count} scenes with replacement."
    if count < FEWEST_SCENES:
        yield f" {count} scenes are too few for a reliable interval."
    yield "</p>"
    if metrics.no_predictions:
        yield "<p><b>There is no predicted box.</b></p>"


def _classes(analysis: Analysis) -> Iterable[str]:
    """Yield the table of classes, best AP first."""
    yield "<h2>Classes</h2>"
    calibration = {
        reliability.name: reliability.expected_calibration_error
        for reliability in analysis.reliabilities
    }
    intervals = {interval.name: interval for interval in analysis.intervals}
    distances = [f"AP {distance:g} m" for distance in analysis.config.distances_m]
    titles = ["class", "AP", "interval", *distances, "ATE m", "ASE", "AOE rad", "AVE m/s", "AAE"]
    rows = []
    for class_metrics in sorted(
        analysis.scored.metrics.classes, key=lambda c: -c.average_precision
    ):
        interval = intervals[f"AP {class_metrics.name}"]
        rows.append(
            [
                class_metrics.name.replace("_", " "),
                _bar(class_metrics.average_precision),
                f"{_number(interval.low)} to {_number(interval.high)}",
                *map(
                    _number,
                    (
                        *class_metrics.precisions,
                        *class_metrics.errors.values,
                        calibration[class_metrics.name],
                    ),
                ),
            ]
        )
    yield _table([*titles, "calibration error"], rows)


def _limits(analysis: Analysis) -> Iterable[str]:
    """Yield the scores with true values put in, and recall and errors by distance."""
    yield "<h2>What limits the score</h2><p class=soft>Scores with true values in place of the "
    yield "file's own, one kind at a time, for boxes that see a true box: their direction fits and "
    yield "their range is within a factor of 1.7. A gain is the most that this value could bring."
    yield "</p>"
    yield _table(SUBSTITUTION_TITLES, [substitution_cells(row) for row in analysis.substitutions])
    caption = "Errors are medians of the boxes that see the object; shares are of all objects."
    yield _table(REACH_TITLES, [reach_cells(row) for row in analysis.reaches], caption)


def _groups(analysis: Analysis) -> Iterable[str]:
    """Yield the table of groups, family by family."""
    yield "<h2>Conditions</h2><p class=soft>Means over the classes that have true boxes in the "
    yield "group. A matched prediction counts in the group of its true box. An unmatched one "
    yield "counts in its own group; for visibility, in every group. Groups without true boxes are "
    yield "left out.</p>"
    titles = ["group", "true boxes", "mAP", "ATE m", "ASE", "AOE rad", "AVE m/s", "AAE"]
    rows: list[list[str]] = []
    for family, members in groupby(analysis.groups, lambda group: group.family):
        for group in (member for member in members if member.num_truth):
            name = group.name if family == "all" else f"{family}: {group.name}"
            figures = [_bar(group.mean_average_precision), *map(_number, group.errors.values)]
            rows.append([html.escape(name), str(group.num_truth), *figures])
    yield _table(titles, rows)


def _comparison(name: str, differences: Sequence[Interval]) -> Iterable[str]:
    """Yield the table of differences to a second submission."""
    yield f"<h2>Compared with {html.escape(name)}</h2><p class=soft>{html.escape(name)} minus this "
    yield f"submission, and the interval that contains {100 * LEVEL:g} % of the bootstrap draws; "
    yield "both submissions share the draws. For errors, negative differences are better."
    if differences and differences[0].num_scenes < FEWEST_SCENES:
        yield f" With fewer than {FEWEST_SCENES} scenes no difference is called beyond chance."
    yield "</p>"
    rows = [
        [
            interval.name.replace("_", " "),
            _signed(interval.value),
            f"{_signed(interval.low)} to {_signed(interval.high)}",
            "yes" if interval.is_beyond_chance else "",
        ]
        for interval in differences
    ]
    yield _table(["figure", "difference", "interval", "beyond chance"], rows)


def _scenes(analysis: Analysis) -> Iterable[str]:
    """Yield the table of the worst scenes."""
    yield "<h2>Scenes, worst first</h2>"
    rows = [
        [html.escape(scene.name), _bar(scene.mean_average_precision), _number(scene.nds)]
        for scene in analysis.scenes[:WORST_SCENES]
    ]
    caption = "Each scene is scored alone: classes without true boxes in it count 0."
    yield _table(["scene", "mAP", "NDS"], rows, caption)


def _picture(title: str, data: bytes, note: str) -> Iterable[str]:
    """Yield a heading, a note and a picture that is embedded in the page."""
    encoded = base64.b64encode(data).decode()
    yield f"<h2>{title}</h2><p class=soft>{note}</p>"
    yield f'<div class=wide><img alt="{title}" src="data:image/png;base64,{encoded}"></div>'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table as HTML."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    note = f"<caption>{caption}</caption>" if caption else ""
    table = f"<table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=wide>{table}</div>"


def _cell(content: str) -> str:
    """Return a table cell; content that is a cell already is returned as it is."""
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _bar(value: float) -> str:
    """Return a cell with a value from 0 to 1 and a bar of that length."""
    share = 0.0 if value != value else 100 * min(max(value, 0.0), 1.0)
    return f'<td class=bar style="--share:{share:.1f}%">{_number(value)}</td>'


def _number(value: float) -> str:
    """Return a number with three decimals; a dash for NaN."""
    return "-" if value != value else f"{value:.3f}"


def _signed(value: float) -> str:
    """Return a number with its sign and four decimals; a dash for NaN."""
    return "-" if value != value else f"{value:+.4f}"


def _png(image: Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    encoded: bytes = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return encoded
