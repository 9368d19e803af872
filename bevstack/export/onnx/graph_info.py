"""Facts about an exported detector that its file carries as metadata."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bevstack.config import Config, config_from_json, config_to_json
from bevstack.models.layers.sizes import Bounds

FORMAT = "bevstack-detector-1"
PREFIX = "bevstack."  # of every key
MODULE = PREFIX + "module"  # key of a node's metadata: dotted name of the module that it is of
CUSTOM_OPS = PREFIX + "custom_ops"  # key of files with nodes of our own domain
OPSET = 20  # GridSample with a mode "linear", which the runtimes know


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """Configuration, sizes and origin of an exported detector."""

    config: Config
    weights: str  # digest of weights and configuration: ``Detector.fingerprint``
    bounds: Bounds
    stream: bool  # a step of streams, with memory in and out; False: single frames
    cameras: int  # N; a rig with fewer is completed with lost cameras
    batch: int = 1  # B
    opset: int = OPSET
    custom_ops: bool = False  # deformable operators are nodes of our own domain

    @property
    def image_size(self) -> tuple[int, int]:
        """Return (H, W) of the images in pixels, padding included."""
        images = self.config.images
        height, width = (math.ceil(side / images.pad_to) * images.pad_to for side in images.size)
        return height, width

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file; every value is a text, most are JSON."""
        config = self.config
        text = config_to_json(config)
        values: dict[str, object] = {
            "class_names": config.class_names,
            "grid": asdict(config.grid),
            "image_size": self.image_size,
            "normalisation": {
                "channel_order": config.images.channel_order,
                "mean": config.images.mean,
                "std": config.images.std,
            },
            "bounds": asdict(self.bounds),
            "stream": self.stream,
            "cameras": self.cameras,
            "batch": self.batch,
            "opset": self.opset,
        }
        texts = {
            "format": FORMAT,
            "name": config.name,
            "config": text,
            "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "weights": self.weights,
            **{key: json.dumps(value) for key, value in values.items()},
        }
        return {PREFIX + key: value for key, value in texts.items()} | custom_mark(self.custom_ops)


def custom_mark(custom_ops: bool) -> dict[str, str]:
    """Return the metadata that a file with nodes of our own domain has."""
    return {CUSTOM_OPS: "true"} if custom_ops else {}


def read_graph_info(metadata: Mapping[str, str], where: str) -> GraphInfo:
    """Return the facts that a file's metadata holds.

    Raises:
        ValueError: the metadata is not that of a detector of ``bevstack export --onnx``, or its
            configuration was changed.
    """
    if metadata.get(PREFIX + "format") != FORMAT:
        raise ValueError(
            f"model must be a detector of `bevstack export --onnx`, format {FORMAT}; got {where}, "
            f"format {metadata.get(PREFIX + 'format', 'unknown')}: export it again"
        )
    try:
        text = metadata[PREFIX + "config"]
        digest = metadata[PREFIX + "config_sha256"]
        info = GraphInfo(
            config=config_from_json(text),
            weights=metadata[PREFIX + "weights"],
            bounds=Bounds(**json.loads(metadata[PREFIX + "bounds"])),
            stream=bool(json.loads(metadata[PREFIX + "stream"])),
            cameras=int(json.loads(metadata[PREFIX + "cameras"])),
            batch=int(json.loads(metadata[PREFIX + "batch"])),
            opset=int(json.loads(metadata[PREFIX + "opset"])),
            custom_ops=CUSTOM_OPS in metadata,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"metadata must be complete; got {where}, {type(error).__name__}: {error}: export it "
            "again"
        ) from error
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError(
            f"config_sha256 must be that of the configuration in {where}; got another one: the "
            "metadata was changed; export it again"
        )
    return info


def has_custom_ops(path: Path) -> bool:
    """Return True if a file has nodes of our own domain, without parsing it."""
    mark, before = CUSTOM_OPS.encode(), b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if mark in before + block:
                return True
            before = block[-len(mark) :]
    return False


def check_opset(opset: int, where: str) -> None:
    """Check that a model has the version of ONNX's operators that is written and tested here.

    Raises:
        ValueError: it has another one.
    """
    if opset != OPSET:
        raise ValueError(
            f"opset must be {OPSET}, the one that exports are checked with; got {opset} for {where}"
        )


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
