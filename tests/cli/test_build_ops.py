"""Output and target folder of `bevstack build-ops`, with a source file of a few lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.cli import build_ops
from bevstack.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
#include <Python.h>
extern "C" PyObject* PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1};
  return PyModule_Create(&module);
}
"""
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the library with sources inside, as in a wheel, but only one source file."""
    target = tmp_path / "library" / "bevstack"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "_C.json")
    shutil.copytree(ROOT / "bevstack", target, ignore=ignored)
    (target / "_ops_sources").mkdir()
    shutil.copy(ROOT / "ops" / "build.py", target / "_ops_sources")
    (target / "_ops_sources" / "module.cpp").write_text(MODULE, encoding="utf-8")
    return target


def bevstack(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from bevstack.cli.main import main; sys.exit(main())"
    removed = ("BEVSTACK_BUILD_OPS", "FORCE_CUDA")
    variables = {name: value for name, value in os.environ.items() if name not in removed}
    variables |= {"PYTHONPATH": str(package.parent), "TORCH_HOME": str(package.parent / "cache")}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, cwd=package.parent, env=variables, capture_output=True, text=True
    )


@needs_compiler
def test_it_compiles_into_the_package_and_prints_command_and_kernels(package: Path) -> None:
    done = bevstack(package, "build-ops")
    assert done.returncode == 0, done.stderr
    assert f"{package / '_ops_sources' / 'build.py'} --into {package} " in done.stdout
    assert "took" in done.stdout and "kernels, as `bevstack doctor` reports them:" in done.stdout
    # The source file registers no kernel, which is the only remaining reason for the reference.
    assert "  dcnv3                   cpu     reference: bevstack._C holds no kernels for cpu" in (
        done.stdout
    )
    assert [f for f in package.glob("_C.*") if f.suffix != ".json"]


@needs_compiler
def test_a_failure_prints_the_compilers_error_also_in_the_doctor(package: Path) -> None:
    source = package / "_ops_sources" / "module.cpp"
    source.write_text("#error broken on purpose\n", encoding="utf-8")
    done = bevstack(package, "build-ops")
    assert done.returncode == 1
    assert "broken on purpose" in done.stderr and "reference" in done.stderr
    assert "broken on purpose" in bevstack(package, "doctor").stdout
    # A later failure does not replace kernels that work.
    source.write_text(MODULE, encoding="utf-8")
    assert bevstack(package, "build-ops").returncode == 0
    source.write_text("#error broken on purpose\n", encoding="utf-8")
    assert bevstack(package, "build-ops").returncode == 1
    assert "holds no kernels for cpu" in bevstack(package, "doctor").stdout


def test_package_that_cannot_be_written_sends_the_result_to_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert build_ops.choose_folder(tmp_path, cache) == tmp_path
    assert build_ops.choose_folder(tmp_path / "not there", cache) == cache


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [("CXX", "no-such-compiler", "apt-get install g++"), ("BEVSTACK_BUILD_OPS", "0", "unset")],
)
def test_an_impossible_build_ends_with_one_sentence_and_a_remedy(
    name: str,
    value: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["build-ops"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert value in line and remedy in line
