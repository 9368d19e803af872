"""Files of finished figures: those of another kind are named, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.experiments.finished import read_finished_file
from bevstack.experiments.judge.turned_world import read_manifest, world_spec
from bevstack.experiments.study.study import add_time, read_plan
from bevstack.synthetic.spec import GENERATOR_VERSION
from bevstack.synthetic.world import MANIFEST

MARKS = {"model": {"bytes": 3}}
FIGURES = {"NDS": 0.25, "mAP": None, "boxes": 7, "classes": {"car": {"AP": 0.5}}}


def test_marks_and_figures_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"marks": MARKS, "found": FIGURES}))
    assert read_finished_file(path, "found", ("NDS", "mAP")) == (MARKS, FIGURES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"row.json must be a JSON object; got \[\]: remove it"),
        ({"found": FIGURES}, "must have the field 'marks'"),
        ({"marks": 3, "found": FIGURES}, "marks of .* must be a JSON object; got 3"),
        ({"marks": MARKS}, "must have the field 'found'"),
        ({"marks": MARKS, "found": []}, "found of .* must be a JSON object"),
        ({"marks": MARKS, "found": {"NDS": 1.0}}, "must have the field 'mAP'"),
        ({"marks": MARKS, "found": FIGURES | {"NDS": "high"}}, "NDS of .* must be a number"),
        ({"marks": MARKS, "found": FIGURES | {"boxes": 1.5}}, "boxes of .* must be a whole number"),
        ({"marks": MARKS, "found": FIGURES | {"classes": [1]}}, "classes of .* be a JSON object"),
        ({"marks": MARKS, "found": FIGURES | {"classes": {"a": {}}}}, "class 'a' .* field 'AP'"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_finished_file(path, "found", ("NDS", "mAP"))


def test_a_damaged_plan_time_or_manifest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    plan = {"perspective_steps": 1, "num_steps": 2, "perspective_step_s": 0.5, "step_s": 1}
    for changes, message in (
        ({"num_steps": "2"}, "num_steps of the plan .* must be a number; got '2'"),
        ({"num_steps": 2.5}, "num_steps of the plan .* must be a whole number; got 2.5"),
    ):
        path.write_text(json.dumps(plan | changes))
        with pytest.raises(ValueError, match=message):
            read_plan(path)
    path.write_text(json.dumps(plan))
    found = read_plan(path)
    assert found is not None and found.to_json() == plan
    path.write_text('"soon"')
    with pytest.raises(ValueError, match=r"seconds in .* must be a number; got 'soon'"):
        add_time(path, 1.0)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(ValueError, match=r"manifest .* must be a JSON object"):
        read_manifest(tmp_path)
    for spec in (None, {"image_size": 5}, {"image_size": [4, 4], "colour": 1}):
        content = {"generator_version": GENERATOR_VERSION, "spec": spec}
        (tmp_path / MANIFEST).write_text(json.dumps(content))
        with pytest.raises(ValueError, match="spec in the manifest of"):
            world_spec(tmp_path)
