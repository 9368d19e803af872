"""Facts about an exported classifier that its file carries as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bevstack.config import ImageConfig
from bevstack.export.onnx.graph_info import CUSTOM_OPS, OPSET, PREFIX, check_opset, custom_mark

CLASSIFIER_FORMAT = "bevstack-classifier-1"
MEAN, STD = ImageConfig.mean, ImageConfig.std  # of ImageNet, RGB, 0 to 255


@dataclass(frozen=True, kw_only=True)
class ClassifierInfo:
    """Name, sizes and origin of an exported classifier."""

    name: str  # of the network, such as "internimage_t"
    weights: str  # digest of the weights
    image_size: tuple[int, int]  # (H, W) pixels
    classes: int  # K
    batch: int | None = None  # B; None: any number of images at a time
    opset: int = OPSET
    custom_ops: bool = False  # deformable operators are nodes of our own domain

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file; every value is a text, most are JSON."""
        values: dict[str, object] = {
            "image_size": self.image_size,
            "normalisation": {
                "channel_order": "rgb",
                "mean": MEAN,
                "std": STD,
            },
            "classes": self.classes,
            "batch": self.batch,
            "opset": self.opset,
        }
        texts = {
            "format": CLASSIFIER_FORMAT,
            "name": self.name,
            "weights": self.weights,
            **{key: json.dumps(value) for key, value in values.items()},
        }
        return {PREFIX + key: value for key, value in texts.items()} | custom_mark(self.custom_ops)


def is_classifier(metadata: Mapping[str, str]) -> bool:
    """Return True if a file's metadata are those of a classifier."""
    return metadata.get(PREFIX + "format") == CLASSIFIER_FORMAT


def read_classifier_info(metadata: Mapping[str, str], where: str) -> ClassifierInfo:
    """Return the facts that a file's metadata holds.

    Raises:
        ValueError: the metadata is not that of a classifier of ``bevstack export --onnx``.
    """
    if not is_classifier(metadata):
        raise ValueError(
            f"model must be a classifier of `bevstack export --onnx`, format {CLASSIFIER_FORMAT}; "
            f"got {where}, format {metadata.get(PREFIX + 'format', 'unknown')}"
        )
    try:
        height, width = json.loads(metadata[PREFIX + "image_size"])
        batch = json.loads(metadata[PREFIX + "batch"])
        info = ClassifierInfo(
            name=metadata[PREFIX + "name"],
            weights=metadata[PREFIX + "weights"],
            image_size=(int(height), int(width)),
            classes=int(json.loads(metadata[PREFIX + "classes"])),
            batch=None if batch is None else int(batch),
            opset=int(json.loads(metadata[PREFIX + "opset"])),
            custom_ops=CUSTOM_OPS in metadata,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"metadata must be complete; got {where}, {type(error).__name__}: {error}: export it "
            "again"
        ) from error
    check_opset(info.opset, where)
    return info
