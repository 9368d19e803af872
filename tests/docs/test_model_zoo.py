"""The page of published models against the packaged configurations."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from bevstack.config import packaged_configs
from bevstack.config.detection2d import DETECTION2D
from bevstack.config.internimage import classification_config
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.config.segmentation import SEGMENTATION
from bevstack.config.segmenters import load_segmenter
from bevstack.costs.backbone import PUBLISHED_SIZE_PX
from bevstack.costs.macs import count_parameters
from bevstack.models.classification.internimage_heads import InternImageClassifier
from bevstack.models.detection2d.build import build_picture_model
from bevstack.models.segmentation.build import build_segmenter
from bevstack.models.skeleton import skeleton
from tests.docs.pages import PAGES

ZOO = next(page for page in PAGES if page.name == "model_zoo.md")
MARKS = {"count", "names", "head", "small", "not checked"}


def rows() -> Iterator[list[str]]:
    """Yield the cells of each row of a model: its name in code, then its parameters."""
    for line in ZOO.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`\w+`", cells[0]) and re.fullmatch(r"[\d,]+", cells[1]):
            yield [cells[0].strip("`"), *cells[1:]]


def parameters_of(name: str) -> int:
    with skeleton():
        if name in PUBLISHED_SIZE_PX:
            return count_parameters(InternImageClassifier(classification_config(name), 1000))
        if name in packaged_configs(SEGMENTATION):
            return count_parameters(build_segmenter(load_segmenter(name)))
        return count_parameters(build_picture_model(load_picture_detector(name)))


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row[0])
def test_a_row_has_the_parameters_of_its_configuration_and_known_marks(row: list[str]) -> None:
    assert int(row[1].replace(",", "")) == parameters_of(row[0])
    assert set(row[-1].split(", ")) <= MARKS


def test_each_published_configuration_has_one_row() -> None:
    names = [row[0] for row in rows()]
    published = {
        name
        for task in (DETECTION2D, SEGMENTATION)
        for name in packaged_configs(task)
        if "internimage" in name
    }
    assert sorted(names) == sorted(published | set(PUBLISHED_SIZE_PX))
