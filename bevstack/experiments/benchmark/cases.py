"""Cases of the benchmark: one for each row of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OPERATOR, BACKBONE, DETECTOR, EXPORTED = "operator", "backbone", "detector", "exported"
KINDS = (OPERATOR, BACKBONE, DETECTOR, EXPORTED)
KERNEL, GRID_SAMPLE = "kernel", "grid_sample"  # formulations of an operator

# Image sides in pixels, as in the published table of frames a second.
BACKBONE_SIZES = {
    "internimage_t": 224,
    "internimage_s": 224,
    "internimage_b": 224,
    "internimage_l": 384,
    "internimage_xl": 384,
}
OPERATORS = (
    "dcnv3_t_stage1",
    "dcnv3_t_stage3",
    "dcnv3_xl_stage1",
    "dcnv3_xl_stage3",
    "spatial_cross_attention",
)
DETECTORS = ("tiny_cpu_t4", "bevformerv2_internimage_t_t1", "bevformerv2_internimage_xl_t1")


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """One thing to measure, in a process of its own."""

    kind: str  # one of KINDS
    name: str  # operator and size, backbone, configuration, or path of an exported file
    precision: str  # as in ``bevstack.runtime.precision``
    threads: int
    how: str = ""  # formulation of an operator, or backend of an exported file
    size: int = 0  # side of a backbone's image in pixels; 0: that of the configuration

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def title(self) -> str:
        """Return the text of the first column."""
        name = Path(self.name).name if self.kind == EXPORTED else self.name
        size = f" {self.size}" if self.size else ""
        how = f", {self.how}" if self.how else ""
        return f"{name}{size}{how}"


def standard_cases(
    *,
    quick: bool,
    precisions: Sequence[str],
    threads: Sequence[int],
    exported: Sequence[tuple[Path, str]] = (),
) -> list[BenchmarkCase]:
    """Return the cases of a run.

    Args:
        quick: leave out the large models: about a minute instead of a quarter of an hour.
        precisions: of backbones and detectors. Operators and exported files run in float32.
        threads: numbers of threads.
        exported: files of ``bevstack export --onnx``, each with a runtime.
    """
    operators = OPERATORS[:2] if quick else OPERATORS
    backbones = ("internimage_t",) if quick else tuple(BACKBONE_SIZES)
    detectors = DETECTORS[:1] if quick else DETECTORS
    cases = []
    for count in threads:
        for name in operators:
            for how in (KERNEL, GRID_SAMPLE):
                cases.append(_case(OPERATOR, name, "float32", count, how=how))
        for precision in precisions:
            for name in backbones:
                size = BACKBONE_SIZES[name]
                cases.append(_case(BACKBONE, name, precision, count, size=size))
            for name in detectors:
                cases.append(_case(DETECTOR, name, precision, count))
        for path, backend in exported:
            cases.append(_case(EXPORTED, str(path), "float32", count, how=backend))
    return cases


def _case(
    kind: str, name: str, precision: str, threads: int, *, how: str = "", size: int = 0
) -> BenchmarkCase:
    return BenchmarkCase(
        kind=kind, name=name, precision=precision, threads=threads, how=how, size=size
    )
