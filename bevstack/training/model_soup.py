"""Average of several trained models: a uniform model soup (arXiv 2203.05482, section 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from bevstack.config import Config
from bevstack.models.build import load_model, save_model


@torch.no_grad()
def average_models(sources: Sequence[str | Path], target: str | Path) -> None:
    """Write the mean of the weights of several models, all with the same weight.

    If all models were trained further from the same weights, the mean is often better than each of
    them. The mean of models trained from different random weights is useless. Statistics of batch
    norms are averaged like weights; integer counters are those of the first model. Training,
    augmentation and losses may differ between the models; the file stores those of the first. Its
    metadata lists the SHA-256 of every source under "averaged".

    Args:
        sources: model files of one configuration, two or more.
        target: the file to write; a failed write leaves no partial file.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: there are fewer than two sources, one is given twice, or one is not a model of
            the same configuration.
        OSError: the target cannot be written.
    """
    digests = [hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in sources]
    if len(set(digests)) < max(len(digests), 2):
        raise ValueError(
            f"sources must be two or more different models; got {', '.join(map(str, sources))}"
        )
    model, config = load_model(sources[0])
    mean = model.state_dict()
    for count, source in enumerate(sources[1:], 2):
        other, its_config = load_model(source, expected=config)
        _check_sides(source, config, its_config)
        for name, tensor in other.state_dict().items():
            if tensor.is_floating_point():
                mean[name].lerp_(tensor, 1 / count)
    save_model(target, model, config, {"averaged": ", ".join(digests)})


def _check_sides(source: str | Path, config: Config, other: Config) -> None:
    """Refuse a mean of distances that were learned with different activations."""
    if config.perspective is None or other.perspective is None:
        return
    wanted = config.perspective.changes.sides_activation
    got = other.perspective.changes.sides_activation
    if got != wanted:
        raise ValueError(
            "sources must have the same perspective.small_images.sides_activation; got "
            f"{got!r} in {source} and {wanted!r} in the first: train them with one form"
        )
