"""Checkpoints that mmdetection3d wrote of our own model, ``BevstackDetector``, as our weights.

They need no conversion of values: the model's boxes have our convention, whatever the version of
mmdetection3d. Only the prefix of the names differs.
"""

from __future__ import annotations

from bevstack.config import Config
from bevstack.interop.conversion import Allowed, Converted, model_with, prefix_patterns
from bevstack.interop.public_weights import Rename, convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.models.build import build_model
from bevstack.models.skeleton import skeleton

PREFIX = "detector."  # attribute of the model that holds ours


def is_adapter_file(file: PublishedFile) -> bool:
    """Return True for a checkpoint of ``BevstackDetector``."""
    return bool(file.tensors) and all(name.startswith(PREFIX) for name in file.tensors)


def convert_adapter(
    file: PublishedFile, config: Config, *, boxes: str | None = None, allowed: Allowed | None = None
) -> Converted:
    """Convert a checkpoint of ``BevstackDetector`` to our detector.

    Args:
        file: the checkpoint.
        config: the configuration that the model was built with.
        boxes: must be None, as the boxes have our convention.
        allowed: prefixes of names that may stay without a counterpart.

    Raises:
        ValueError: ``boxes`` is given, a name without a counterpart is not allowed, or a tensor has
            another shape.
    """
    if boxes is not None:
        raise ValueError(
            "--boxes must not be given for weights of BevstackDetector, whose boxes have one "
            f"convention; got {boxes}"
        )
    allowed = allowed or Allowed()
    with skeleton():
        expected = build_model(config).state_dict()
    state, report = convert_weights(
        file.tensors,
        expected,
        [Rename(PREFIX + name, name) for name in expected],
        allow_missing=prefix_patterns(allowed.missing),
        allow_left_over=prefix_patterns(allowed.left_over),
    )
    note = "boxes: our own convention, as BevstackDetector was trained"
    return Converted(model_with(state, config), config, report, (note,))
