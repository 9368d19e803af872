"""Labels of the pixels of single pictures as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bevstack.config import TrainingConfig
from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.segmenters import SegmenterConfig, segmenter_differences, segmenter_to_json
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.datasets.segmentation.stream import LabelStream
from bevstack.losses.criterion import Losses
from bevstack.losses.mask_segmentation import mask_segmentation_losses, seeded_uniform
from bevstack.losses.segmentation import segmentation_losses
from bevstack.models.backbones.internimage import InternImage, InternImageBlock
from bevstack.models.build_segmentation import save_segmenter
from bevstack.models.segmentation.build import PixelModel, build_segmenter
from bevstack.models.segmentation.mask_decoder import MaskPrediction
from bevstack.models.segmentation.model import SegmentationOutput
from bevstack.models.task_files import read_start
from bevstack.tasks.segmentation_held_out import MEAN_IOU, evaluate_labels
from bevstack.tasks.task import ProcessGroup, Score, Sharding
from bevstack.types.label_maps import LabelBatch

# Logits of pixels, or Mask2Former's predictions of every layer
Output: TypeAlias = SegmentationOutput | tuple[MaskPrediction, ...]


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
        config: SegmenterConfig,
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
        return segmenter_to_json(self.config)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        return segmenter_differences(self.config, stored, free)

    def build_model(self, backbone: nn.Module | None = None) -> PixelModel:
        """Build the model."""
        assert backbone is None or isinstance(backbone, InternImage)
        return build_segmenter(self.config, backbone)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights; of a file without this task, those of the backbone.

        The rest then starts from the seed of the recipe.
        """
        seed = self.recipe.seed
        return read_start(path, SEGMENTATION, self.build_model, seed=seed, verify=verify)

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
    ) -> Output:
        """Run the model with what only training needs: auxiliary head, or every layer."""
        output: Output = model(batch.images, maps)
        return output

    def are_finite(self, outputs: Output) -> Tensor | None:
        """Return True if the outputs can be scored."""
        if isinstance(outputs, SegmentationOutput):
            return outputs.logits.isfinite().all()
        return torch.stack([tensor.isfinite().all() for tensor in outputs[-1]]).all()

    def losses(self, outputs: Output, batch: LabelBatch) -> Losses:
        """Compute the losses."""
        if isinstance(self.config, SegmentationConfig):
            assert isinstance(outputs, SegmentationOutput)
            weight = self.config.head.auxiliary_weight
            return segmentation_losses(outputs, batch.labels, auxiliary_weight=weight)
        assert not isinstance(outputs, SegmentationOutput)
        uniform = seeded_uniform(batch.seeds, batch.images.device)
        return mask_segmentation_losses(outputs, batch.labels, self.config.head, uniform)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out pictures; every process computes the same."""
        assert self.held_out is not None  # has_held_out
        return evaluate_labels(weights, self.config, self.held_out, group.device)
