"""Turn the weights that a training left into a small file that travels with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config, DecoderConfig, config_to_json, first_differences
from bevstack.files import write_text_atomically
from bevstack.models.build import CONFIG_KEY, load_model
from bevstack.models.weights import read_safetensors, write_safetensors

MAX_BYTES = 12_000_000  # of a file in the repository

READING = ("max_detections", "post_range_m", "nms_iou")  # of a decoder's boxes, not of its weights


@dataclass(frozen=True)
class Shipment:
    """What was written, and what half precision did to it."""

    path: Path
    num_values: int
    num_bytes: int
    largest_change: float  # of any value, as a part of the largest in its tensor


def ship_weights(
    source: str | Path,
    target: str | Path,
    provenance: Mapping[str, str],
    *,
    decoder: DecoderConfig | None = None,
    max_bytes: int = MAX_BYTES,
) -> Shipment:
    """Writes a model's weights in half precision, with its configuration and metadata.

    The file appears whole or not at all, and is small enough to be kept with the sources.

    Args:
        source: what training wrote.
        target: the file to write.
        provenance: more metadata: the digest of the data, the command, the revision.
        decoder: how boxes are read from the decoder from now on, ``max_detections``,
            ``post_range_m`` and ``nms_iou``, chosen after training; none: as trained. What it
            changes stands in the file, under "set_after_training".
        max_bytes: refuse a larger file.

    Raises:
        FileNotFoundError: no such source.
        ValueError: a source that is no model, a value that float16 does not hold, provenance that
            says otherwise than the source's metadata, a decoder that differs in more than how
            boxes are read, or too many weights.
        OSError: the target cannot be written.
    """
    _, config = load_model(source)  # raises where it is no whole model
    tensors, metadata = read_safetensors(source)
    if decoder is not None:
        metadata = {**metadata, **_read_otherwise(config, decoder)}
    taken = sorted(k for k, text in provenance.items() if metadata.get(k, text) != text)
    if taken:
        raise ValueError(
            f"provenance must not change what {source} says; got another {', '.join(taken)}"
        )
    halved = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in halved.values())
    if num_bytes > max_bytes:
        raise ValueError(
            f"weights must take {max_bytes / 1e6:g} MB or less to be shipped; got "
            f"{num_bytes / 1e6:.1f} MB in half precision"
        )
    write_safetensors(target, halved, {**metadata, **provenance})
    return Shipment(
        path=Path(target),
        num_values=sum(tensor.numel() for tensor in halved.values()),
        num_bytes=Path(target).stat().st_size,
        largest_change=max(_change(tensors[name], halved[name]) for name in halved),
    )


def _read_otherwise(config: Config, decoder: DecoderConfig) -> dict[str, str]:
    """Metadata of the configuration with another way of reading boxes; empty where it is as was."""
    given = {name: getattr(decoder, name) for name in READING}
    changed = replace(config, decoder=replace(config.decoder, **given))
    differing = first_differences(replace(config, decoder=decoder), changed)
    if differing:
        raise ValueError(
            f"decoder must differ from the source's in {', '.join(READING)} alone; got "
            f"{'; '.join(differing)}"
        )
    changes = first_differences(changed, config)
    if not changes:
        return {}
    return {CONFIG_KEY: config_to_json(changed), "set_after_training": "; ".join(changes)}


def ship_log(source: str | Path, target: str | Path, *, steps: int) -> int:
    """Writes a training's log with one line for so many steps: the mean of each of its figures.

    "step" is the last of them; a last group with fewer steps gets a line, too.

    Returns:
        Number of lines.

    Raises:
        FileNotFoundError: no such source.
        ValueError: fewer than one step a line, or a line of the source that is no object of
            numbers; names it.
        OSError: the target cannot be written.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1 a line; got {steps}")
    groups: dict[int, list[dict[str, float]]] = {}
    for number, text in enumerate(Path(source).read_text(encoding="utf-8").splitlines(), 1):
        try:
            figures = {key: float(value) for key, value in json.loads(text).items()}
            groups.setdefault((int(figures["step"]) - 1) // steps, []).append(figures)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
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
    lost = ~torch.isfinite(halved)
    if bool(lost.any()):
        raise ValueError(
            f"weights must be finite and at most {torch.finfo(torch.float16).max:g} in size for "
            f"float16; got {float(tensor[lost][0]):g} in {name}: train with a finite loss, or keep "
            "the file as it is"
        )
    return halved


def _change(tensor: Tensor, halved: Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    largest = float(tensor.abs().max())
    return float((halved.to(tensor.dtype) - tensor).abs().max()) / largest if largest else 0.0
