"""`bevstack predict|evaluate --classifier`, from a published file to figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bevstack.cli.main import main
from bevstack.config.internimage import classification_config
from bevstack.interop.internimage_names import ours_to_official
from bevstack.models.classification.internimage_heads import InternImageClassifier
from tests.datasets.segmentation.label_files import picture, write_array

NUM_OUTPUTS = 9


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a published file of 9 classes and pictures of 3 classes."""
    folder = tmp_path_factory.mktemp("classes")
    torch.manual_seed(0)
    model = InternImageClassifier(classification_config("internimage_t"), NUM_OUTPUTS)
    model.head.fc.bias.data = torch.arange(NUM_OUTPUTS) / 10.0  # class 8 wins where all are alike
    state = {ours_to_official(name): value for name, value in model.state_dict().items()}
    torch.save({"model": state}, folder / "t.pth")
    for row, name in enumerate(("n1", "n2", "n3")):
        write_array(folder / "data" / "val" / name / "a.jpg", picture(60, 50, row))
    return folder


def test_a_picture_gets_five_classes_and_a_data_set_its_accuracy(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--classifier", "internimage_t", "--weights", str(published / "t.pth")]
    out = tmp_path / "top5.json"
    images = str(published / "data" / "val")
    assert main(["predict", *model, "--images", images, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["pictures"]
    assert [row["file_name"] for row in rows] == ["n1/a.jpg", "n2/a.jpg", "n3/a.jpg"]
    for row in rows:
        shares = [own["probability"] for own in row["classes"]]
        assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) < 1
    capsys.readouterr()
    found = [{own["label"] for own in row["classes"]} for row in rows]
    evaluate = ["evaluate", *model, "--imagenet", str(published / "data"), "--split", "val"]
    assert main([*evaluate, "--out", str(tmp_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    first = sum(row["classes"][0]["label"] == label for label, row in enumerate(rows))
    assert figures["top1"] == pytest.approx(first / 3)
    assert figures["top5"] == pytest.approx(sum(n in own for n, own in enumerate(found)) / 3)
    # Outputs in another order: the best output of the first picture is now class 0.
    best = rows[0]["classes"][0]["label"]
    order = [best, *(n for n in range(NUM_OUTPUTS) if n != best)]
    (tmp_path / "map.txt").write_text("\n".join(map(str, order[:3])))
    single = ["--images", f"{images}/n1/a.jpg", "--out", str(out)]
    assert main(["predict", *model, *single, "--class-map", str(tmp_path / "map.txt")]) == 0
    (row,) = json.loads(out.read_text())["pictures"]
    assert row["classes"][0]["label"] == 0 and len(row["classes"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict --classifier internimage_t --out O", "--images must be given with --classifier"),
        ("predict --classifier resnet --images D/val --out O --weights W", "must be one of"),
        ("predict --classifier internimage_t --images D/val --out O", "--weights must be given"),
        (
            "predict --classifier internimage_t --images D/val --out O --weights W --track",
            "--track must be left out with --classifier",
        ),
        ("predict --class-map W --images D/val --out O --weights W", "--classifier must be given"),
        ("evaluate --imagenet D --split val --out O", "--classifier must be given with --imagenet"),
        ("evaluate --imagenet D --classifier internimage_t --out O", "--split must be given"),
        (
            "evaluate --imagenet D --split val --classifier internimage_t --out O --coco D",
            "--coco must be left out with --imagenet",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    published: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    names = {"W": str(published / "t.pth"), "O": str(tmp_path / "out.json")}
    words = [names.get(word, word) for word in arguments.split()]
    data = str(published / "data")
    words = [data + word[1:] if word == "D" or word.startswith("D/") else word for word in words]
    assert main(words) == 2
    assert message in capsys.readouterr().err
