"""Conversion of trained weights into a small file that is packaged with bevstack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import (
    Config,
    DecoderConfig,
    config_from_json,
    config_to_json,
    first_differences,
)
from bevstack.files import naming, write_text_atomically
from bevstack.json_files import expect_number, expect_object, parse_json
from bevstack.models.build import CONFIG_KEY, list_tasks, load_model, read_task_config
from bevstack.models.build_traffic import traffic_model_with
from bevstack.models.weights import read_safetensors, task_weights, write_safetensors

MAX_BYTES = 12_000_000  # greatest size of a weights file in the repository

# Fields of the decoder section that select boxes and do not affect its weights.
SELECTION_FIELDS = ("max_detections", "post_range_m", "nms_iou")


@dataclass(frozen=True)
class Shipment:
    """Written file, and the largest rounding error of half precision."""

    path: Path
    num_values: int
    num_bytes: int
    largest_change: float  # of any value, relative to the largest magnitude in its tensor


def ship_weights(
    source: str | Path,
    target: str | Path,
    provenance: Mapping[str, str],
    *,
    decoder: DecoderConfig | None = None,
    max_bytes: int = MAX_BYTES,
) -> Shipment:
    """Write a model's weights in half precision, with its configuration and metadata.

    The file is small enough to be kept with the sources. A failed write leaves no partial file.

    Args:
        source: the model file that training wrote.
        target: the file to write.
        provenance: more metadata: the digest of the data, the command, the revision.
        decoder: decoder section with the ``max_detections``, ``post_range_m`` and ``nms_iou`` to
            store, if they were chosen after training; None: as trained. The metadata lists the
            changes under "set_after_training".
        max_bytes: refuse a larger file.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: ``source`` is not a model, a value does not fit in float16, ``provenance``
            contradicts the source's metadata, ``decoder`` differs in other fields, or the weights
            take more than ``max_bytes``.
        OSError: ``target`` cannot be written.
    """
    tensors, metadata = read_safetensors(source)
    halved = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    config = _check_complete(Path(source), tensors, metadata)
    if decoder is not None and config is None:
        raise ValueError(f"decoder must be None for a file without boxes; got one for {source}")
    if decoder is not None and config is not None:
        metadata = {**metadata, **_selection_metadata(config, decoder)}
    changed = sorted(k for k, text in provenance.items() if metadata.get(k, text) != text)
    if changed:
        raise ValueError(
            f"provenance must not change the metadata of {source}; got another {', '.join(changed)}"
        )
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in halved.values())
    if num_bytes > max_bytes:
        raise ValueError(
            f"weights must take {max_bytes / 1e6:g} MB or less to be packaged; got "
            f"{num_bytes / 1e6:.1f} MB in half precision"
        )
    write_safetensors(target, halved, {**metadata, **provenance})
    return Shipment(
        path=Path(target),
        num_values=sum(tensor.numel() for tensor in halved.values()),
        num_bytes=Path(target).stat().st_size,
        largest_change=max(_change(tensors[name], halved[name]) for name in halved),
    )


def _check_complete(
    source: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Config | None:
    """Return the configuration of the boxes; None if the file holds lights and signs alone.

    Raises:
        ValueError: the file does not hold a whole model.
    """
    if list_tasks(source, metadata) != ("traffic",):
        return load_model(source)[1]
    config = config_from_json(read_task_config(source, metadata, "traffic"))
    traffic_model_with(task_weights(tensors, "traffic"), config, torch.device("cpu"))
    return None


def _selection_metadata(config: Config, decoder: DecoderConfig) -> dict[str, str]:
    """Return the metadata for another selection of boxes; empty if it is unchanged."""
    given = {name: getattr(decoder, name) for name in SELECTION_FIELDS}
    changed = replace(config, decoder=replace(config.decoder, **given))
    differing = first_differences(replace(config, decoder=decoder), changed)
    if differing:
        raise ValueError(
            f"decoder must differ from the source's in {', '.join(SELECTION_FIELDS)} alone; got "
            f"{'; '.join(differing)}"
        )
    changes = first_differences(changed, config)
    if not changes:
        return {}
    return {CONFIG_KEY: config_to_json(changed), "set_after_training": "; ".join(changes)}


def ship_log(source: str | Path, target: str | Path, *, steps: int) -> int:
    """Write a training log shortened to one line for every ``steps`` steps, with mean values.

    "step" of a line is the last of its steps. An incomplete last group gets a line, too.

    Returns:
        Number of lines.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: ``steps`` is below 1, the source is not UTF-8 text, or a line of the source is
            not an object of numbers; the message names the line.
        OSError: ``target`` cannot be written.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1 per line; got {steps}")
    groups: dict[int, list[dict[str, float]]] = {}
    try:
        with naming(source):
            lines_read = Path(source).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"training log must be UTF-8 text; got {source}, which has {error.reason} at byte "
            f"{error.start}"
        ) from None
    for number, text in enumerate(lines_read, 1):
        try:
            values = expect_object("line", parse_json(text, "line"))
            entry = {key: expect_number(key, value) for key, value in values.items()}
            groups.setdefault((int(entry["step"]) - 1) // steps, []).append(entry)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{source}: line {number} must be an object of numbers with a step; "
                f"got {text[:60]!r}"
            ) from error
    lines = []
    for _, rows in sorted(groups.items()):
        means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        rounded = {key: float(f"{value:.5g}") for key, value in means.items()}
        lines.append(json.dumps({**rounded, "step": round(max(row["step"] for row in rows))}))
    write_text_atomically(Path(target), "".join(f"{line}\n" for line in lines))
    return len(lines)


def _halved(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.to(torch.float16)
    overflowed = ~torch.isfinite(halved)
    if bool(overflowed.any()):
        raise ValueError(
            f"weights must be finite and at most {torch.finfo(torch.float16).max:g} in size for "
            f"float16; got {float(tensor[overflowed][0]):g} in {name}: train with a finite loss, "
            "or use the original file"
        )
    return halved


def _change(tensor: Tensor, halved: Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    largest = float(tensor.abs().max())
    return float((halved.to(tensor.dtype) - tensor).abs().max()) / largest if largest else 0.0
