from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bevstack.cli.errors import explain


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("images must be RGB;\n  got 4 channels"), "images must be RGB; got 4 channels"),
        (OSError("a.jpg must be a whole JPEG; got 3 bytes"), None),
        (FileNotFoundError("scene-9999 must be in v1.0-mini; got no such scene"), None),
        (ImportError("shapely must be installed; pip install shapely"), None),
    ],
)
def test_messages_of_the_library_are_unchanged(error: Exception, sentence: str | None) -> None:
    assert explain(error) == (sentence or str(error))


def test_a_sentence_that_quotes_a_whole_file_loses_its_middle() -> None:
    sentence = explain(ValueError(f"name must be short; got {'n' * 10_000}: choose another"))
    assert sentence is not None
    assert len(sentence) < 4010
    assert sentence.startswith("name must be short; got nnn")
    assert sentence.endswith("nnn: choose another")


@pytest.mark.parametrize(
    ("number", "requirement", "remedy"),
    [
        (errno.ENOENT, "must exist", "check the path"),
        (errno.EACCES, "must be accessible", "permissions"),
        (errno.EROFS, "must be writable", "another file system"),
        (errno.ENOSPC, "must fit on the disk", "free some space"),
        (errno.EDQUOT, "must fit in the disk quota", "free some space"),
        (errno.ENOTDIR, "must be in a folder", "check"),
        (errno.EISDIR, "must be a file", "give a file"),
        (errno.EEXIST, "must not exist yet", "choose another"),
        (errno.ELOOP, "must be a file or folder", "links that lead in a circle"),
        (errno.ENAMETOOLONG, "must have shorter names", "shorter path"),
        (errno.EIO, "must be readable and writable", "check the disk"),
        (errno.ESTALE, "must be readable and writable", "check the path"),
    ],
)
def test_an_error_of_the_system_names_path_requirement_cause_and_remedy(
    number: int, requirement: str, remedy: str
) -> None:
    sentence = explain(OSError(number, os.strerror(number), "out/results.json"))
    assert sentence is not None
    assert sentence.startswith(f"out/results.json {requirement}; got {os.strerror(number)}; ")
    assert remedy in sentence


def test_a_real_error_of_the_system_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "absent.json").read_text()
    sentence = explain(caught.value)
    assert sentence is not None and "absent.json must exist" in sentence


@pytest.mark.parametrize(
    ("module", "extra"),
    [("nuscenes.eval.common", "nuscenes"), ("tensorboard.compat", "tensorboard")],
)
def test_missing_module_of_an_extra_names_the_extra(module: str, extra: str) -> None:
    sentence = explain(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert sentence is not None and f"pip install 'bevstack[{extra}]'" in sentence


@pytest.mark.parametrize(
    "error",
    [
        TypeError("'NoneType' object is not subscriptable"),
        KeyError("token"),
        RuntimeError("view size is not compatible"),
        ImportError("cannot import name 'x' from 'y'", name="y"),
        ModuleNotFoundError("No module named 'bevstack.gone'", name="bevstack.gone"),
    ],
)
def test_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert explain(error) is None
