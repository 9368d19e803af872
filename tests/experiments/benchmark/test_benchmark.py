"""The benchmark of a machine: its subjects are right, and no finished row is lost."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bevstack.cli.main import main
from bevstack.experiments.benchmark import report as reports
from bevstack.experiments.benchmark.cases import (
    BACKBONE,
    BACKBONE_SIZES,
    DETECTOR,
    DETECTORS,
    EXPORTED,
    GRID_SAMPLE,
    KERNEL,
    OPERATOR,
    OPERATORS,
    BenchmarkCase,
    standard_cases,
)
from bevstack.experiments.benchmark.measure import measure
from bevstack.experiments.benchmark.report import (
    markdown_lines,
    part_lines,
    read_benchmark,
    run_cases,
    table_lines,
)
from bevstack.experiments.benchmark.subjects import Subject, make_subject

CPU = torch.device("cpu")
SMALL = BenchmarkCase(
    kind=OPERATOR, name="dcnv3_t_stage4", precision="float32", threads=1, how=KERNEL
)
TINY = BenchmarkCase(kind=DETECTOR, name="tiny_cpu_t4", precision="float32", threads=1)


@pytest.mark.parametrize("name", [*OPERATORS, "dcnv3_t_stage4"])
def test_both_formulations_of_an_operator_are_equal(name: str) -> None:
    found = [
        make_subject(replace(SMALL, name=name, how=how), CPU).run() for how in (KERNEL, GRID_SAMPLE)
    ]
    ours, baseline = (value for value in found if isinstance(value, Tensor))
    # GridSample scales coordinates to [-1, 1] and back: 1e-5 pixels at 200 pixels, and more at 400.
    torch.testing.assert_close(ours, baseline, rtol=1e-3, atol=1e-3)


def test_a_detector_runs_with_the_memory_of_a_drive() -> None:
    subject = make_subject(TINY, CPU)
    output = subject.run()
    assert output.resets.tolist() == [0]  # type: ignore[attr-defined]  # the history was used
    assert {"backbone", "encoder", "decoder"} <= set(subject.parts)


def test_a_bfloat16_backbone_computes_nearly_the_same() -> None:
    case = BenchmarkCase(
        kind=BACKBONE, name="internimage_t", precision="float32", threads=1, size=64
    )
    exact = make_subject(case, CPU).run()
    half = make_subject(replace(case, precision="bfloat16"), CPU).run()
    assert isinstance(exact, Tensor)
    assert isinstance(half, Tensor)
    assert not torch.equal(exact, half.float())
    assert float((exact - half.float()).abs().max() / exact.abs().max()) < 0.05  # 8 bits, 18 blocks


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "dcnv3_none"}, "operator must be dcnv3_SHAPE"),
        ({"kind": "other"}, "kind must be one that runs in torch"),
    ],
)
def test_unknown_cases_are_refused(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_subject(replace(SMALL, **change), CPU)  # type: ignore[arg-type]


class Sleeper(nn.Module):
    """A part that takes a known time."""

    def forward(self) -> None:
        time.sleep(0.02)


def test_first_runs_later_runs_and_parts_are_separate() -> None:
    part = Sleeper()
    calls = []

    def run() -> None:
        calls.append(0)
        time.sleep(0.2 if len(calls) == 1 else 0.01)
        part()
        part()

    figures = measure(lambda: Subject(run, {"sleeper": part}), CPU, seconds=0.0)
    assert figures.runs == 3
    assert len(calls) == 4
    assert figures.cold_ms >= 240  # 200 + 2 * 20
    assert 50 <= figures.warm_ms < figures.cold_ms
    assert 40 <= figures.parts_ms["sleeper"] <= figures.warm_ms - 10  # two runs of the part
    assert figures.processor_ms < figures.warm_ms  # sleep costs no processor time


def test_a_run_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speed.json"
    cases = [SMALL, replace(SMALL, how=GRID_SAMPLE)]
    seen: list[dict[str, object]] = []

    def stop(row: dict[str, object]) -> None:
        seen.append(row)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cases(cases, device=CPU, seconds=0.0, path=path, report=stop)
    first = read_benchmark(path)["rows"]
    assert len(first) == 1
    measured = []
    real = reports._measure
    monkeypatch.setattr(
        reports, "_measure", lambda case, *rest: measured.append(case) or real(case, *rest)
    )
    rows = run_cases(cases, device=CPU, seconds=0.0, path=path, report=lambda row: None)
    assert measured == [cases[1]]
    assert rows[0] == first[0]
    assert read_benchmark(path)["rows"] == rows
    assert rows[0]["figures"]["warm_ms"] > 0


def test_a_case_that_fails_has_a_row_with_the_reason(tmp_path: Path) -> None:
    case = replace(SMALL, name="dcnv3_none")
    path = tmp_path / "speed.json"
    rows = run_cases([case], device=CPU, seconds=0.0, path=path, report=lambda row: None)
    assert "operator must be dcnv3_SHAPE" in rows[0]["failure"]
    assert "failed: ValueError" in table_lines(rows)[1][3]
    assert markdown_lines(read_benchmark(path))


def test_figures_of_another_machine_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    run_cases([SMALL], device=CPU, seconds=0.0, path=path, report=lambda row: None)
    document = json.loads(path.read_text("utf-8"))
    document["machine"]["processor"] = "another"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="which differs in processor: choose another file"):
        run_cases([SMALL], device=CPU, seconds=0.0, path=path, report=lambda row: None)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="file must be one of `bevstack benchmark --json`"):
        run_cases([SMALL], device=CPU, seconds=0.0, path=path, report=lambda row: None)


def test_a_run_covers_what_it_promises() -> None:
    cases = standard_cases(
        quick=False,
        precisions=("float32", "bfloat16"),
        threads=(1, 2),
        exported=[(Path("m.onnx"), "onnxruntime")],
    )
    found = {(case.kind, case.name, case.precision, case.threads) for case in cases}
    for threads in (1, 2):
        for precision in ("float32", "bfloat16"):
            for name in BACKBONE_SIZES:
                assert (BACKBONE, name, precision, threads) in found
            for name in DETECTORS:
                assert (DETECTOR, name, precision, threads) in found
        assert (EXPORTED, "m.onnx", "float32", threads) in found


def test_parts_and_unmeasured_columns_are_shown() -> None:
    figures = {
        "cold_ms": 300.0,
        "warm_ms": 200.0,
        "processor_ms": 100.0,
        "runs": 3,
        "memory_mb": 12.0,
        "parts_ms": {"backbone": 50.0, "encoder": 100.0, "neck": 0.0},
    }
    backbone = BenchmarkCase(
        kind=BACKBONE, name="internimage_t", precision="float32", threads=1, size=224
    )
    rows = [{"case": case.to_dict(), "figures": figures} for case in (TINY, backbone)]
    assert part_lines(rows) == [
        "tiny_cpu_t4, float32, threads 1: backbone 25 %, encoder 50 %, rest 25 %"
    ]
    machine = {"device": "cpu", "processor": "P", "cores": 2}
    lines = markdown_lines({"machine": machine, "load_average": 0.5, "rows": rows})
    assert "| internimage_t 224 | 10.00/s | unmeasured | unmeasured |" in lines
    assert "| tiny_cpu_t4 | float32 | 1 | 300 ms | 200 ms | 100 ms | 12 MB |" in lines


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--threads", "0"], "--threads must be 1 to"),
        (["--name", "resnet"], "--name must be one of bevformerv2_internimage_t_t1"),
        (["--precision", "int8"], "precision must be one of float32"),
        (["--model", "none.onnx"], "no model file none.onnx: check the path"),
        (["--only", "exported"], "--model must be given with --only exported; got none"),
        (["--only", "operator", "--name", "internimage_t"], "at least one row must be left"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_the_verb_prints_a_table_and_markdown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speed.json"
    words = ["benchmark", "--quick", "--name", "dcnv3_t_stage1", "--json", str(path)]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "dcnv3_t_stage1, kernel" in table
    assert "processor" in table
    assert main(["benchmark", "--markdown", str(path)]) == 0
    assert "| dcnv3_t_stage1, grid_sample | float32 | 1 |" in capsys.readouterr().out


def test_a_model_without_a_runtime_is_not_left_out_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bevstack.export.runtimes.find_spec", lambda name: None)
    (tmp_path / "m.onnx").touch()
    assert main(["benchmark", "--quick", "--model", str(tmp_path / "m.onnx")]) == 2
    assert "pip install 'bevstack[export]'" in capsys.readouterr().err


def test_a_file_with_our_own_operators_is_measured_in_openvino_alone(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    from bevstack.cli.benchmark import _exported

    standard, own = tmp_path / "standard.onnx", tmp_path / "own.onnx"
    standard.write_bytes(b"bevstack.name")
    own.write_bytes(b"bevstack.name bevstack.custom_ops")
    pairs = _exported(argparse.Namespace(model=[standard, own]))
    assert pairs == [(standard, "onnxruntime"), (standard, "openvino"), (own, "openvino")]
