"""The average of several trained models: a model soup (arXiv 2203.05482, section 2, uniform)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from bevstack.models.build import load_model, save_model


@torch.no_grad()
def average_models(sources: Sequence[str | Path], target: str | Path) -> None:
    """Writes the mean of the weights of several models, each counting the same.

    That is a good model where all were trained on from the same weights, and then often a better
    one than each; of trainings from different random weights it is none. Statistics of batch norms
    are averaged like weights; what is counted in integers is the first model's. Training,
    augmentation and losses may differ from model to model, and the file says those of the first.
    It names all by their SHA-256, under "averaged".

    Args:
        sources: model files of one configuration, two or more.
        target: the file to write; whole or not at all.

    Raises:
        FileNotFoundError: no such source.
        ValueError: fewer than two sources, one twice, one that is no model, or another model.
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
        for name, tensor in load_model(source, expected=config)[0].state_dict().items():
            if tensor.is_floating_point():
                mean[name].lerp_(tensor, 1 / count)
    save_model(target, model, config, {"averaged": ", ".join(digests)})
