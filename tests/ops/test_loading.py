"""Loading of the compiled kernels, and the reports if they do not fit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bevstack.ops import loading

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
COMPILER = shutil.which("c++")

# Calls an operator three times and prints the warnings and the kernels in use.
PROGRAM = """
import json, sys, warnings
import torch
from bevstack import ops
value = torch.ones(1, 2, 3, 4)
def call():
    return ops.dcnv3(value, torch.zeros(1, 2, 3, 2), torch.ones(1, 2, 3, 1), kernel_size=(1, 1),
                     stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert torch.equal(call(), value) and torch.equal(call(), value) and torch.equal(call(), value)
state = ops.native_state()
print(json.dumps({
    "warnings": [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)],
    "problem": state.problem,
    "folder": str(state.folder),
    "kernels": sorted({(k.kernel, k.reason) for k in ops.kernels()}),
    "cache": str(ops.loading.cache_folder()),
    "loaded": getattr(sys.modules.get("bevstack._C"), "__file__", None),
}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the library without an extension, into which a test puts one."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", loading._RECORD_NAME)
    for name in ("ops", "__init__.py", "shapes.py", "files.py"):
        source, target = ROOT / "bevstack" / name, tmp_path / "library" / "bevstack" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(
            source, target
        )
    shutil.copytree(ROOT / "ops", target.parent / "_ops_sources", ignore=ignored)
    return target.parent


def run_process(package: Path, cache: Path | None = None) -> dict[str, object]:
    """Return the report of a new process that imports this package."""
    variables = {**os.environ, "PYTHONPATH": str(package.parent), "TORCH_HOME": str(cache or ".")}
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, cwd=package.parent, env=variables, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def write_record(folder: Path, **fields: object) -> None:
    """Write the record of a build for this torch, with some fields replaced."""
    empty = {"problem": "", "cuda_problem": "", "log": [], "python": "", "sources": ""}
    record = {"outcome": "built", "torch": torch.__version__, **empty, **fields}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / loading._RECORD_NAME).write_text(json.dumps(record), encoding="utf-8")


