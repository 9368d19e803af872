"""The pages' figures of speed are those of the benchmark's file."""

from __future__ import annotations

import json
import re

from bevstack.experiments.benchmark.report import markdown_lines, read_benchmark
from tests.sources import ROOT

RESULT = ROOT / "benchmarks" / "results" / "benchmark_cpu.json"
RELEASED = ROOT / "benchmarks" / "results" / "official_cpu.json"
PEER = ROOT / "benchmarks" / "results" / "detection2d_cpu.json"
BEGIN, END = "<!-- bevstack benchmark -->\n", "<!-- end -->\n"
FLAGSHIP = "bevformerv2_internimage_xl_t1"


def processor_s(name: str, precision: str) -> float:
    for row in read_benchmark(RESULT)["rows"]:
        case = row["case"]
        if (case["name"], case["precision"], case["threads"]) == (name, precision, 1):
            return float(row["figures"]["processor_ms"]) / 1e3
    raise AssertionError(f"{name} in {precision} must be in {RESULT}")


def test_the_page_of_performance_holds_the_table_of_the_file() -> None:
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    section = text.partition(BEGIN)[2].partition(END)[0]
    assert section.splitlines() == markdown_lines(read_benchmark(RESULT))


def test_the_page_of_performance_holds_the_rows_beside_the_released_model() -> None:
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    for row in json.loads(RELEASED.read_text("utf-8"))["rows"]:
        later, times = row["later_ms"], row["speedup"]
        cells = [row["case"], f"{later['released']:,.0f} ms"]
        for precision in ("float32", "bfloat16"):
            cells += [f"{later[precision]:,.0f} ms", f"{times[precision]:.2f}"]
        assert f"| {' | '.join(cells)} |" in text


def mask_rcnn_row() -> str:
    own = json.loads(PEER.read_text("utf-8"))
    seconds, peaks = own["seconds"], own["peak_bytes"]
    cells = [" x ".join(map(str, own["size"]))]
    cells += [f"{seconds[side]:.2f} s" for side in ("mmdetection", "ours")]
    cells += [f"{own['speedup']:.2f}"]
    cells += [f"{peaks[side] / 1e9:.2f} GB" for side in ("mmdetection", "ours")]
    return f"| {' | '.join(cells)} |"


def test_the_page_of_performance_holds_the_row_beside_mmdetection() -> None:
    assert mask_rcnn_row() in (ROOT / "docs" / "performance.md").read_text("utf-8")


def test_the_readme_holds_the_flagships_processor_time() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"\| flagship .*? \| (\d+) s of processor time, (\d+) s in bfloat16", text)
    assert found is not None
    wanted = [round(processor_s(FLAGSHIP, precision)) for precision in ("float32", "bfloat16")]
    assert [int(number) for number in found.groups()] == wanted
