"""Builds and installations of the project from a copy of its sources, without network access."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
SOURCE_DISTRIBUTION = BUILD.replace("build_wheel", "build_sdist")
COMMAND = "bevstack build-ops"
RECORD = "bevstack/_C.json"

# A minimal extension: one portable file, and one file for each instruction set. The latter fail to
# compile with the flags of another instruction set.
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
    """Copy the files that a build reads; `native` replaces the sources below ops/."""
    for name in ("bevstack", "configs", "weights", *(("ops",) if native is None else ())):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, destination / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, destination)
    for name, text in (native or {}).items():
        path = destination / "ops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if native is not None:
        for name in ("__init__.py", "build.py"):
            shutil.copy(ROOT / "ops" / name, destination / "ops")
    return destination


def build_wheel(
    sources: Path, environment: dict[str, str] | None = None, program: str = BUILD
) -> subprocess.CompletedProcess[str]:
    """Run the build backend as pip does after it has set up build isolation."""
    command = [sys.executable, "-c", program, str(sources / "dist")]
    return run(command, sources, environment)


def run(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without the environment variables that affect builds."""
    removed = ("BEVSTACK_BUILD_OPS", "FORCE_CUDA", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    variables = {**kept, "MAX_JOBS": "1", **(environment or {})}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def names_in_wheel(sources: Path) -> list[str]:
    (wheel,) = (sources / "dist").glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def compiled(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("bevstack/_C") and name != RECORD]


def record_in_wheel(sources: Path) -> dict[str, object]:
    (wheel,) = (sources / "dist").glob("*.whl")
    return json.loads(zipfile.ZipFile(wheel).read(RECORD))


def native_files() -> set[str]:
    kinds = {".h", ".cuh", ".cpp", ".cu", ".py"}
    files = (p for p in (ROOT / "ops").rglob("*") if p.suffix in kinds)
    return {p.relative_to(ROOT / "ops").as_posix() for p in files}


def shipped_files() -> list[Path]:
    return [p for p in (ROOT / "weights").iterdir() if p.suffix in {".py", ".safetensors"}]


needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of the project without kernels, which other tests compile."""
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    done = build_wheel(sources, {"BEVSTACK_BUILD_OPS": "0"})
    assert done.returncode == 0, done.stderr
    (path,) = (sources / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a new environment with the wheel and the present packages."""
    return install(wheel, tmp_path_factory.mktemp("environment"))


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment that also finds the packages of the present one."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    options = ["--no-index", "--no-deps", "--quiet", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    subprocess.run(pip, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return venv / "bin"


def run_installed(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return run([str(installed / program), *arguments], folder)


def test_wheel_holds_package_configurations_and_native_sources_and_nothing_else(
    wheel: Path,
) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")  # nothing is compiled in it
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "bevstack").rglob("*.py")}
    wanted |= {f"bevstack/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    wanted |= {f"bevstack/weights/{p.name}" for p in shipped_files()}
    wanted |= {f"bevstack/_ops_sources/{name}" for name in native_files()}
    assert len(native_files()) > 30
    assert wanted | {"bevstack/py.typed", RECORD} <= set(names)
    assert {name.split("/")[0] for name in names} == {"bevstack", "bevstack-0.1.0.dist-info"}


def test_installed_command_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, "bevstack", "--help")
    assert shown.returncode == 0 and "make-world" in shown.stdout, shown.stderr
    report = run_installed(installed, tmp_path, "bevstack", "doctor", "--json")
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout)["bevstack"] == "0.1.0"


def test_installed_package_comes_from_the_wheel_and_finds_its_configurations(
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
def test_training_demo_of_an_installed_wheel_runs_in_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    done = run_installed(installed, tmp_path, "bevstack", "train-demo", "--quick")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "out" / "train_demo").iterdir()}
    assert {"results_nusc.json", "metrics_summary.json", "learning_curve.png"} <= written


def test_installed_package_finds_the_packaged_weights(installed: Path, tmp_path: Path) -> None:
    program = "from bevstack.runtime.shipped import packaged_weights as p; print(*p())"
    done = run_installed(installed, tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(p.stem for p in shipped_files() if p.suffix != ".py")


@pytest.mark.slow
@needs_compiler
def test_build_ops_compiles_the_kernels_of_a_wheel_and_pip_uninstalls_every_file(
    wheel: Path, tmp_path: Path
) -> None:
    installed = install(wheel, tmp_path)
    (package,) = installed.parent.glob("lib/python*/site-packages/bevstack")
    done = run_installed(installed, tmp_path, "bevstack", "build-ops")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"cpu     native (avx512|avx2|baseline)\n", done.stdout)) == 4
    assert [f for f in package.glob("_C.*") if f.suffix != ".json"]
    pip = [sys.executable, "-m", "pip", "--python", str(installed / "python"), "uninstall"]
    removed = run([*pip, "--yes", "bevstack"], tmp_path)
    assert removed.returncode == 0, removed.stderr
    remaining = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert remaining == []


