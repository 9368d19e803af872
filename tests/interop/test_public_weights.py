from __future__ import annotations

import pytest
import torch

from bevstack.interop.public_weights import Rename, UnmatchedError, convert_weights

ROWS = (
    Rename("old.{i}.{p}", "new.{i}.{p}"),
    Rename("joint", "upper", lambda tensor, shape: tensor[: shape[0]]),
    Rename("joint", "lower", lambda tensor, shape: tensor[shape[0] :]),
)
WANTED = {
    "new.0.weight": torch.zeros(2, 3),
    "new.0.bias": torch.zeros(2),
    "upper": torch.zeros(2, 4),
    "lower": torch.zeros(2, 4),
}


def published() -> dict[str, torch.Tensor]:
    return {
        "old.0.weight": torch.arange(6.0).view(2, 3),
        "old.0.bias": torch.tensor([1.0, 2.0]),
        "joint": torch.arange(16.0).view(4, 4),
    }


def test_rows_rename_split_and_report() -> None:
    converted, report = convert_weights(published(), WANTED, ROWS)
    assert converted.keys() == WANTED.keys()
    assert torch.equal(torch.cat((converted["upper"], converted["lower"])), published()["joint"])
    assert torch.equal(converted["new.0.weight"], published()["old.0.weight"])
    assert ("joint", "lower") in report.matched and len(report.matched) == 4
    assert report.missing == () and report.left_over == ()
    assert "old.0.bias" in report.table() and "left over 0" in report.table()


def test_the_error_holds_the_report_with_counts_per_part() -> None:
    source = {**published(), "extra.bias": torch.zeros(2), "extra.weight": torch.zeros(2)}
    del source["joint"]
    with pytest.raises(UnmatchedError) as caught:
        convert_weights(source, WANTED, ROWS)
    rows = [line.split() for line in caught.value.report.summary().splitlines()]
    assert ["new", "2", "0"] in rows and ["upper", "0", "1"] in rows and ["all", "2", "2"] in rows
    assert ["extra", "2"] in rows and rows[-2][-1] == "2"


def test_converted_tensors_share_no_memory_with_the_file() -> None:
    source = published()
    converted, _ = convert_weights(source, WANTED, ROWS)
    converted["upper"].fill_(-1)
    assert torch.equal(source["joint"], published()["joint"])


def test_missing_names_are_refused_unless_allowed() -> None:
    source = published()
    del source["old.0.bias"]
    with pytest.raises(ValueError, match=r"got 1 missing: new\.0\.bias"):
        convert_weights(source, WANTED, ROWS)
    with pytest.raises(ValueError, match="missing"):
        convert_weights(source, WANTED, ROWS, allow_missing=["new.1.*"])
    converted, report = convert_weights(source, WANTED, ROWS, allow_missing=["new.0.*"])
    assert report.missing == ("new.0.bias",) and "new.0.bias" not in converted


def test_left_over_names_are_refused_unless_allowed() -> None:
    source = {**published(), "old.1.bias": torch.zeros(2), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"got 2 left over: old\.1\.bias, extra"):
        convert_weights(source, WANTED, ROWS)
    _, report = convert_weights(source, WANTED, ROWS, allow_left_over=["old.1.bias", "ext*"])
    assert report.left_over == ("old.1.bias", "extra")


def test_other_shapes_are_refused_by_name() -> None:
    source = {**published(), "old.0.weight": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"old\.0\.weight must have shape \(2, 3\).*got \(3, 3\)"):
        convert_weights(source, WANTED, ROWS)


def test_two_published_tensors_for_one_of_ours_are_refused() -> None:
    rows = (*ROWS, Rename("other", "new.0.bias"))
    with pytest.raises(ValueError, match=r"new\.0\.bias must come from one published tensor"):
        convert_weights({**published(), "other": torch.zeros(2)}, WANTED, rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(value: float) -> None:
    source = published()
    source["old.0.bias"][1] = value
    with pytest.raises(ValueError, match=rf"must be finite; got {value} in old\.0\.bias"):
        convert_weights(source, WANTED, ROWS)
