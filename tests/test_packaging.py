"""Builds and installs the project as a user would, from a copy of its sources, with no network."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
REBUILD = "pip install --no-build-isolation --no-deps --force-reinstall"

# An extension in miniature: one portable file, and one for each instruction set that refuses to be
# compiled with the flags of another.
MODULE = """
#include <Python.h>
extern "C" { int level_baseline(); LEVELS }
extern "C" PyObject* PyInit__C() {
  static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  PyObject* module = PyModule_Create(&definition);
  PyModule_AddIntConstant(module, "levels", level_baseline() SUM);
  return module;
}
"""
LEVEL = """
#if !(CONDITION)
#error "compiled with the flags of another instruction set"
#endif
extern "C" int level_NAME() { return VALUE; }
"""


def copy_sources(destination: Path, native: dict[str, str] | None = None) -> Path:
    """Copies what a build reads; `native` replaces the sources below ops/."""
    for name in ("bevstack", "configs", *(("ops",) if native is None else ())):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, destination / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, destination)
    for name, text in (native or {}).items():
        path = destination / "ops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return destination


def build_wheel(
    sources: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the build backend as pip does after its isolation is set up."""
    command = [sys.executable, "-c", BUILD, str(sources / "dist")]
    variables = {**os.environ, "MAX_JOBS": "1", **(environment or {})}
    variables.pop("PYTHONSTARTUP", None)
    return subprocess.run(command, cwd=sources, env=variables, capture_output=True, text=True)


def names_in_wheel(sources: Path) -> list[str]:
    (wheel,) = (sources / "dist").glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def compiled(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("bevstack/_C")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the project, kernels left out: other tests build those."""
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    done = build_wheel(sources, {"BEVSTACK_SKIP_NATIVE": "1"})
    assert done.returncode == 0, done.stderr
    (path,) = (sources / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel, and this one's packages below it."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    options = ["--no-index", "--no-deps", "--quiet", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    subprocess.run(pip, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return venv / "bin"


def run_installed(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    program, *arguments = command
    return subprocess.run(
        [str(installed / program), *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
    )


def test_wheel_holds_the_package_and_the_configurations_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "bevstack").rglob("*.py")}
    wanted |= {f"bevstack/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    assert wanted | {"bevstack/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"bevstack", "bevstack-0.1.0.dist-info"}


def test_installed_command_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, "bevstack", "--help")
    assert shown.returncode == 0 and "make-world" in shown.stdout, shown.stderr
    report = run_installed(installed, tmp_path, "bevstack", "doctor", "--json")
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout)["bevstack"] == "0.1.0"


def test_installed_package_is_the_wheel_s_own_and_finds_its_configurations(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "import bevstack, importlib.resources as r\n"
        "print(bevstack.__file__)\n"
        "print(*sorted(p.name for p in r.files('bevstack.configs').iterdir()))\n"
        "print(type(bevstack.load_config('tiny_cpu')).__name__)"
    )
    done = run_installed(installed, tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    file, configs, config = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert {p.name for p in (ROOT / "configs").glob("*.py")} <= set(configs.split())
    assert config == "Config"


@pytest.mark.slow
def test_demo_of_an_installed_wheel_runs_in_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    done = run_installed(installed, tmp_path, "bevstack", "demo", "--quick")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "out" / "demo").iterdir()}
    assert {"results_nusc.json", "metrics_summary.json", "learning_curve.png"} <= written


def test_build_that_cannot_see_torch_has_no_kernels_and_names_the_command(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": "#error must not be compiled"})
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "torch.py").write_text("raise ImportError('hidden')", encoding="utf-8")
    done = build_wheel(sources, {"PYTHONPATH": str(hiding)})
    assert done.returncode == 0, done.stderr
    assert not compiled(names_in_wheel(sources))
    assert "torch cannot be imported" in done.stderr
    assert f"{REBUILD} {sources}" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CXX", "no-such-compiler", "no C++ compiler is found (no-such-compiler)"),
        ("BEVSTACK_SKIP_NATIVE", "1", "BEVSTACK_SKIP_NATIVE=1 is set"),
    ],
)
def test_build_without_compiler_or_on_request_has_no_kernels_and_says_why(
    variable: str, value: str, reason: str, tmp_path: Path
) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": "#error must not be compiled"})
    done = build_wheel(sources, {variable: value})
    assert done.returncode == 0, done.stderr
    assert not compiled(names_in_wheel(sources))
    assert reason in done.stderr and REBUILD in done.stderr


needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler"
)


@needs_compiler
def test_source_that_does_not_compile_fails_the_build(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": "#error broken on purpose"})
    done = build_wheel(sources)
    assert done.returncode != 0
    assert "broken on purpose" in done.stdout + done.stderr


@needs_compiler
def test_each_instruction_set_is_compiled_with_its_own_flags(tmp_path: Path) -> None:
    levels = {"baseline": ("!defined(__AVX2__)", 1)}
    if platform.machine() == "x86_64":
        levels["avx2"] = ("defined(__AVX2__) && !defined(__AVX512F__)", 10)
        levels["avx512"] = ("defined(__AVX512F__) && defined(__AVX512BW__)", 100)
    else:  # a file of an instruction set this machine lacks must be left alone
        levels["avx2"] = ("0", 10)
    native = {
        f"thing/thing_{name}.cpp": LEVEL.replace("NAME", name)
        .replace("CONDITION", condition)
        .replace("VALUE", str(value))
        for name, (condition, value) in levels.items()
    }
    built = [name for name, (condition, _) in levels.items() if condition != "0"]
    others = [name for name in built if name != "baseline"]
    native["module.cpp"] = MODULE.replace(
        "LEVELS", " ".join(f"int level_{name}();" for name in others)
    ).replace("SUM", "".join(f" + level_{name}()" for name in others))
    sources = copy_sources(tmp_path / "sources", native)
    done = build_wheel(sources)
    assert done.returncode == 0, done.stdout + done.stderr
    (library,) = compiled(names_in_wheel(sources))
    (wheel,) = (sources / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extract(library, tmp_path)
    program = (
        "import importlib.util as u, torch, sys\n"
        "spec = u.spec_from_file_location('bevstack._C', sys.argv[1])\n"
        "print(u.module_from_spec(spec).levels)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / library)]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.stdout.strip() == str(sum(levels[name][1] for name in built)), shown.stderr