def test_sdist_holds_the_native_sources(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    done = build_wheel(sources, program=SOURCE_DISTRIBUTION)
    assert done.returncode == 0, done.stderr
    (archive,) = (sources / "dist").glob("*.tar.gz")
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as content:
        names = set(content.getnames())
    assert {f"{top}/ops/{name}" for name in native_files()} <= names
    assert {f"{top}/setup.py", f"{top}/configs/tiny_cpu.py"} <= names
    assert {f"{top}/weights/{p.name}" for p in shipped_files()} <= names


def test_build_that_cannot_import_torch_has_no_kernels_and_names_the_command(
    tmp_path: Path,
) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": "#error must not be compiled"})
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "torch.py").write_text("raise ImportError('hidden')", encoding="utf-8")
    done = build_wheel(sources, {"PYTHONPATH": str(hiding)})
    assert done.returncode == 0, done.stderr
    assert not compiled(names_in_wheel(sources))
    assert "torch cannot be imported" in done.stderr and COMMAND in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CXX", "no-such-compiler", "no C++ compiler is found (no-such-compiler)"),
        ("BEVSTACK_BUILD_OPS", "0", "BEVSTACK_BUILD_OPS=0 is set"),
    ],
)
def test_build_without_compiler_or_with_kernels_disabled_gives_the_reason(
    variable: str, value: str, reason: str, tmp_path: Path
) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": "#error must not be compiled"})
    done = build_wheel(sources, {variable: value})
    assert done.returncode == 0, done.stderr
    assert not compiled(names_in_wheel(sources))
    assert reason in done.stderr and COMMAND in done.stderr
    record = record_in_wheel(sources)
    assert (record["outcome"], record["problem"]) == ("skipped", reason)


def test_build_that_requires_kernels_fails_without_a_compiler(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources", {"module.cpp": ""})
    done = build_wheel(sources, {"CXX": "no-such-compiler", "BEVSTACK_BUILD_OPS": "require"})
    assert done.returncode != 0
    assert "no C++ compiler is found" in done.stderr and "require" in done.stderr


@needs_compiler
def test_source_that_does_not_compile_leaves_a_wheel_with_the_reason(tmp_path: Path) -> None:
    native = {"module.cpp": "#error broken on purpose", "thing/thing_baseline.cpp": ""}
    sources = copy_sources(tmp_path / "sources", native)
    done = build_wheel(sources)
    assert done.returncode == 0, done.stderr
    assert not compiled(names_in_wheel(sources))
    assert "broken on purpose" in done.stderr and COMMAND in done.stderr
    assert "thing run on their Python reference" in done.stderr
    record = record_in_wheel(sources)
    assert record["outcome"] == "failed" and "broken on purpose" in str(record["log"])
    required = build_wheel(sources, {"BEVSTACK_BUILD_OPS": "require"})
    assert required.returncode != 0
    assert "broken on purpose" in required.stderr and "require" in required.stderr


@needs_compiler
def test_failed_build_in_place_keeps_its_record_and_removes_the_old_extension(
    tmp_path: Path,
) -> None:
    module = MODULE.replace("LEVELS", "").replace("int level_baseline();", "").replace("SUM", "")
    module = module.replace("level_baseline()", "1")
    sources = copy_sources(tmp_path / "sources", {"module.cpp": module})
    package = sources / "bevstack"
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    assert run(build, sources).returncode == 0
    assert json.loads((sources / RECORD).read_text())["outcome"] == "built"
    (extension,) = (f for f in package.glob("_C.*") if f.suffix != ".json")
    (sources / "ops" / "module.cpp").write_text("#error broken on purpose", encoding="utf-8")
    failed = run(build, sources)
    assert failed.returncode == 0 and "broken on purpose" in failed.stderr
    assert not extension.exists()
    assert json.loads((sources / RECORD).read_text())["outcome"] == "failed"


@needs_compiler
def test_each_instruction_set_is_compiled_with_its_own_flags(tmp_path: Path) -> None:
    levels = {"baseline": ("!defined(__AVX2__)", 1)}
    if platform.machine() == "x86_64":
        levels["avx2"] = ("defined(__AVX2__) && !defined(__AVX512F__)", 10)
        levels["avx512"] = ("defined(__AVX512F__) && defined(__AVX512BW__)", 100)
    else:  # a file of an instruction set that this machine lacks must not be compiled
        levels["avx2"] = ("0", 10)
    native = {
        f"thing/thing_{name}.cpp": LEVEL.replace("NAME", name)
        .replace("CONDITION", condition)
        .replace("VALUE", str(value))
        for name, (condition, value) in levels.items()
    }
    built = [name for name, (condition, _) in levels.items() if condition != "0"]
    optional = [name for name in built if name != "baseline"]
    native["module.cpp"] = MODULE.replace(
        "LEVELS", " ".join(f"int level_{name}();" for name in optional)
    ).replace("SUM", "".join(f" + level_{name}()" for name in optional))
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
