"""Export of an image classifier to an ONNX file that is checked before it gets its name.

Letters: B batch, K classes, H W image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bevstack.export.onnx.classifier_info import MEAN, STD, ClassifierInfo, read_classifier_info
from bevstack.export.onnx.errors import FailedCheckError
from bevstack.export.onnx.write import write_onnx
from bevstack.export.runtimes import LoadedFile, checking_backends, open_file
from bevstack.files import write_text_atomically
from bevstack.geometry import constant

CHECK_FORMAT = "bevstack-onnx-classifier-check-1"
IMAGES, LOGITS = "images", "logits"
# Largest difference of a logit, relative to the largest logit of the image. Measured are 2e-6: sums
# in another order, and GridSample's rounding of coordinates to 1e-5 pixels.
TOLERANCE = 1e-4


class ClassifierGraph(nn.Module):
    """Classification of images, with their normalisation before the model.

    Args:
        model: from normalised images (B, 3, H, W) to logits (B, K), in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Tensor,  # (B, H, W, 3) uint8 RGB
    ) -> Tensor:  # (B, K) logits
        """Return the logits."""
        pixels = images.permute(0, 3, 1, 2).float()
        mean, std = (constant(pixels, part)[:, None, None] for part in (MEAN, STD))
        logits: Tensor = self.model((pixels - mean) / std)
        return logits


@dataclass(frozen=True)
class LogitsReport:
    """Comparison of the logits of a file with ours, in one backend."""

    backend: str
    images: int  # number of compared images
    batches: tuple[int, ...]  # sizes of the batches that they were given in
    largest: float  # difference of a logit, relative to the largest logit of its image
    other_classes: int  # images whose best class differs by more than the tolerance
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Return True if all logits are equal up to the tolerance."""
        return self.images > 0 and self.largest <= self.tolerance and not self.other_classes


def export_classifier(
    path: Path,
    model: nn.Module,
    info: ClassifierInfo,
    pictures: NDArray[np.uint8],  # (P, H, W, 3) RGB
) -> list[LogitsReport]:
    """Write an ONNX file, compare it with the model on pictures, and write FILE.check.json.

    Args:
        path: the file.
        model: from normalised images (B, 3, H, W) to logits (B, K), in evaluation mode.
        info: facts about the file.
        pictures: pictures of the file's size, at least three.

    Raises:
        FailedCheckError: a logit differs in one of the installed backends; the file is removed.
        ModuleNotFoundError: onnx, onnxscript or ONNX Runtime is not installed.
        OSError: a file cannot be written.
        ValueError: the pictures are too few or of another size.
    """
    _check_pictures(pictures, info)
    unchecked = path.with_name(path.name + ".unchecked")
    try:
        write_onnx(
            unchecked,
            ClassifierGraph(model),
            {IMAGES: _batch(pictures, 0, info.batch or 2)},
            output_names=(LOGITS,),
            metadata=info.to_metadata(),
            dynamic_batch=info.batch is None,
            custom_ops=info.custom_ops,
        )
        backends = checking_backends(custom_ops=info.custom_ops)
        files = [open_file(unchecked, backend) for backend in backends]
        reports = verify_classifier(files, model, pictures, path)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return reports


def verify_classifier(
    files: Sequence[LoadedFile],
    model: nn.Module,
    pictures: NDArray[np.uint8],  # (P, H, W, 3) RGB
    path: Path,
) -> list[LogitsReport]:
    """Compare a file, loaded in each backend, with the model and write ``path``.check.json.

    Raises:
        FailedCheckError: a logit differs.
        OSError: the report cannot be written.
        ValueError: the file is no classifier, or the pictures do not fit it.
    """
    reports = [_compare(file, model, pictures, path) for file in files]
    written = path.with_name(path.name + ".check.json")
    found = [{"passed": report.passed, **asdict(report)} for report in reports]
    passed = bool(reports) and all(report.passed for report in reports)
    content: dict[str, Any] = {"format": CHECK_FORMAT, "passed": passed, "reports": found}
    write_text_atomically(written, json.dumps(content, indent=1) + "\n")
    for report in reports:
        if not report.passed:
            raise FailedCheckError(
                f"an exported model must equal ours; got logits of {report.backend} that differ by "
                f"{report.largest:.2g} of the largest, and {report.other_classes} other classes: "
                f"see {written}, and do not use the file"
            )
    return reports


def _compare(
    file: LoadedFile, model: nn.Module, pictures: NDArray[np.uint8], path: Path
) -> LogitsReport:
    info = read_classifier_info(file.metadata, str(path))
    _check_pictures(pictures, info)
    graph = ClassifierGraph(model).eval()
    # A dynamic batch is given every size up to the number of pictures.
    sizes = [info.batch] if info.batch else list(range(1, len(pictures) + 1))
    largest, misclassified = 0.0, 0
    for start, size in enumerate(sizes):
        batch = _batch(pictures, start, size)
        with torch.inference_mode():
            wanted = graph(torch.from_numpy(batch)).numpy()
        got = file.run({IMAGES: batch})[LOGITS]
        scale = abs(wanted).max(1)
        difference = abs(got - wanted).max(1) / scale
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
        best = wanted.max(1) - wanted[np.arange(size), got.argmax(1)]
        misclassified += int((best > TOLERANCE * scale).sum())
    return LogitsReport(file.backend, sum(sizes), tuple(sizes), largest, misclassified)


def _batch(
    pictures: NDArray[np.uint8], start: int, size: int
) -> NDArray[np.uint8]:  # (size, H, W, 3)
    """Return ``size`` pictures from ``start`` on, and from the first again after the last."""
    return np.ascontiguousarray(pictures[(start + np.arange(size)) % len(pictures)])


def _check_pictures(pictures: NDArray[np.uint8], info: ClassifierInfo) -> None:
    if len(pictures) < 3 or pictures.shape[1:] != (*info.image_size, 3):
        height, width = info.image_size
        raise ValueError(
            f"pictures must be at least 3 of {height}x{width} pixels in RGB; got shape "
            f"{pictures.shape}"
        )
