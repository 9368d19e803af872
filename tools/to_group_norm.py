"""Turns the batch norms of a trained InternImage backbone into group norms, for training on.

A batch norm in use scales and shifts a channel by fixed numbers. A group norm first divides by what
it finds in the image, so weight and bias are chosen such that both say the same of an image as
usual: its statistics, met on samples of a data set, stand for those of all. On images unlike them
the two differ, which some training on mends.

Example:
    python tools/to_group_norm.py MODEL.safetensors --to OUT.safetensors --nuscenes ROOT \
        --version v1.0-synth --split synth_train --samples 60
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bevstack.config import Config, InternImageConfig
from bevstack.experiments.judge.splits import open_split
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model, save_model
from bevstack.models.layers.norms import ChannelsLastBatchNorm, ChannelsLastSyncBatchNorm
from bevstack.runtime.detector import Detector, load
from bevstack.tables.reader import Tables
from bevstack.types import Frame

GROUP_NORM_EPS = 1e-5  # torch's own


class Statistics:
    """Mean and standard deviation of each group of channels, of every image a norm saw.

    Args:
        groups: of how many equal parts of the channels.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self._means: list[Tensor] = []
        self._deviations: list[Tensor] = []

    def look(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> None:
        """Takes note of each image of a batch."""
        parts = x.unflatten(-1, (self.groups, -1)).transpose(3, 4)  # (B, H, W, C / G, G)
        rows = parts.flatten(1, 3)  # (B, H * W * C / G, G)
        variance, mean = torch.var_mean(rows, 1, correction=0)
        self._means.append(mean)
        self._deviations.append((variance + GROUP_NORM_EPS).sqrt())

    def usual(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of a usual image: (G,) each."""
        return torch.cat(self._means).mean(0), torch.cat(self._deviations).mean(0)


def with_group_norms(
    model: BEVFormerV2, config: Config, frames: Iterable[Frame], *, groups: int
) -> tuple[BEVFormerV2, Config]:
    """The same detector with group norms in its backbone.

    Args:
        model: with an InternImage whose ``norm_layer`` is "BN" or "SyncBN".
        config: its configuration.
        frames: what it is shown, to find how usual images are.
        groups: of a norm; divide half the backbone's first channels.

    Raises:
        ValueError: another backbone or norm, groups that do not divide, or no frame.
    """
    backbone = config.backbone
    kind = getattr(backbone, "norm_layer", None)
    if not isinstance(backbone, InternImageConfig) or kind not in ("BN", "SyncBN"):
        found = "no InternImage" if kind is None else kind
        raise ValueError(f"model must have an InternImage with BN or SyncBN; got {found}")
    grouped = replace(config, backbone=replace(backbone, norm_layer="GN", norm_groups=groups))
    norms = {
        name: module
        for name, module in model.backbone.named_modules()
        if isinstance(module, (ChannelsLastBatchNorm, ChannelsLastSyncBatchNorm))
    }
    seen = {name: Statistics(groups) for name in norms}
    hooks = [norms[name].register_forward_pre_hook(_noting(seen[name])) for name in norms]
    detector, count = Detector(model, config), 0
    for frame in frames:
        detector.predict(frame)
        count += 1
    for hook in hooks:
        hook.remove()
    if count == 0:
        raise ValueError("frames must hold one frame at least; got none")
    other = build_model(grouped)
    tensors = {name: model.state_dict()[name] for name in other.state_dict()}
    for name, norm in norms.items():
        for part, values in _group_norm_as(norm, seen[name]).items():
            tensors[f"backbone.{name}.{part}"] = values
    other.load_state_dict(tensors)
    return other.eval(), grouped


def _noting(statistics: Statistics) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, inputs: statistics.look(inputs[0])


@torch.no_grad()
def _group_norm_as(norm: nn.BatchNorm2d, statistics: Statistics) -> dict[str, Tensor]:
    """Weight and bias of a group norm that says of a usual image what the batch norm says."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    each = norm.num_features // statistics.groups
    mean, deviation = (part.repeat_interleave(each) for part in statistics.usual())
    return {"weight": scale * deviation, "bias": shift + scale * mean}


def main(arguments: list[str] | None = None) -> int:
    """Writes the file and names it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="MODEL", help="a trained model")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True, help="whose samples stand for all")
    parser.add_argument("--samples", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--groups", type=int, default=8, help="of a norm (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        detector = load(args.source)
        frames = _spread(detector.config, args)
        model, config = with_group_norms(
            detector.model, detector.config, frames, groups=args.groups
        )
        save_model(args.to, model, config)
    except (OSError, ValueError) as error:
        print(f"to_group_norm: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.to}: group norms of {args.groups} groups, from {args.samples} samples")
    return 0


def _spread(config: Config, args: argparse.Namespace) -> Iterable[Frame]:
    """So many frames of a split, evenly spread over it."""
    dataset = open_split(Tables(args.nuscenes, args.version), args.split, config)
    if not 0 < args.samples <= len(dataset):
        raise ValueError(f"--samples must lie in 1..{len(dataset)}; got {args.samples}")
    for index in np.linspace(0, len(dataset) - 1, args.samples).astype(int):
        yield dataset.frame(int(index))


if __name__ == "__main__":
    sys.exit(main())