def compile_module(folder: Path, body: str) -> None:
    """Compile a minimal extension that registers no kernel."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "module.cpp").write_text(f"#include <Python.h>\n{body}", encoding="utf-8")
    include = f"-I{sysconfig.get_path('include')}"
    command = [str(COMPILER), "-shared", "-fPIC", include, str(folder / "module.cpp")]
    subprocess.run([*command, "-o", str(folder / EXTENSION)], check=True)


EMPTY_MODULE = """
extern "C" PyObject* PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1};
  return PyModule_Create(&module);
}
"""
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def expect_reference_and_one_warning(report: dict[str, object], problem: str) -> None:
    assert problem in str(report["problem"])
    assert report["loaded"] is None
    assert report["kernels"] == [["reference", report["problem"]]]
    (warning,) = report["warnings"]
    assert problem in warning and "`bevstack build-ops`" in warning and "reference" in warning


def test_extension_of_another_torch_is_reported_once_and_not_opened(package: Path) -> None:
    # If it were opened, the report would name an invalid shared object.
    (package / EXTENSION).write_text("not an extension", encoding="utf-8")
    write_record(package, torch="1.2.3+other")
    expect_reference_and_one_warning(
        run_process(package),
        "bevstack._C was built for torch 1.2.3+other and does not fit the installed torch "
        f"{torch.__version__}",
    )


@needs_compiler
def test_extension_with_a_symbol_that_torch_lacks_is_reported_once(package: Path) -> None:
    missing = 'extern "C" void missing_from_torch();\n'
    body = EMPTY_MODULE.replace("return", "missing_from_torch();\n  return")
    compile_module(package, missing + body)
    for name, fields in (("no record", None), ("a record that fits", {})):
        if fields is not None:
            write_record(package, **fields)
        report = run_process(package)
        assert "undefined symbol: missing_from_torch" in str(report["problem"]), name
        expect_reference_and_one_warning(report, "bevstack._C does not load with torch")


def test_file_that_is_no_extension_is_reported_once(package: Path) -> None:
    (package / EXTENSION).write_bytes(b"\x7fELF cut off")
    expect_reference_and_one_warning(run_process(package), "bevstack._C does not load with torch")


def test_extension_of_another_python_is_distinguished_from_none(package: Path) -> None:
    expect_reference_and_one_warning(run_process(package), "bevstack._C has not been built")
    (package / "_C.cpython-399-x86_64-linux-gnu.so").touch()
    expect_reference_and_one_warning(run_process(package), "was built for another Python")


def test_extension_left_behind_by_an_older_installation_is_not_loaded(package: Path) -> None:
    (package / EXTENSION).write_text("not an extension", encoding="utf-8")
    write_record(package, outcome="skipped", problem="no C++ compiler is found (c++)", torch="")
    expect_reference_and_one_warning(
        run_process(package), "has not been built: no C++ compiler is found"
    )


@pytest.mark.parametrize(
    "text", ["", "[]", '{"outcome": "built"}', "{", "3", "[" * 100_000, '{"log": 3}', '{"log": []}']
)
def test_record_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    assert loading.read_record(tmp_path) is None
    (tmp_path / loading._RECORD_NAME).write_text(text, encoding="utf-8")
    assert loading.read_record(tmp_path) is None


@needs_compiler
def test_extension_in_the_cache_is_used_if_the_package_has_none_that_fits(
    package: Path, tmp_path: Path
) -> None:
    first = run_process(package, tmp_path / "torch")
    cache = Path(str(first["cache"]))
    assert cache.is_relative_to(tmp_path / "torch") and torch.__version__ in cache.name
    compile_module(cache, EMPTY_MODULE)
    write_record(cache)
    loading.seal_build(cache)
    (package / EXTENSION).write_text("not an extension", encoding="utf-8")
    write_record(package, torch="1.2.3")
    report = run_process(package, tmp_path / "torch")
    assert report["problem"] is None
    assert (report["folder"], report["loaded"]) == (str(cache), str(cache / EXTENSION))
    # Other sources have another cache folder, because their kernels may have other schemas.
    with (package / "_ops_sources" / "module.cpp").open("a", encoding="utf-8") as file:
        file.write("// changed\n")
    changed = run_process(package, tmp_path / "torch")
    assert changed["cache"] != str(cache)
    expect_reference_and_one_warning(changed, "was built for torch 1.2.3")


def give_away(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        os.chown(path, 12345, 12345)


def chmod(name: str, mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(mode)


def change_last_byte(folder: Path) -> None:
    content = bytearray((folder / EXTENSION).read_bytes())
    content[-1] ^= 1
    (folder / EXTENSION).write_bytes(content)


def remove_digest(folder: Path) -> None:
    write_record(folder)
    (folder / loading._RECORD_NAME).chmod(0o644)


DISTRUST = {
    "folder of all users": (chmod("", 0o777), "can be written by one"),
    "folder of a group": (chmod("", 0o775), "can be written by one"),
    "file of all users": (chmod(EXTENSION, 0o666), "can be written by one"),
    "record of all users": (chmod(loading._RECORD_NAME, 0o666), "can be written by one"),
    "another owner": (give_away, "belongs to another user"),
    "no record": (lambda folder: (folder / loading._RECORD_NAME).unlink(), "record .* is missing"),
    "no digest": (remove_digest, "has no digest"),
    "changed": (change_last_byte, "differs from the digest"),
    "cut": (lambda folder: os.truncate(folder / EXTENSION, 900), "differs from the digest"),
}


@pytest.fixture
def sealed_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder with a file and its record, which the loader would open."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / EXTENSION).write_bytes(b"an extension" * 100)
    write_record(folder)
    loading.seal_build(folder)
    monkeypatch.setattr(loading, "package_folder", lambda: tmp_path / "package")
    monkeypatch.setattr(loading, "cache_folder", lambda: folder)
    return folder


@pytest.mark.parametrize("name", DISTRUST)
def test_an_extension_that_another_user_may_have_changed_is_not_opened(
    name: str, sealed_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(loading, "_import_extension", lambda file: opened.append(file))
    assert loading._find_extension().problem is None and opened == [sealed_cache / EXTENSION]
    change, problem = DISTRUST[name]
    if change is give_away and os.getuid() != 0:
        pytest.skip("only root can give files away")
    change(sealed_cache)
    state = loading._find_extension()
    assert re.search(problem, str(state.problem)) and state.folder is None
    assert "\n" not in str(state.problem) and len(opened) == 1


def test_a_damaged_extension_of_the_package_is_not_opened(package: Path) -> None:
    (package / EXTENSION).write_bytes(b"an extension" * 100)
    write_record(package)
    loading.seal_build(package)
    os.truncate(package / EXTENSION, 900)
    expect_reference_and_one_warning(run_process(package), "differs from the digest in its record")


@pytest.mark.parametrize("error", [ValueError, TypeError, SystemError, KeyError, AttributeError])
def test_any_error_of_an_extension_leaves_the_references(
    error: type[Exception], sealed_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error("broken")

    monkeypatch.setattr(loading.importlib.util, "spec_from_file_location", fail)
    assert "does not load with torch" in str(loading._find_extension().problem)


def test_the_build_of_this_installation_did_not_fail() -> None:
    # After a failed build the kernels' tests would pass on the references.
    record = loading.read_record(loading.package_folder())
    assert record is None or record.outcome != "failed", "\n".join(record.log)
