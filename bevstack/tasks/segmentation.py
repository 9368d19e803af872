"""Labels of the pixels of single pictures as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bevstack.config import TrainingConfig
from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.serialization import (
    config_to_json,
    first_differences,
    union_from_json,
)
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.datasets.segmentation.stream import LabelStream
from bevstack.losses.criterion import Losses
from bevstack.losses.segmentation import segmentation_losses
from bevstack.models.backbones.internimage import InternImage, InternImageBlock
from bevstack.models.build_segmentation import read_segmenter, save_segmenter
from bevstack.models.segmentation.model import SegmentationOutput, Segmenter
from bevstack.models.weights import BACKBONE, read_weights_file
from bevstack.tasks.segmentation_held_out import MEAN_IOU, evaluate_labels
from bevstack.tasks.task import ProcessGroup, Score, Sharding
from bevstack.types.label_maps import LabelBatch


class Segmentation:
    """The task "segmentation"; ``tasks.task.Task`` describes its members.

    Args:
        config: the model and its recipe.
        dataset: the training pictures, with the labels of the configuration's classes; None for a
            task that only builds, reads or writes models.
        held_out: labelled pictures that are not used in training; None: no evaluation.
    """

    def __init__(
        self,
        config: SegmentationConfig,
        dataset: LabelledPictures | None = None,
        *,
        held_out: LabelledPictures | None = None,
    ) -> None:
        self.config, self.dataset, self.held_out = config, dataset, held_out
        self.names = (SEGMENTATION,)
        self.headline = MEAN_IOU
        self.view = "labelled_pictures"
        self.all_parts_run = True
        self.recipe = config.training
        self.has_held_out = held_out is not None
        self.sharding = Sharding((InternImageBlock,), run_equally_often=True)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return config_to_json(self.config)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        theirs: SegmentationConfig = union_from_json(SegmentationConfig, stored)
        values = {name: getattr(self.config.training, name) for name in free}
        theirs = replace(theirs, training=replace(theirs.training, **values))
        return first_differences(self.config, theirs)

    def build_model(self, backbone: nn.Module | None = None) -> Segmenter:
        """Build the model."""
        assert backbone is None or isinstance(backbone, InternImage)
        return Segmenter(self.config, backbone)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights; of a file without this task, those of the backbone.

        The rest then starts from the seed of the recipe.
        """
        _, tensors, metadata = read_weights_file(path, verify=verify)
        if SEGMENTATION in metadata.get("tasks", ""):
            return read_segmenter(path, verify=verify)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            fresh: dict[str, Tensor] = self.build_model().state_dict()
        shared = {n: v for n, v in tensors.items() if n.startswith(BACKBONE) and n in fresh}
        return {**fresh, **{name: v.to(fresh[name].dtype) for name, v in shared.items()}}

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write a model file, named as in a joint model."""
        save_segmenter(path, weights, self.config, metadata)

    def make_batches(
        self,
        recipe: TrainingConfig,
        group: ProcessGroup,
        *,
        start: int,
        labels: Sequence[object] = (),
    ) -> LabelStream:
        """Build the stream of training batches."""
        assert self.dataset is not None and not labels
        return LabelStream(
            self.dataset,
            self.config,
            recipe=recipe,
            start=start,
            rank=group.rank,
            world_size=group.world_size,
        )

    def images(self, model: nn.Module, batch: LabelBatch) -> Tensor:
        """Return the pictures."""
        return batch.images

    def forward(
        self,
        model: nn.Module,
        batch: LabelBatch,
        maps: Sequence[Tensor] | None = None,
        *,
        first_stage: bool,
    ) -> SegmentationOutput:
        """Run the model with its auxiliary head."""
        output: SegmentationOutput = model(batch.images, maps)
        return output

    def are_finite(self, outputs: SegmentationOutput) -> Tensor | None:
        """Return True if the outputs can be scored."""
        return outputs.logits.isfinite().all()

    def losses(self, outputs: SegmentationOutput, batch: LabelBatch) -> Losses:
        """Compute the losses."""
        weight = self.config.head.auxiliary_weight
        return segmentation_losses(outputs, batch.labels, auxiliary_weight=weight)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out pictures; every process computes the same."""
        assert self.held_out is not None  # has_held_out
        return evaluate_labels(weights, self.config, self.held_out, group.device)
