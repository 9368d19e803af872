from __future__ import annotations

import dataclasses
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.evaluation.analysis.analysis import Analysis, analyse, compare
from bevstack.evaluation.analysis.plots import (
    PANEL,
    error_plots,
    precision_plots,
    reliability_plots,
)
from bevstack.evaluation.analysis.report import write_report
from bevstack.evaluation.scoring import load, score
from bevstack.tables.reader import Tables
from tests.evaluation.test_scoring import truth_as_prediction
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(write_tiny_root(tmp_path_factory.mktemp("report") / "root"), VERSION)


@pytest.fixture(scope="module")
def analysis(tables: Tables) -> Analysis:
    results = truth_as_prediction(tables.root)
    for boxes in results.values():
        for box in boxes:
            box["translation"][0] += 0.3
    return analyse(score(load(results, tables, "mini_val")), tables, draws=10)


class _Page(HTMLParser):
    """An HTML page: checks that tags close in order and collects what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def report(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "new"
    return write_report(folder, analysis, title="<results> & more")


def test_the_page_is_complete_and_loads_nothing_from_elsewhere(report: Path) -> None:
    path = report
    text = path.read_text()
    page = _Page(text)
    assert page.open == []
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.findall(r"https?:|@import|url\(|<script", text)
    assert "<results> & more" in page.texts and "<results>" not in text
    assert "2 scenes are too few" in text
    pictures = ["errors.png", "precision.png", "reliability.png"]
    assert sorted(os.listdir(path.parent)) == [*pictures, "report.html"]
    for name in pictures:
        assert cv2.imread(str(path.parent / name)) is not None


def test_the_page_holds_the_figures(analysis: Analysis, report: Path) -> None:
    texts = _Page(report.read_text()).texts
    assert f"{analysis.scored.metrics.nds:.3f}" in texts
    for expected in ("construction vehicle", "range: 0-10 m", "camera: SIDE_LEFT", "scene-0916"):
        assert expected in texts
    assert "light: night" not in texts  # the group has no true box


def test_a_comparison_marks_differences_beyond_chance(
    analysis: Analysis, tables: Tables, tmp_path: Path
) -> None:
    better = score(load(truth_as_prediction(tables.root), tables, "mini_val"))
    differences = compare(analysis.scored, better, tables, draws=10)
    error = next(d for d in differences if d.name == "trans_err")
    assert error.value < -0.05 and error.excludes_zero
    assert error.num_scenes == 2 and not error.is_beyond_chance
    ten = [dataclasses.replace(difference, num_scenes=10) for difference in differences]
    path = write_report(tmp_path, analysis, title="r", comparison=("better", ten))
    texts = _Page(path.read_text()).texts
    assert "Compared with better" in texts and "yes" in texts


def test_submissions_of_other_samples_are_not_compared(tables: Tables, analysis: Analysis) -> None:
    part = score(load(truth_as_prediction(tables.root), tables, ["scene-0916"]))
    with pytest.raises(ValueError, match="on the same samples; got 7 and 3"):
        compare(analysis.scored, part, tables)


def test_scenes_are_listed_worst_first(analysis: Analysis) -> None:
    precisions = [scene.mean_average_precision for scene in analysis.scenes]
    assert precisions == sorted(precisions) and len(precisions) == 2


def test_plots_show_every_class_error_and_score(analysis: Analysis) -> None:
    height, width = PANEL
    config = analysis.config
    precision = precision_plots(analysis.scored.metrics, config)
    assert precision.shape == (2 * height, 5 * width, 3)
    assert error_plots(analysis.matches, config).shape == (height, 5 * width, 3)
    # all boxes together, cars, pedestrians
    plot = reliability_plots(analysis.reliabilities)
    assert plot.shape == (height, 3 * width, 3)
    # the scores are all 1 and all boxes right: a blue dot in the upper right corner of the axes
    blue = np.abs(plot.astype(int) - (0, 114, 178)).sum(-1) < 30
    rows, columns = np.nonzero(blue[:, width : 2 * width])
    assert len(rows) and rows.min() < 0.2 * height and 0.4 * width < columns.min()


def test_nothing_predicted_is_reported_too(tables: Tables, tmp_path: Path) -> None:
    empty = {token: [] for token in truth_as_prediction(tables.root)}
    analysis = analyse(score(load(empty, tables, "mini_val")), tables, draws=5)
    text = write_report(tmp_path, analysis, title="nothing").read_text()
    assert "There is no predicted box." in text
