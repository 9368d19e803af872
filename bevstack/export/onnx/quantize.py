"""Exported detectors in INT8: weights and inputs of convolutions and linear maps in eight bits.

Post-training quantisation by ONNX Runtime, written as pairs of QuantizeLinear and DequantizeLinear
(QDQ): weights symmetric with a scale for each channel, inputs asymmetric with the range that
calibration frames show. Everything else, coordinates among it, stays float32 or float64.
"""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.export.onnx.arrays import Arrays, detections_from_arrays
from bevstack.export.onnx.layer_groups import QUANTISED, layers_by_group
from bevstack.export.runtimes import Session, open_session
from bevstack.files import write_atomically, write_text_atomically
from bevstack.types import Detections

QUANTISE_FORMAT = "bevstack-int8-1"
NEAR_M = 2.0  # boxes farther apart than this are not the same object


@dataclass(frozen=True, kw_only=True)
class QuantiseOptions:
    """Choices of a quantisation."""

    # A group that alone moves boxes by more than this share, as ``box_drift`` defines it, stays
    # float32. Chosen on synth_val: with tiny_cpu_t4 only the decoder's head exceeds it, by 0.01.
    most_drift_of_group: float = 0.13
    # A file that moves boxes by more than this share is refused: its calibration failed.
    most_drift: float = 0.5
    least_score: float = 0.1  # boxes with a lower score do not count


@dataclass(frozen=True)
class QuantiseReport:
    """Result of a quantisation."""

    backend: str
    calibration_frames: int
    checked_frames: int
    groups: dict[str, float]  # drift of each group alone
    kept: tuple[str, ...]  # groups that stay float32
    layers: int  # in eight bits
    drift: float  # of the whole file

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts."""
        return {"format": QUANTISE_FORMAT, **asdict(self)}


class FailedQuantisationError(ValueError):
    """Boxes of a quantised file that are not those of the float file."""


def quantise(
    source: Path,
    target: Path,
    *,
    calibration: Sequence[Arrays],
    checks: Sequence[Arrays],
    backend: str,
    options: QuantiseOptions | None = None,
) -> QuantiseReport:
    """Write an exported detector in INT8 and the report FILE.check.json.

    Each group of layers is quantised alone first; those that move boxes most stay float32.

    Args:
        source: file of ``export_detector``.
        target: file to write.
        calibration: inputs of frames whose ranges count; the memory of a stream among them.
        checks: inputs of other frames, on which boxes are compared.
        backend: runtime that compares.
        options: limits.

    Raises:
        FailedQuantisationError: the boxes differ too much; the file is not kept.
        ModuleNotFoundError: onnx or ONNX Runtime is not installed.
        OSError: a file cannot be written.
        ValueError: no frames, or the file has no layer that can be quantised.
    """
    limits = options or QuantiseOptions()
    if not calibration or not checks:
        raise ValueError(
            f"frames must be given to calibrate and to check; got {len(calibration)} and "
            f"{len(checks)}"
        )
    groups = layers_by_group(source)
    if not groups:
        raise ValueError(f"model must have convolutions or linear maps; got {source}")
    exact = open_session(source, backend)
    wanted = [exact.run(arrays) for arrays in checks]
    with tempfile.TemporaryDirectory() as folder:
        trial, ranges = Path(folder) / "trial.onnx", Path(folder) / "ranges.json"
        drifts = {}
        for name, layers in groups.items():
            _write(source, trial, layers, calibration, ranges)
            drifts[name] = _drift(open_session(trial, backend), checks, wanted, limits)
        kept = tuple(name for name, drift in drifts.items() if drift > limits.most_drift_of_group)
        layers = [layer for name in groups if name not in kept for layer in groups[name]]
        if not layers:
            raise FailedQuantisationError(
                f"a group of layers must move boxes by at most {limits.most_drift_of_group}; got "
                f"at least {min(drifts.values()):.2f}: calibrate with frames of your own rig"
            )
        _write(source, trial, layers, calibration, ranges)
        session = open_session(trial, backend)
        report = QuantiseReport(
            backend=session.backend,
            calibration_frames=len(calibration),
            checked_frames=len(checks),
            groups=drifts,
            kept=kept,
            layers=len(layers),
            drift=_drift(session, checks, wanted, limits),
        )
        written = target.with_name(target.name + ".check.json")
        write_text_atomically(written, json.dumps(report.to_dict(), indent=1) + "\n")
        if report.drift > limits.most_drift:
            raise FailedQuantisationError(
                f"boxes must move by at most {limits.most_drift} in INT8; got {report.drift:.3f}: "
                f"see {written}, and calibrate with frames of your own rig"
            )
        write_atomically(target, trial.read_bytes())
    return report


def box_drift(
    ours: Detections, theirs: Detections, *, least_score: float = QuantiseOptions.least_score
) -> tuple[float, float]:
    """Return how far boxes move, and the sum of scores that they are weighted with.

    Each of our boxes counts with its score: 0 if the nearest box of its class is in the same place
    with the same score, 1 if there is none within ``NEAR_M``; between these, the mean of the
    distance over ``NEAR_M`` and of the score's difference over the score, at most 1.
    """
    moved = total = 0.0
    for row in range(len(ours)):
        score = float(ours.scores[row])
        if score < least_score:
            continue
        total += score
        same = theirs.labels == ours.labels[row]
        if not bool(same.any()):
            moved += score
            continue
        away = (theirs.boxes.center[same] - ours.boxes.center[row]).norm(dim=-1)
        nearest = int(away.argmin())
        distance = float(away[nearest]) / NEAR_M
        change = abs(float(theirs.scores[same][nearest]) - score) / score
        moved += score * (1.0 if distance > 1 else (distance + min(change, 1.0)) / 2)
    return moved, total


def _drift(
    session: Session,
    checks: Sequence[Arrays],
    wanted: Sequence[Arrays],
    limits: QuantiseOptions,
) -> float:
    names = session.info.config.class_names
    moved = total = 0.0
    for arrays, ours in zip(checks, wanted, strict=True):
        found = detections_from_arrays(session.run(arrays), names)
        for exact, other in zip(detections_from_arrays(ours, names), found, strict=True):
            parts = box_drift(exact, other, least_score=limits.least_score)
            moved, total = moved + parts[0], total + parts[1]
    if total == 0:
        raise ValueError(
            f"the frames to check must show objects; got no box with a score of "
            f"{limits.least_score} or more"
        )
    return moved / total


def _write(
    source: Path,
    target: Path,
    layers: Sequence[str],
    calibration: Sequence[Arrays],
    ranges: Path,
) -> None:
    """Write a file in which these layers are quantised.

    The first call stores the ranges of all layers in the file ``ranges``, and later ones read them,
    where ONNX Runtime can (1.32 can).
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantise_static

    class Frames(CalibrationDataReader):  # type: ignore[misc]  # untyped
        """The calibration frames, one after the other."""

        def __init__(self, frames: Iterable[Arrays]) -> None:
            self.frames = iter(frames)

        def get_next(self) -> Arrays | None:
            return next(self.frames, None)

    keeps = "calibration_cache_path" in inspect.signature(quantise_static).parameters
    stored = {"calibration_cache_path": ranges} if keeps else {}
    with _quiet():
        quantise_static(
            str(source),
            str(target),
            Frames(_contiguous(calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_quantize=list(layers),
            op_types_to_quantize=list(QUANTISED),
            **stored,
        )


def _contiguous(frames: Iterable[Arrays]) -> Iterator[Arrays]:
    for frame in frames:
        yield {name: np.ascontiguousarray(array) for name, array in frame.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the advice to optimise the file first, which would remove the names of modules."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
