"""Objects in single pictures as a task: boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bevstack.config import TrainingConfig
from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.picture_detectors import (
    PictureDetectorConfig,
    picture_detector_differences,
    picture_detector_to_json,
)
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.stream import PictureStream
from bevstack.losses.criterion import Losses
from bevstack.losses.detection2d import detection2d_losses
from bevstack.losses.dino import dino_losses
from bevstack.models.backbones.composite import CompositeInternImage
from bevstack.models.backbones.internimage import InternImage, InternImageBlock
from bevstack.models.build_detection2d import save_detector2d
from bevstack.models.detection2d.build import PictureModel, build_picture_model
from bevstack.models.detection2d.dino.model import DinoOutput
from bevstack.models.detection2d.model import TrainingOutput
from bevstack.models.task_files import read_start
from bevstack.tasks.detection2d_held_out import evaluate_pictures, headline_of
from bevstack.tasks.task import ProcessGroup, Score, Sharding
from bevstack.types.pictures2d import PictureBatch


class Detection2D:
    """The task "detection2d"; ``tasks.task.Task`` describes its members.

    Args:
        config: the detector and its recipe.
        dataset: the training pictures; None for a task that only builds, reads or writes models.
        held_out: labelled pictures that are not used in training; None: no evaluation.
    """

    def __init__(
        self,
        config: PictureDetectorConfig,
        dataset: CocoDataset | None = None,
        *,
        held_out: CocoDataset | None = None,
    ) -> None:
        self.config, self.dataset, self.held_out = config, dataset, held_out
        self.names = (DETECTION2D,)
        self.headline = headline_of(config)
        self.view = "pictures"
        self.all_parts_run = False  # a batch without a positive region trains no masks
        self.recipe = config.training
        self.has_held_out = held_out is not None
        self.sharding = Sharding((InternImageBlock,), run_equally_often=True)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return picture_detector_to_json(self.config)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        return picture_detector_differences(self.config, stored, free)

    def build_model(self, backbone: nn.Module | None = None) -> PictureModel:
        """Build the model."""
        assert backbone is None or isinstance(backbone, (InternImage, CompositeInternImage))
        return build_picture_model(self.config, backbone)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights; of a file without this task, those of the backbone.

        The rest then starts from the seed of the recipe.
        """
        seed = self.recipe.seed
        return read_start(path, DETECTION2D, self.build_model, seed=seed, verify=verify)

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write a model file, named as in a joint model."""
        save_detector2d(path, weights, self.config, metadata)

    def make_batches(
        self,
        recipe: TrainingConfig,
        group: ProcessGroup,
        *,
        start: int,
        labels: Sequence[object] = (),
    ) -> PictureStream:
        """Build the stream of training batches."""
        assert self.dataset is not None and not labels
        return PictureStream(
            self.dataset,
            self.config,
            recipe=recipe,
            start=start,
            rank=group.rank,
            world_size=group.world_size,
        )

    def images(self, model: nn.Module, batch: PictureBatch) -> Tensor:
        """Return the pictures."""
        return batch.images

    def forward(
        self,
        model: nn.Module,
        batch: PictureBatch,
        maps: Sequence[Tensor] | None = None,
        *,
        first_stage: bool,
    ) -> TrainingOutput | DinoOutput:
        """Run the model; sample regions, or add objects with noise."""
        output: TrainingOutput | DinoOutput = model(batch, maps)
        return output

    def are_finite(self, outputs: TrainingOutput | DinoOutput) -> Tensor | None:
        """Return True if the outputs can be scored."""
        if isinstance(outputs, DinoOutput):
            all_outputs = [outputs] if outputs.first is None else [outputs, outputs.first]
            tensors = [tensor for own in all_outputs for tensor in (own.logits, own.boxes)]
            return torch.stack([tensor.isfinite().all() for tensor in tensors]).all()
        finite = [level.isfinite().all() for level in outputs.rpn.logits]
        finite += [stage.box.logits.isfinite().all() for stage in outputs.stages]
        return torch.stack(finite).all()

    def losses(self, outputs: TrainingOutput | DinoOutput, batch: PictureBatch) -> Losses:
        """Compute the losses."""
        if isinstance(self.config, Detection2DConfig):
            assert isinstance(outputs, TrainingOutput)
            return detection2d_losses(outputs, batch, self.config)
        assert isinstance(outputs, DinoOutput)
        return dino_losses(outputs, batch, self.config.dino)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out pictures."""
        assert self.held_out is not None  # has_held_out
        return evaluate_pictures(weights, self.config, self.held_out, group.device)
