"""Names and prose are plain English: no banned words, and docstrings that open as they should."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, prose_of
from tests.sources import OWN_FILES, ROOT, TEST_FILES
from tests.words import Fault, opening_faults, prose_faults, source_faults

THIS = {ROOT / "tests" / "words.py", ROOT / "tests" / "test_words.py"}


def folder_of(path: Path) -> str:
    """Return the folder whose files are checked by one test: ``bevstack/models``, ``tools``."""
    parts = path.relative_to(ROOT).parts[:-1]
    return "/".join(parts[:2]) or "."


def by_folder(files: list[Path]) -> dict[str, list[Path]]:
    """Return the files grouped by folder."""
    ordered = sorted(files, key=folder_of)
    return {name: list(group) for name, group in itertools.groupby(ordered, key=folder_of)}


SOURCES = by_folder([path for path in {*OWN_FILES, *TEST_FILES} if path not in THIS])
DOCUMENTED = by_folder(OWN_FILES)


def expect_none(found: dict[Path, list[Fault]]) -> None:
    """Fail with file, line and remedy of every fault."""
    lines = [f"{p.relative_to(ROOT)}: {fault}" for p, faults in found.items() for fault in faults]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("folder", SOURCES)
def test_names_and_prose_hold_no_banned_word(folder: str) -> None:
    expect_none({path: source_faults(path.read_text("utf-8")) for path in SOURCES[folder]})


@pytest.mark.parametrize("folder", DOCUMENTED)
def test_docstrings_open_with_a_verb_or_a_noun_phrase(folder: str) -> None:
    expect_none({path: opening_faults(path.read_text("utf-8")) for path in DOCUMENTED[folder]})


@pytest.mark.parametrize("page", PAGES, ids=[p.relative_to(ROOT).as_posix() for p in PAGES])
def test_pages_hold_no_banned_word(page: Path) -> None:
    expect_none({page: prose_faults(prose_of(page.read_text("utf-8")), 1)})


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("attended = 1  # the layer's output", 0),
        ("heard = 1", 1),
        ("def drive_others(): ...", 1),
        ("class OthersFirst: ...", 1),
        ("of_class = rows", 1),
        ("kind_of_class = rows", 0),
        ("x = 1  # what the head says", 1),
        ("x = 'the head is told so'", 1),
        ("x = 'told'", 0),
        ('"""See `of_class` and ``others``."""', 0),
        ('"""Made anew for\nnobody."""', 2),
        ("raise ValueError(f'{x} must be so\\n many') if x else None", 0),
        ('"""One line for so\nmany steps."""', 1),
    ],
)
def test_banned_words_are_found(source: str, faults: int) -> None:
    assert len(source_faults(source + "\n")) == faults


@pytest.mark.parametrize(
    ("source", "faulty"),
    [
        ('def f():\n    """Return the boxes."""', False),
        ('def f():\n    """The boxes."""', True),
        ('def f():\n    """Returns the boxes."""', True),
        ('def f():\n    """Whether boxes meet."""', True),
        ('class A:\n    """Boxes of a frame."""', False),
        ('class A:\n    """What a frame holds."""', True),
        ('class A:\n    """Boxes."""\n    def f(self):\n        """Boxes."""', True),
        ('"""How frames are read."""', True),
        ('"""Reading of frames."""', False),
    ],
)
def test_wrong_openings_are_found(source: str, faulty: bool) -> None:
    assert bool(opening_faults(source)) is faulty


def test_a_fault_names_the_line_and_the_remedy() -> None:
    (fault,) = source_faults("x = 1\nsaid = 2\n")
    assert str(fault) == "line 2: the name 'said' holds 'said'; write: predicted, returned, given"
