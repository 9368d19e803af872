"""Export of a detector to an ONNX file that is checked before it gets its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bevstack.config import Config
from bevstack.export.onnx.arrays import (
    camera_arrays,
    counts_from,
    memory_from,
)
from bevstack.export.onnx.check import (
    Case,
    CheckReport,
    Tolerances,
    case_arrays,
    check,
    reports_to_dict,
)
from bevstack.export.onnx.errors import FailedCheckError
from bevstack.export.onnx.graph import (
    MEMORY,
    STREAM_INPUTS,
    DetectorGraph,
    MemoryLayout,
    memory_tensors,
)
from bevstack.export.onnx.graph_info import GraphInfo
from bevstack.export.onnx.write import write_onnx
from bevstack.export.runtimes import Session, TorchSession, checking_backends, open_session
from bevstack.files import write_text_atomically
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.layers.sizes import NO_BOUNDS, Bounds
from bevstack.types import Batch, BEVMemory

# Bounds are at least this, for frames unlike those of the export. A candidate costs as many
# comparisons as there are candidates; a round costs a pass over these.
LEAST = Bounds(pairs=0, candidates=256, rounds=16, mirrored=0)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Choices of an export."""

    stream: bool = False  # a step of streams; False: single frames
    cameras: int = 6  # N
    batch: int = 1  # B
    custom_ops: bool = False  # deformable operators as nodes of our own domain
    whole_attention: bool = True  # among these, deformable attention as one node; not for TensorRT


def export_detector(
    path: Path,
    model: BEVFormerV2,
    config: Config,
    *,
    weights: str,  # digest of weights and configuration
    cases: Sequence[Case],
    options: ExportOptions,
) -> list[CheckReport]:
    """Write an ONNX file, compare it with the model on all cases, and write FILE.check.json.

    Every installed backend runs the file. The bounds of the file are those of the cases and some
    more. A file that differs in one backend is removed.

    Returns:
        A report for each backend.

    Raises:
        FailedCheckError: an output differs; names what, and the report.
        ModuleNotFoundError: onnx, onnxscript or ONNX Runtime is not installed.
        OSError: a file cannot be written.
        ValueError: the model cannot be exported so, or a case does not fit.
    """
    check_exportable(config, options)
    info = GraphInfo(
        config=config,
        weights=weights,
        bounds=NO_BOUNDS,
        stream=options.stream,
        cameras=options.cameras,
        batch=options.batch,
        custom_ops=options.custom_ops,
    )
    exact = reference_session(model, info, cases[0].batch)
    info = replace(info, bounds=_bounds(exact, cases))
    example = case_arrays(cases[0].batch, None, exact)
    graph = DetectorGraph(model, config, bounds=info.bounds, layout=exact.graph.layout)
    unchecked = path.with_name(path.name + ".unchecked")
    try:
        write_onnx(
            unchecked,
            graph,
            {name: example[name] for name in graph.input_names},
            output_names=graph.output_names,
            metadata=info.to_metadata(),
            custom_ops=options.custom_ops,
            whole_attention=options.whole_attention,
        )
        backends = checking_backends(
            custom_ops=options.custom_ops, whole_attention=options.whole_attention
        )
        sessions = [open_session(unchecked, backend) for backend in backends]
        reports = verify(sessions, exact, cases, path)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return reports


def verify(
    sessions: Sequence[Session],
    reference: Session,
    cases: Sequence[Case],
    path: Path,
    tolerances: Tolerances | None = None,
) -> list[CheckReport]:
    """Compare a file, loaded in each backend, with the model and write ``path``.check.json.

    Raises:
        FailedCheckError: an output differs.
        OSError: the report cannot be written.
        ValueError: a case does not fit.
    """
    reports = [check(session, reference, cases, tolerances) for session in sessions]
    written = path.with_name(path.name + ".check.json")
    write_text_atomically(written, json.dumps(reports_to_dict(reports), indent=1) + "\n")
    for report in reports:
        if not report.passed:
            faults = report.faults
            raise FailedCheckError(
                f"an exported model must equal ours; got {len(faults)} differences of "
                f"{report.backend}, the first in {faults[0]}: see {written}, and do not use the "
                "file"
            )
    return reports


def reference_session(model: BEVFormerV2, info: GraphInfo, batch: Batch) -> TorchSession:
    """Return the model in torch with exact sizes, and inputs and outputs like the file's.

    Args:
        model: the model, in evaluation mode.
        info: facts about the file.
        batch: one frame a sample, which tells the sizes of a memory.
    """
    arrays = camera_arrays(batch, info)
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    layout = None
    if info.stream:
        memory = _first_memory(model, info, batch)
        layout = MemoryLayout(len(memory.features), memory.rig is not None)
        sizes = zip(layout.names, memory_tensors(memory), strict=True)
        memory_shapes = {MEMORY + name: tuple(tensor.shape) for name, tensor in sizes}
        samples = info.batch
        shapes |= dict(zip(STREAM_INPUTS, ((samples, 4, 4), (samples,), (samples,)), strict=True))
        shapes |= memory_shapes
    return TorchSession(
        DetectorGraph(model, info.config, bounds=None, layout=layout), info, shapes=shapes
    )


def check_exportable(config: Config, options: ExportOptions) -> None:
    """Check that a model can be exported with these options.

    Raises:
        ValueError: it cannot.
    """
    if options.stream and config.frames[-1] > 0:
        raise ValueError(
            f"frames must not look ahead with --stream; got {config.frames}: leave out --stream"
        )
    if options.stream and config.temporal is None:
        raise ValueError(
            f"--stream must be given for a model of several frames; got frames {config.frames}: "
            "leave it out"
        )
    for name in ("cameras", "batch"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1; got {getattr(options, name)}")


def _first_memory(model: BEVFormerV2, info: GraphInfo, batch: Batch) -> BEVMemory:
    graph = DetectorGraph(model, info.config, bounds=None)
    arrays = camera_arrays(batch, info)
    with torch.inference_mode():
        memory = graph.memory_after(*(torch.from_numpy(array) for array in arrays.values()))
    return memory


def _bounds(exact: Session, cases: Sequence[Case]) -> Bounds:
    """Return bounds with room for the cases."""
    bounds, memory = NO_BOUNDS, None
    for case in cases:
        memory = None if case.restart else memory
        outputs = exact.run(case_arrays(case.batch, memory, exact))
        if exact.info.stream:
            memory = memory_from(outputs, exact.shapes, exact.info)
        bounds = bounds.widened(counts_from(outputs))
    return Bounds(
        pairs=bounds.pairs,
        candidates=max(bounds.candidates, LEAST.candidates) if bounds.candidates else 0,
        rounds=max(bounds.rounds, LEAST.rounds) if bounds.rounds else 0,
        mirrored=0,
    )
