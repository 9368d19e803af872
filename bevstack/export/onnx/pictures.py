"""Export of models of single pictures to ONNX files that are checked before they get their names.

Letters: P pictures, D detections, K outputs, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bevstack.datasets.detection2d.prepare import normalised, picture_size, stack_pictures
from bevstack.export.onnx.errors import FailedCheckError
from bevstack.export.onnx.picture_info import PictureInfo, read_picture_info
from bevstack.export.onnx.picture_input import normalised_pictures
from bevstack.export.onnx.regions import OUTPUTS as REGION_OUTPUTS
from bevstack.export.onnx.regions import RegionDetectorGraph
from bevstack.export.onnx.write import write_onnx
from bevstack.export.runtimes import LoadedFile, checking_backends, open_file
from bevstack.files import write_text_atomically
from bevstack.models.detection2d.model import RegionDetector, RegionStage
from bevstack.models.segmentation.heads import resize_map
from bevstack.models.segmentation.model import Segmenter
from bevstack.types.pictures2d import Detections2D

CHECK_FORMAT = "bevstack-onnx-pictures-check-1"
IMAGES = "images"
SEGMENTER_OUTPUTS: tuple[str, ...] = ("logits", "labels")
PictureNetwork = RegionDetector | Segmenter
Pictures = NDArray[np.uint8]  # (P, H, W, 3) RGB

# Largest differences that pass. Measured are 1e-5 of a score and 1e-3 px: sums in another order,
# and GridSample's rounding of coordinates to 1e-5 pixels.
TOLERANCES = {"score": 1e-3, "box_px": 0.1, "mask": 1e-2, "logits": 1e-4}
RANDOM_LOGITS_STD = 2.0  # of the class logits of a random detector
MATCH_PX = 1.0  # largest distance of a side of two boxes that are of one object


class SegmenterGraph(nn.Module):
    """Labels of the pixels of pictures, with their normalisation before the model.

    Args:
        model: the segmenter, in evaluation mode.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Tensor,  # (1, H, W, 3) uint8 RGB
    ) -> tuple[Tensor, Tensor]:  # (1, K, H / 4, W / 4), (1, H, W) int64
        """Return the logits of the head, and the best label of each pixel."""
        logits = self.model(normalised_pictures(images)).logits
        labels = resize_map(logits, (images.shape[1], images.shape[2])).argmax(1)
        return logits, labels


@dataclass(frozen=True)
class PictureReport:
    """Comparison of the results of a file with ours, in one backend."""

    backend: str
    pictures: int
    compared: int  # objects, or pixels
    unequal: int  # objects without a counterpart, or pixels of another label
    complete: bool  # the file's fixed numbers of rounds and candidates were enough
    largest: dict[str, float] = field(default_factory=dict)  # differences by name
    tolerances: dict[str, float] = field(default_factory=lambda: dict(TOLERANCES))

    @property
    def passed(self) -> bool:
        """Return True if all results are equal up to the tolerances."""
        within = all(value <= self.tolerances[name] for name, value in self.largest.items())
        return self.compared > 0 and within and not self.unequal and self.complete


def check_size(model: PictureNetwork, size: tuple[int, int]) -> None:
    """Check the size of pictures of an exported model.

    Raises:
        ValueError: it does not fit the model.
    """
    if min(size) < 32:
        raise ValueError(f"--size must be at least 32 pixels a side; got {size[0]} {size[1]}")
    if isinstance(model, Segmenter) and (size[0] % 32 or size[1] % 32):
        raise ValueError(
            "--size must be two multiples of 32 for a model that labels pixels; got "
            f"{size[0]} {size[1]}"
        )


def export_pictures(
    path: Path, model: PictureNetwork, info: PictureInfo, pictures: Pictures
) -> list[PictureReport]:
    """Write an ONNX file, compare it with the model on pictures, and write FILE.check.json.

    Args:
        path: the file.
        model: in evaluation mode.
        info: facts about the file.
        pictures: of the file's size, at least one.

    Raises:
        FailedCheckError: results differ in one of the installed backends; the file is removed.
        ModuleNotFoundError: onnx, onnxscript or ONNX Runtime is not installed.
        OSError: a file cannot be written.
        ValueError: the size does not fit the model, or pictures are missing or of another size.
    """
    check_size(model, info.image_size)
    _check_pictures(pictures, info)
    unchecked = path.with_name(path.name + ".unchecked")
    graph: nn.Module
    if isinstance(model, RegionDetector):
        graph, names = RegionDetectorGraph(model, info.image_size), REGION_OUTPUTS
    else:
        graph, names = SegmenterGraph(model), SEGMENTER_OUTPUTS
    try:
        write_onnx(
            unchecked,
            graph,
            {IMAGES: pictures[:1]},
            output_names=names,
            metadata=info.to_metadata(),
            custom_ops=info.custom_ops,
        )
        backends = checking_backends(custom_ops=info.custom_ops)
        files = [open_file(unchecked, backend) for backend in backends]
        reports = verify_pictures(files, model, pictures, path)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return reports


