"""The cache of compiled functions on disk: it follows a change in any file of the renderer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.synthetic.renderer import compiled

# Draws the reflection of a wall in a wet road, with the package in the current folder. Prints where
# the package is, a digest of the picture, and how often the cache was hit. `ground_light` takes the
# ripples of the water from `patterns`.
PROGRAM = """
import hashlib
import numpy as np
from bevstack.synthetic.renderer import ground_light

height, width = 40, 30
owner = np.full((height, width), -1, np.int32)
owner[:20] = 0
image = np.random.default_rng(0).random((height, width, 3), np.float32)
camera = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
intrinsics = np.array([[30.0, 0.0, 15.0], [0.0, 30.0, 10.0], [0.0, 0.0, 1.0]])
ground_light.mirror_in_ground(owner, np.full((height, width), 9.0), camera, intrinsics, 1.0, image)
print(ground_light.__file__)
print(hashlib.sha256(image.tobytes()).hexdigest())
print(sum(ground_light.mirror_in_ground.stats.cache_hits.values()))
"""


def test_change_of_one_file_changes_the_picture_and_unchanged_files_hit_the_cache(tmp_path: Path):
    """Draw in three processes with one cache; before the third, `patterns.py` alone changes."""
    package = tmp_path / "bevstack" / "synthetic" / "renderer"
    source = Path(compiled.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    first, hits = _draw(tmp_path)
    assert hits == 0
    unchanged, hits = _draw(tmp_path)
    assert unchanged == first and hits == 1
    patterns = package / "patterns.py"
    before = patterns.read_text()
    assert before.count("/ 65535.0") == 1
    patterns.write_text(before.replace("/ 65535.0", "/ 131070.0"))
    changed, hits = _draw(tmp_path)
    assert changed != first and hits == 0


def test_digest_depends_on_names_and_contents_of_the_python_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiled.resources, "files", lambda package: tmp_path)

    def digest(**files: str) -> str:
        for old in tmp_path.iterdir():
            old.unlink()
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "notes.txt").write_text(str(files))
        return compiled.source_digest.__wrapped__()

    assert digest(a="1", b="2") == digest(b="2", a="1")
    packages = ({}, {"a": "1"}, {"a": "12"}, {"a": "1", "b": "2"}, {"a": "1", "c": "2"})
    assert len({digest(**files) for files in packages}) == len(packages)


def test_a_cache_that_another_user_may_have_written_is_found(tmp_path: Path):
    source, folder = tmp_path / "code" / "patterns.py", tmp_path / "cache"
    for path in (source.parent / "__pycache__", folder):
        path.mkdir(parents=True)
        (path / "patterns.f-1.py311.nbi").write_bytes(b"index")
        (path / "other.nbi").write_bytes(b"index")
        path.chmod(0o755)
    source.touch()

    def untrusted(place: Path) -> Path | None:
        return compiled.find_untrusted(place, "patterns.f-1.py311", source)

    beside, file = source.parent / "__pycache__", folder / "patterns.f-1.py311.nbi"
    assert untrusted(folder) is None and untrusted(beside) is None
    (folder / "other.nbi").chmod(0o666)  # of another function
    assert untrusted(folder) is None
    for mode in (0o666, 0o660):
        file.chmod(mode)
        assert untrusted(folder) == file
    file.chmod(0o644)
    folder.chmod(0o777)
    beside.chmod(0o777)
    assert untrusted(folder) == folder and untrusted(beside) == beside
    folder.chmod(0o755)
    if os.getuid() == 0:
        os.chown(file, 12345, 12345)
        assert untrusted(folder) == file
        os.chown(source, 12345, 12345)
        os.chown(beside, 12345, 12345)
        beside.chmod(0o755)
        assert untrusted(folder) == file and untrusted(beside) is None


def test_damaged_and_untrusted_caches_are_compiled_again_with_a_warning(tmp_path: Path):
    package = tmp_path / "bevstack" / "synthetic" / "renderer"
    source = Path(compiled.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    first, _ = _draw(tmp_path)
    cache = package / "__pycache__"
    for file in cache.glob("*.nbi"):
        file.write_bytes(file.read_bytes()[:-40])
    again, hits, warnings = _draw_with_warnings(tmp_path)
    assert (again, hits) == (first, 0) and "is damaged" in warnings
    assert _draw(tmp_path) == (first, 1)
    cache.chmod(0o777)
    again, hits, warnings = _draw_with_warnings(tmp_path)
    assert (again, hits) == (first, 0) and "can be written by one" in warnings


def _draw(folder: Path) -> tuple[str, int]:
    """Run PROGRAM in a folder; return the picture's digest and the number of cache hits."""
    return _draw_with_warnings(folder)[:2]


def _draw_with_warnings(folder: Path) -> tuple[str, int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=True
    )
    module, digest, hits = done.stdout.split()
    assert Path(module).is_relative_to(folder)
    return digest, int(hits), done.stderr
