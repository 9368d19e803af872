from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, NO_SAMPLE, BoxColumns
from bevstack.evaluation.results.results_json import _exact, read_results
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.evaluation.detection3d.random_cases import random_case

msgspec_reader = pytest.importorskip("bevstack.evaluation.results.results_msgspec")


def content_of(boxes: BoxColumns, meta: dict | None = None) -> dict:
    """The columns as a results file has them."""
    tokens = boxes.sample_tokens.tolist()
    results: dict[str, list] = {token: [] for token in tokens}
    for row in range(len(boxes)):
        named, attribute = boxes.named_sample[row], boxes.attribute[row]
        box = {
            "sample_token": "elsewhere" if named == NO_SAMPLE else tokens[named],
            "translation": boxes.translation[row].tolist(),
            "size": boxes.size[row].tolist(),
            "rotation": boxes.rotation[row].tolist(),
            "velocity": boxes.velocity[row].tolist(),
            "detection_name": DETECTION_CLASSES[boxes.label[row]],
            "detection_score": float(boxes.score[row]),
            "attribute_name": "" if attribute == NO_ATTRIBUTE else ATTRIBUTES[attribute],
            "num_pts": int(boxes.num_points[row]),
            "tracking_id": "7",  # fields of other tasks do not matter
        }
        results[tokens[boxes.sample[row]]].append(box)
    return {"meta": meta or {}, "results": results}


def finite_case(seed: int) -> BoxColumns:
    """Predictions that JSON can hold."""
    boxes, _ = random_case(seed)
    boxes.velocity[np.isinf(boxes.velocity)] = 1.0
    boxes.score[np.isinf(boxes.score)] = 1.0
    assert len(boxes) > 5
    return boxes


def expect_equal(found: BoxColumns, wanted: BoxColumns) -> None:
    for field in dataclasses.fields(wanted):
        mine, theirs = getattr(found, field.name), getattr(wanted, field.name)
        numbers = theirs.dtype.kind == "f"
        assert mine.dtype.kind == theirs.dtype.kind
        assert np.array_equal(mine, theirs, equal_nan=numbers), field.name
        assert not numbers or np.array_equal(np.signbit(mine), np.signbit(theirs)), field.name


@pytest.mark.parametrize("seed", range(40))
def test_both_readers_give_back_what_was_written(tmp_path: Path, seed: int) -> None:
    boxes, _ = random_case(seed)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content_of(boxes, {"use_camera": True})))
    fast = msgspec_reader.read_fast(path)
    infinite = any(np.isinf(getattr(boxes, name)).any() for name in ("velocity", "score"))
    assert (fast is None) == infinite  # which JSON does not have, and the library knows nothing of
    exact = _exact(path.read_bytes(), path, strict=False)
    expect_equal(exact.boxes, boxes)
    if fast is not None:
        expect_equal(fast[1], boxes)
    assert read_results(path).meta == exact.meta == {"use_camera": True}


def test_every_float_is_read_to_the_last_bit(tmp_path: Path) -> None:
    boxes = finite_case(0)
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**63, (len(boxes), 3), dtype=np.uint64).view(np.float64)
    boxes.translation[:] = np.where(np.isfinite(bits), bits, 5e-324)
    boxes.size[:] = draw.random((len(boxes), 3)).astype(np.float32)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content_of(boxes)))
    expect_equal(msgspec_reader.read_fast(path)[1], boxes)


@pytest.mark.parametrize("meta", [{"note": "[1, NaN, 2]"}, {"note": ["a", " NaN "]}, {"x": None}])
def test_nan_in_a_text_is_left_alone(tmp_path: Path, meta: dict) -> None:
    boxes = finite_case(1)
    boxes.velocity[0] = math.nan
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content_of(boxes, meta)))
    found = read_results(path)
    assert found.meta == meta
    expect_equal(found.boxes, boxes)


def test_a_null_is_no_nan(tmp_path: Path) -> None:
    boxes, _ = random_case(1)
    boxes.velocity[:] = 1.0
    boxes.velocity[0] = math.nan
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content_of(boxes)).replace("NaN", "null", 1))
    with pytest.raises(ValueError, match=r"velocity of box 0 .* must be 2 numbers; got \[None"):
        read_results(path)


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    boxes = finite_case(0)
    content = content_of(boxes)
    first = next(box for of_sample in content["results"].values() for box in of_sample)
    first |= {"translation": [1, 2, 3], "detection_score": 1, "num_pts": 0}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    found = msgspec_reader.read_fast(path)[1]
    assert found.translation[0].tolist() == [1.0, 2.0, 3.0]
    assert (found.score[0], found.num_points[0]) == (1.0, 0)


def test_a_score_may_be_absent_to_the_devkit_alone(tmp_path: Path) -> None:
    boxes, _ = random_case(0)
    content = content_of(boxes)
    first = next(box for of_sample in content["results"].values() for box in of_sample)
    del first["detection_score"]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must have the field 'detection_score'"):
        read_results(path)
    assert read_results(path, strict=True).boxes.score[0] == -1.0


def test_without_msgspec_files_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, _ = random_case(2)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content_of(boxes)))
    monkeypatch.setitem(sys.modules, "bevstack.evaluation.results.results_msgspec", None)
    expect_equal(read_results(path).boxes, boxes)


def test_text_that_is_not_utf8_is_told_at_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(b'{"meta": {"\xff": 1}, "results": {}}')
    with pytest.raises(ValueError, match=r"must be UTF-8 text; got .* at byte 11"):
        read_results(path)
