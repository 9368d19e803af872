"""Traffic lights and signs as a task: their state, place and relevance in the front cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bevstack.config import Config, TrainingConfig, config_to_json, stored_differences
from bevstack.datasets.traffic_view.samples import FrontSamples
from bevstack.datasets.traffic_view.stream import (
    TASK,
    TrafficClipLabels,
    TrafficStream,
    ViewSamples,
)
from bevstack.losses.criterion import Losses
from bevstack.losses.traffic import traffic_losses
from bevstack.models.backbones.internimage import InternImage, InternImageBlock
from bevstack.models.backbones.resnet import Bottleneck, ResNet
from bevstack.models.build_traffic import (
    build_traffic_model,
    mapless_section,
    read_traffic_weights,
)
from bevstack.models.task_files import write_task_file
from bevstack.models.traffic.model import TrafficModel, TrafficOutput
from bevstack.tasks.task import ProcessGroup, Score, Sharding
from bevstack.tasks.traffic_held_out import evaluate_traffic
from bevstack.types.traffic_batch import TrafficBatch


class Traffic(TrafficClipLabels):
    """The task "traffic"; ``tasks.task.Task`` and ``ClipLabels`` describe its members.

    Args:
        config: the detector, with a traffic section, and its recipe.
        samples: the training samples with labels; None for a task that only builds, reads or
            writes models.
        held_out: labelled samples that are not used in training; None: no evaluation.

    Raises:
        ValueError: the configuration has no traffic section.
    """

    def __init__(
        self,
        config: Config,
        samples: FrontSamples | None = None,
        *,
        held_out: FrontSamples | None = None,
    ) -> None:
        self.section = mapless_section(config)
        self.config = config
        self.own_samples: ViewSamples | None = samples
        self.held_out = held_out
        self.names = (TASK,)
        self.headline = "headline"
        self.view = "front"
        self.all_parts_run = False  # a batch may hold no light, or no front camera
        self.recipe = config.training
        self.has_held_out = held_out is not None
        self.sharding = Sharding((InternImageBlock, Bottleneck), run_equally_often=False)
        if samples is not None:
            super().__init__(samples)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return config_to_json(self.config)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        return stored_differences(self.config, stored, free)

    def build_model(self, backbone: nn.Module | None = None) -> TrafficModel:
        """Build the model."""
        assert backbone is None or isinstance(backbone, (InternImage, ResNet))
        return build_traffic_model(self.config, backbone)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights; of a file without this task, those of the backbone."""
        return read_traffic_weights(path, self.config, verify=verify)

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write a model file, named as in a joint model."""
        write_task_file(path, TASK, weights, config_json=self.to_json(), metadata=metadata)

    def make_batches(
        self,
        recipe: TrainingConfig,
        group: ProcessGroup,
        *,
        start: int,
        labels: Sequence[object] = (),
    ) -> TrafficStream:
        """Build the stream of training batches."""
        assert self.own_samples is not None and not labels
        return TrafficStream(
            self.own_samples,
            recipe,
            start=start,
            rank=group.rank,
            world_size=group.world_size,
            pin_memory=group.device.type == "cuda",
        )

    def images(self, model: nn.Module, batch: TrafficBatch) -> Tensor:
        """Return the images of the front cameras."""
        return batch.views.images

    def forward(
        self,
        model: nn.Module,
        batch: TrafficBatch,
        maps: Sequence[Tensor] | None = None,
        *,
        first_stage: bool,
    ) -> TrafficOutput | Tensor:
        """Run the model; without an image, return a zero that carries a gradient."""
        assert isinstance(model, TrafficModel)
        if not batch.num_images:
            return torch.stack([parameter.sum() * 0 for parameter in model.parameters()]).sum()
        output: TrafficOutput = model(batch.views, batch.targets)
        return output

    def are_finite(self, outputs: TrafficOutput | Tensor) -> Tensor | None:
        """Return True if the outputs can be scored."""
        if isinstance(outputs, Tensor):
            return None
        return outputs.dense.logits.isfinite().all() & outputs.region.score.isfinite().all()

    def losses(self, outputs: TrafficOutput | Tensor, batch: TrafficBatch) -> Losses:
        """Compute the losses."""
        if isinstance(outputs, Tensor):
            return Losses(outputs, {})
        return traffic_losses(outputs, batch, self.section)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out samples."""
        assert self.held_out is not None  # has_held_out
        return evaluate_traffic(weights, self.config, self.held_out, folder, group)
