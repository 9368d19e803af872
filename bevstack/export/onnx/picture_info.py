"""Facts about an exported model of single pictures that its file carries as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bevstack.config.detection2d import DETECTION2D
from bevstack.config.segmentation import SEGMENTATION
from bevstack.export.onnx.graph_info import CUSTOM_OPS, OPSET, PREFIX, check_opset, custom_mark

PICTURE_FORMAT = "bevstack-pictures-1"
KINDS = (DETECTION2D, SEGMENTATION)


@dataclass(frozen=True, kw_only=True)
class PictureInfo:
    """Name, sizes and origin of an exported model of single pictures."""

    name: str  # of the configuration
    kind: str  # one of KINDS
    weights: str  # digest of the weights
    image_size: tuple[int, int]  # (H, W) pixels
    class_names: tuple[str, ...]
    opset: int = OPSET
    custom_ops: bool = False  # deformable operators are nodes of our own domain

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file; every value is a text, most are JSON."""
        texts = {
            "format": PICTURE_FORMAT,
            "name": self.name,
            "kind": self.kind,
            "weights": self.weights,
            "image_size": json.dumps(self.image_size),
            "class_names": json.dumps(self.class_names),
            "opset": json.dumps(self.opset),
        }
        return {PREFIX + key: value for key, value in texts.items()} | custom_mark(self.custom_ops)


def is_picture_model(metadata: Mapping[str, str]) -> bool:
    """Return True if a file's metadata are those of a model of single pictures."""
    return metadata.get(PREFIX + "format") == PICTURE_FORMAT


def read_picture_info(metadata: Mapping[str, str], where: str) -> PictureInfo:
    """Return the facts that a file's metadata holds.

    Raises:
        ValueError: the metadata is not that of a model of pictures of ``bevstack export --onnx``.
    """
    if not is_picture_model(metadata):
        raise ValueError(
            f"model must be one of pictures of `bevstack export --onnx`, format {PICTURE_FORMAT}; "
            f"got {where}, format {metadata.get(PREFIX + 'format', 'unknown')}"
        )
    try:
        height, width = json.loads(metadata[PREFIX + "image_size"])
        info = PictureInfo(
            name=metadata[PREFIX + "name"],
            kind=metadata[PREFIX + "kind"],
            weights=metadata[PREFIX + "weights"],
            image_size=(int(height), int(width)),
            class_names=tuple(map(str, json.loads(metadata[PREFIX + "class_names"]))),
            opset=int(json.loads(metadata[PREFIX + "opset"])),
            custom_ops=CUSTOM_OPS in metadata,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"metadata must be complete; got {where}, {type(error).__name__}: {error}: export it "
            "again"
        ) from error
    if info.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {where}, {info.kind!r}")
    check_opset(info.opset, where)
    return info