def verify_pictures(
    files: Sequence[LoadedFile], model: PictureNetwork, pictures: Pictures, path: Path
) -> list[PictureReport]:
    """Compare a file, loaded in each backend, with the model and write ``path``.check.json.

    Raises:
        FailedCheckError: results differ.
        OSError: the report cannot be written.
        ValueError: the file is no model of pictures, or the pictures do not fit it.
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
                f"an exported model must equal ours; got results of {report.backend} with "
                f"{report.unequal} of {report.compared} unequal and differences {report.largest}: "
                f"see {written}, and do not use the file"
            )
    return reports


def _compare(
    file: LoadedFile, model: PictureNetwork, pictures: Pictures, path: Path
) -> PictureReport:
    info = read_picture_info(file.metadata, str(path))
    _check_pictures(pictures, info)
    compared, unequal, complete, largest = 0, 0, True, dict[str, float]()
    for picture in pictures:
        got = file.run({IMAGES: picture[None]})
        if isinstance(model, RegionDetector):
            counts, differences = _compare_objects(detect_whole(model, picture), got, model)
            complete &= bool(got["complete"])
        else:
            counts, differences = _compare_labels(model, picture, got)
        compared, unequal = compared + counts[0], unequal + counts[1]
        for name, value in differences.items():
            largest[name] = max(largest.get(name, 0.0), value)
    return PictureReport(file.backend, len(pictures), compared, unequal, complete, largest)


@torch.inference_mode()
def detect_whole(model: RegionDetector, picture: NDArray[np.uint8]) -> Detections2D:
    """Return the objects of a picture (H, W, 3) that is not resized, only padded."""
    size = (int(picture.shape[0]), int(picture.shape[1]))
    sizes = picture_size(size, size, model.config.pictures)
    (found,) = model.detect(stack_pictures([normalised(picture)], [sizes], ["picture"]))
    return found


def spread_scores(model: RegionDetector, picture: NDArray[np.uint8]) -> None:
    """Scale a random detector's class logits so that it finds objects, whose scores are apart."""

    def scale(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(module, nn.Linear)
        factor = RANDOM_LOGITS_STD / output.std()
        module.weight.data *= factor
        return output * factor

    hooks = [
        stage.box_head.logits.register_forward_hook(scale)
        for stage in model.stages
        if isinstance(stage, RegionStage)
    ]
    detect_whole(model, picture)
    for hook in hooks:
        hook.remove()


def _compare_objects(
    ours: Detections2D, got: Mapping[str, NDArray[Any]], model: RegionDetector
) -> tuple[tuple[int, int], dict[str, float]]:
    """Return the numbers of compared and of unequal objects, and the largest differences.

    Objects near the lowest score that either side keeps may be on one side only.
    """
    tensors = {name: torch.from_numpy(got[name]) for name in REGION_OUTPUTS[:-1]}
    found = tensors["labels"] >= 0
    theirs = Detections2D(
        boxes=tensors["boxes"][found],
        scores=tensors["scores"][found],
        labels=tensors["labels"][found],
        mask_values=tensors["masks"][found],
    )
    limit = model.config.roi.score_threshold
    for side in (ours, theirs):
        if len(side) >= model.config.roi.detections:
            limit = max(limit, float(side.scores.min()))
    differences = {"score": 0.0, "box_px": 0.0, "mask": 0.0}
    unequal = 0
    for first, second in ((ours, theirs), (theirs, ours)):
        distances = (first.boxes[:, None] - second.boxes).abs().amax(-1)
        differs = first.labels[:, None] != second.labels
        differs |= (first.scores[:, None] - second.scores).abs() > TOLERANCES["score"]
        distances = distances.masked_fill(differs, torch.inf)
        for row in range(len(first)):
            if float(first.scores[row]) <= limit + TOLERANCES["score"]:
                continue
            if not len(second) or float(distances[row].min()) > MATCH_PX:
                unequal += 1
                continue
            match = int(distances[row].argmin())
            assert first.mask_values is not None and second.mask_values is not None
            for name, a, b in (
                ("score", first.scores[row], second.scores[match]),
                ("box_px", first.boxes[row], second.boxes[match]),
                ("mask", first.mask_values[row], second.mask_values[match]),
            ):
                differences[name] = max(differences[name], float((a - b).abs().max()))
    return (len(ours), unequal), differences


@torch.inference_mode()
def _compare_labels(
    model: Segmenter, picture: NDArray[np.uint8], got: Mapping[str, NDArray[Any]]
) -> tuple[tuple[int, int], dict[str, float]]:
    """Return the numbers of pixels and of those with another label, and the difference of logits.

    A label is another one if our logit of it is lower than the best by more than the tolerance.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture))[None]
    logits, _ = SegmenterGraph(model).eval()(image)
    scale = float(logits.abs().max())
    difference = float((torch.from_numpy(got["logits"]) - logits).abs().max()) / scale
    whole = resize_map(logits, (int(picture.shape[0]), int(picture.shape[1])))[0]
    labels = torch.from_numpy(got["labels"]).long()
    lost = whole.max(0).values - whole.gather(0, labels)[0]
    wrong = int((lost > 2 * TOLERANCES["logits"] * scale).sum())
    return (labels.numel(), wrong), {"logits": difference}


def _check_pictures(pictures: Pictures, info: PictureInfo) -> None:
    if not len(pictures) or pictures.shape[1:] != (*info.image_size, 3):
        height, width = info.image_size
        raise ValueError(
            f"pictures must be of {height}x{width} pixels in RGB, at least one; got shape "
            f"{pictures.shape}"
        )
