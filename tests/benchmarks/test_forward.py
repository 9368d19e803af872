"""The count of a frame's calls, waits and copies, without a GPU and at full size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import run

COMMAND = "python -m benchmarks.run forward --config bevformerv2_internimage_xl_t1 --lines"


def test_a_full_size_frame_neither_waits_nor_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "forward.json"
    words = COMMAND.split()[3:]
    monkeypatch.setattr(sys, "argv", ["run", *words, "--json", str(file)])
    run.main()
    result = json.loads(file.read_text())
    assert (result["waits"], result["copies"]) == (0, 0)
    assert 1000 < result["calls"] < 10_000
    assert len(capsys.readouterr().out.splitlines()) == 1  # no line of the package to list
