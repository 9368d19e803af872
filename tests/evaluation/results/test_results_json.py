from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, NO_SAMPLE, BoxColumns
from bevstack.evaluation.results.results_json import _read_exact, read_results
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.evaluation.detection3d.random_cases import random_case

msgspec_reader = pytest.importorskip("bevstack.evaluation.results.results_msgspec")


def make_content(boxes: BoxColumns, meta: dict | None = None) -> dict:
    """Return the columns as the content of a results file."""
    tokens = boxes.sample_tokens.tolist()
    results: dict[str, list] = {token: [] for token in tokens}
    for row in range(len(boxes)):
        named_sample, attribute = boxes.named_sample[row], boxes.attribute[row]
        box = {
            "sample_token": "elsewhere" if named_sample == NO_SAMPLE else tokens[named_sample],
            "translation": boxes.translation[row].tolist(),
            "size": boxes.size[row].tolist(),
            "rotation": boxes.rotation[row].tolist(),
            "velocity": boxes.velocity[row].tolist(),
            "detection_name": DETECTION_CLASSES[boxes.label[row]],
            "detection_score": float(boxes.score[row]),
            "attribute_name": "" if attribute == NO_ATTRIBUTE else ATTRIBUTES[attribute],
            "num_pts": int(boxes.num_points[row]),
            "tracking_id": "7",  # fields of other tasks are ignored
        }
        results[tokens[boxes.sample[row]]].append(box)
    return {"meta": meta or {}, "results": results}


def finite_case(seed: int) -> BoxColumns:
    """Draw predictions that JSON can hold."""
    boxes, _ = random_case(seed)
    boxes.velocity[np.isinf(boxes.velocity)] = 1.0
    boxes.score[np.isinf(boxes.score)] = 1.0
    assert len(boxes) > 5
    return boxes


def expect_equal(boxes: BoxColumns, expected_boxes: BoxColumns) -> None:
    for field in dataclasses.fields(expected_boxes):
        values, expected = getattr(boxes, field.name), getattr(expected_boxes, field.name)
        numbers = expected.dtype.kind == "f"
        assert values.dtype.kind == expected.dtype.kind
        assert np.array_equal(values, expected, equal_nan=numbers), field.name
        assert not numbers or np.array_equal(np.signbit(values), np.signbit(expected)), field.name


@pytest.mark.parametrize("seed", range(40))
def test_both_readers_give_back_what_was_written(tmp_path: Path, seed: int) -> None:
    boxes, _ = random_case(seed)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(make_content(boxes, {"use_camera": True})))
    fast_content = msgspec_reader.read_fast(path.read_bytes())
    infinite = any(np.isinf(getattr(boxes, name)).any() for name in ("velocity", "score"))
    assert (fast_content is None) == infinite  # JSON has no infinity, so msgspec refuses it
    exact_content = _read_exact(path.read_bytes(), path, strict=False)
    expect_equal(exact_content.boxes, boxes)
    if fast_content is not None:
        expect_equal(fast_content[1], boxes)
    assert read_results(path).meta == exact_content.meta == {"use_camera": True}


def test_every_float_is_read_to_the_last_bit(tmp_path: Path) -> None:
    boxes = finite_case(0)
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**63, (len(boxes), 3), dtype=np.uint64).view(np.float64)
    boxes.translation[:] = np.where(np.isfinite(bits), bits, 5e-324)
    boxes.size[:] = draw.random((len(boxes), 3)).astype(np.float32)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(make_content(boxes)))
    expect_equal(msgspec_reader.read_fast(path.read_bytes())[1], boxes)


@pytest.mark.parametrize("meta", [{"note": "[1, NaN, 2]"}, {"note": ["a", " NaN "]}, {"x": None}])
def test_nan_in_a_text_is_left_alone(tmp_path: Path, meta: dict) -> None:
    boxes = finite_case(1)
    boxes.velocity[0] = math.nan
    path = tmp_path / "r.json"
    path.write_text(json.dumps(make_content(boxes, meta)))
    content = read_results(path)
    assert content.meta == meta
    expect_equal(content.boxes, boxes)


def test_a_null_is_no_nan(tmp_path: Path) -> None:
    boxes, _ = random_case(1)
    boxes.velocity[:] = 1.0
    boxes.velocity[0] = math.nan
    path = tmp_path / "r.json"
    path.write_text(json.dumps(make_content(boxes)).replace("NaN", "null", 1))
    with pytest.raises(ValueError, match=r"velocity of box 0 .* must be 2 numbers; got \[None"):
        read_results(path)


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    boxes = finite_case(0)
    content = make_content(boxes)
    first = next(box for boxes_of_sample in content["results"].values() for box in boxes_of_sample)
    first |= {"translation": [1, 2, 3], "detection_score": 1, "num_pts": 0}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    columns = msgspec_reader.read_fast(path.read_bytes())[1]
    assert columns.translation[0].tolist() == [1.0, 2.0, 3.0]
    assert (columns.score[0], columns.num_points[0]) == (1.0, 0)


def test_a_score_may_be_absent_only_in_strict_mode(tmp_path: Path) -> None:
    boxes, _ = random_case(0)
    content = make_content(boxes)
    first = next(box for boxes_of_sample in content["results"].values() for box in boxes_of_sample)
    del first["detection_score"]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must have the field 'detection_score'"):
        read_results(path)
    assert read_results(path, strict=True).boxes.score[0] == -1.0


def test_files_are_read_without_msgspec_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, _ = random_case(2)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(make_content(boxes)))
    monkeypatch.setitem(sys.modules, "bevstack.evaluation.results.results_msgspec", None)
    expect_equal(read_results(path).boxes, boxes)


def test_text_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(b'{"meta": {"\xff": 1}, "results": {}}')
    with pytest.raises(ValueError, match=r"must be UTF-8 text; got .* at byte 11"):
        read_results(path)
