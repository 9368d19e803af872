"""Tests for the benchmark against the released classifier, with a stand-in for its source."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import official
from bevstack.config.internimage import InternImageConfig, classification_config
from bevstack.interop.internimage_names import ours_to_official
from bevstack.models.classification.internimage_heads import InternImageClassifier

SOURCE = """
from timm.models.layers import DropPath
import DCNv3, pkg_resources
"""


class Released(nn.Module):
    """Our classifier under the released names, with logits moved by ``error``."""

    def __init__(self, config: InternImageConfig, error: float) -> None:
        super().__init__()
        self.model, self.error = InternImageClassifier(config), error

    def state_dict(self, *args: object, **options: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
        state = self.model.state_dict()
        return {str(ours_to_official(name)): value for name, value in state.items()}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(image)
        return logits + self.error


def small(name: str) -> InternImageConfig:
    return replace(
        classification_config(name), channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)
    )


def measure(monkeypatch: pytest.MonkeyPatch, error: float) -> dict[str, object]:
    monkeypatch.setattr(official, "classification_config", small)
    monkeypatch.setattr(official, "released_model", lambda _, c: Released(c, error).eval())
    return official.measure(sys, "internimage_xl", 64, seconds=0.0, wall=False)


def test_both_models_have_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    row = measure(monkeypatch, 0.0)
    assert row["relative_difference"]["float32"] < 1e-5  # type: ignore[index]
    assert set(row["speedup"]) == {"float32", "bfloat16"}  # type: ignore[call-overload]


def test_a_released_model_with_other_outputs_stops_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match=r"logits of internimage_xl must equal"):
        measure(monkeypatch, 10.0)


def test_the_source_is_imported_without_what_only_training_needs(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "intern_image.py").write_text(SOURCE)
    before = list(sys.path)
    with official.released_source(tmp_path) as source:
        assert isinstance(source.DropPath(0.1), nn.Identity)
    assert sys.path == before
    assert not {"DCNv3", "intern_image"} & set(sys.modules)


def test_a_folder_without_the_source_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"--source must be the folder classification"),
        official.released_source(tmp_path),
    ):
        pass
