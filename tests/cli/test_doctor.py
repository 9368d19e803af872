from __future__ import annotations

import importlib.metadata
import json
import platform

import pytest

from bevstack.cli import diagnosis
from bevstack.cli.main import main
from bevstack.cli.model_counts import count_model


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Distributions to hide: the test appends their names."""
    hidden: list[str] = []
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return hidden


def test_report_names_versions_kernels_threads_and_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("torch", "numpy", "opencv-python-headless", "numba", "nuscenes-devkit"):
        assert f"  {name} " in text
    assert platform.python_version() in text
    for name in ("dcnv3", "ms_deform_attn", "threads", "GPU", "compiler"):
        assert name in text


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
    assert "mend with: pip install --upgrade einops" in text


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


def test_operators_on_their_reference_come_with_the_build_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bevstack.ops.native_problem", lambda: "bevstack._C has not been built")
    (finding,) = (f for f in diagnosis.diagnose().findings if "reference" in f.problem)
    assert "pip install --no-build-isolation --no-deps --force-reinstall" in finding.remedy


def test_build_command_is_missing_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevstack.ops.native_problem", lambda: "bevstack._C has not been built")
    monkeypatch.setenv("CXX", "no-such-compiler")
    (finding,) = (f for f in diagnosis.diagnose().findings if "reference" in f.problem)
    assert finding.remedy.startswith("apt-get install g++")


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        ({"url": "file:///a%20b/c", "dir_info": {"editable": True}}, "-e '/a b/c'"),
        ({"url": "file:///a/c", "dir_info": {}}, "/a/c"),
        ({"url": "https://host/c.git", "vcs_info": {"vcs": "git"}}, "git+https://host/c.git"),
        (None, "bevstack"),
    ],
)
def test_build_command_names_where_the_project_came_from(
    direct_url: dict[str, object] | None, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return json.dumps(direct_url) if direct_url is not None else None

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    assert diagnosis.build_command().endswith(f" {source}")


# Published tables (arXiv 2211.05778, table 2, to the digit of the released code's own counter).
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
    # Half of the last digit the table gives.
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
