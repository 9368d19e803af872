from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import re
from pathlib import Path

import pytest

from bevstack import ops
from bevstack.cli import diagnosis
from bevstack.cli.main import main
from bevstack.costs.backbone import count_model
from bevstack.ops import library, loading


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hide the distributions whose names a test appends to the returned list."""
    hidden: list[str] = []
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return hidden


def test_every_dependency_is_imported_by_the_name_it_has() -> None:
    """Check that no installed package counts as missing because its module has another name."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    listed = project.read_text(encoding="utf-8").split("\ndependencies = [")[1].split("\n]")[0]
    names = re.findall(r'^ +"([\w-]+)', listed, re.MULTILINE)
    assert {"torch", "pillow", "opencv-python-headless"} <= set(names)
    for name in names:
        importlib.import_module(diagnosis.MODULES.get(name, name))


def test_report_names_versions_kernels_threads_and_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("torch", "numpy", "opencv-python-headless", "numba", "nuscenes-devkit"):
        assert f"  {name} " in text
    assert platform.python_version() in text
    for name in ("dcnv3", "ms_deform_attn", "threads", "GPU", "compiler"):
        assert name in text


def test_a_sourced_ros_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(
        re.match(r"  rclpy +(not installed|[0-9.]+) +installation of ROS 2", r) for r in rows
    )
    metadata = tmp_path / "rclpy-3.3.11-py3.10.egg-info"  # as ROS 2's packages bring it
    metadata.mkdir()
    (metadata / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: rclpy\nVersion: 3.3.11\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(re.match(r"  rclpy +3\.3\.11 +installation of ROS 2", row) for row in rows)


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    versions = {package["name"]: package["version"] for package in report["required"]}
    assert versions["torch"] == importlib.metadata.version("torch")
    served = {(row["operator"], row["device"]): row["kernel"] for row in report["kernels"]}
    assert ("dcnv3", "cpu") in served and ("ms_deform_attn", "cpu") in served


def test_missing_requirement_is_fatal_and_comes_with_its_remedy(
    hide: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hide.append("einops")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "MISSING: einops is not installed" in text
    assert "fix with: pip install --upgrade einops" in text


def test_missing_devkit_is_noted_and_names_the_extra(hide: list[str]) -> None:
    hide.append("nuscenes-devkit")
    report = diagnosis.diagnose()
    assert not report.broken
    (finding,) = (f for f in report.findings if "nuscenes-devkit" in f.problem)
    assert "bevstack[nuscenes]" in finding.remedy


def test_release_that_is_too_old_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy>=99.1", "einops>=0.8"])
    problems = [p.problem for p in diagnosis.diagnose().required]
    version = importlib.metadata.version("numpy")
    assert problems == [f"must be 99.1 or newer; got {version}", None]


@pytest.fixture
def failed_build(monkeypatch: pytest.MonkeyPatch) -> str:
    """Simulate an installation whose kernels did not compile; return the reported problem."""
    problem = "bevstack._C has not been built: the compiler reports an error"
    log = ("a.cpp:1:2: error: no such thing", "    1 | this thing")
    record = loading.BuildRecord("failed", problem, "", log, "2.13.0", "cpython-311", "")
    state = loading.NativeState(problem, None, record)
    for module in (ops, library):
        monkeypatch.setattr(module, "native_state", lambda: state)
        monkeypatch.setattr(module, "native_problem", lambda: problem)
    monkeypatch.setattr(library, "has_native_kernel", lambda operator, device: False)
    return problem


def test_failed_build_shows_the_reason_for_each_operator_and_the_compilers_output(
    failed_build: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for operator in library.OPERATORS:
        assert f"  {operator:24}cpu     reference: {failed_build}\n" in text
    assert "    a.cpp:1:2: error: no such thing\n        1 | this thing\n" in text
    assert "  fix with: bevstack build-ops\n" in text


def test_the_remedy_installs_a_missing_compiler_first(
    failed_build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (finding,) = (f for f in diagnosis.diagnose().findings if "reference" in f.problem)
    assert finding.remedy.startswith("apt-get install g++")
    assert finding.remedy.endswith("then bevstack build-ops")


@pytest.mark.parametrize("compiled", [False, True])
def test_kernels_for_gpus_are_reported_on_a_machine_without_a_gpu(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(ops, "has_native_kernel", lambda operator, device: compiled)
    digest = ops.source_digest() or ""
    record = loading.BuildRecord("built", "", "no nvcc", (), "2.13.0", "cpython-311", digest)
    monkeypatch.setattr(ops, "native_state", lambda: loading.NativeState(None, None, record))
    assert main(["doctor"]) == 0
    state = "compiled\n" if compiled else "not compiled: no nvcc\n"
    assert f"  cuda: torch cannot use a GPU; kernels are {state}" in capsys.readouterr().out


def test_kernels_of_other_sources_than_the_installed_ones_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = loading.BuildRecord(
        "built", "", "", (), "2.13.0", "cpython-311", "digest of earlier sources"
    )
    state = loading.NativeState(None, loading.package_folder(), record)
    monkeypatch.setattr(ops, "native_state", lambda: state)
    monkeypatch.setattr(ops, "native_problem", lambda: None)
    (finding,) = (f for f in diagnosis.diagnose().findings if "other sources" in f.problem)
    assert finding.remedy == "bevstack build-ops" and not finding.fatal


# Published values (arXiv 2211.05778, table 2), with the digits of the released code's counter.
@pytest.mark.parametrize(
    ("name", "parameters", "backbone_parameters", "conv_and_linear", "total"),
    [
        ("internimage_t", 29_918_424, 28_769_520, 4.786, 4.885),
        ("internimage_xl", 334_819_780, 328_971_228, 161.805, 162.930),
    ],
)
def test_model_counts_equal_the_published_ones(
    name: str, parameters: int, backbone_parameters: int, conv_and_linear: float, total: float
) -> None:
    counts = count_model(name, None)
    assert counts.classifier.parameters == parameters
    assert counts.backbone.parameters == backbone_parameters
    # The tolerance is half of the last digit.
    assert abs(counts.classifier.conv_and_linear_macs / 1e9 - conv_and_linear) <= 0.0005
    assert abs(counts.classifier.total_macs / 1e9 - total) <= 0.0005


def test_model_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "internimage_xl"]) == 0
    text = capsys.readouterr().out
    assert "334,819,780" in text and "161.805 GMAC" in text and "162.930 GMAC" in text


def test_model_counts_follow_the_image_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "internimage_t", "--size", "64", "96", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_size"] == [64, 96]


@pytest.mark.parametrize(
    "argv", [["--model", "xl"], ["--model", "internimage_t", "--size", "0", "8"]]
)
def test_unknown_model_or_size_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *argv]) == 2
    assert "must be" in capsys.readouterr().err
