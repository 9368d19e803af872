"""3D detection in the bird's-eye view as a task: BEVFormer v2 on nuScenes, scored by NDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from bevstack.config import Config, TrainingConfig, config_to_json, stored_differences
from bevstack.datasets.batch_stream import BatchStream, ClipLabels
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.usable_boxes import check_usable_boxes
from bevstack.losses.criterion import Losses
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.backbones.internimage import InternImage, InternImageBlock
from bevstack.models.backbones.resnet import Bottleneck, ResNet
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import build_model, load_model, save_weights
from bevstack.models.detection3d.bev_encoder import BEVEncoderLayer
from bevstack.models.detection3d.decoder import DecoderLayer
from bevstack.models.perspective.camera_views import PerspectiveViews
from bevstack.tasks.held_out import check_scored_boxes, evaluate_held_out
from bevstack.tasks.task import ProcessGroup, Score, Sharding
from bevstack.types import Batch


class Detection3D:
    """The task "detection3d"; ``tasks.task.Task`` describes its members.

    Args:
        config: the detector and its recipe.
        dataset: the training samples; None for a task that only builds, reads or writes models.
        held_out: samples with annotations that are not used in training; None: no evaluation.

    Raises:
        ValueError: no box of the training samples can be learned, or none of the held-out samples
            can be scored (gives the reason), or a box is faulty (names its annotation).
    """

    def __init__(
        self,
        config: Config,
        dataset: NuScenesDataset | None = None,
        *,
        held_out: NuScenesDataset | None = None,
    ) -> None:
        if dataset is not None:
            check_usable_boxes(dataset, config)
        if held_out is not None:
            check_scored_boxes(held_out)
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.criterion = DetectorCriterion(config.loss, config.perspective)
        self.names = ("detection3d",)
        self.headline = "nds"
        self.view = "surround"
        self.all_parts_run = True
        self.recipe = config.training
        self.has_held_out = held_out is not None
        parts = (InternImageBlock, Bottleneck, BEVEncoderLayer, DecoderLayer)
        # Samples with histories of different lengths run the parts a different number of times.
        self.sharding = Sharding(parts, run_equally_often=config.temporal is None)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return config_to_json(self.config)

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how a stored ``to_json`` differs."""
        return stored_differences(self.config, stored, free)

    def build_model(self, backbone: nn.Module | None = None) -> BEVFormerV2:
        """Build the model."""
        assert backbone is None or isinstance(backbone, (InternImage, ResNet))
        return build_model(self.config, backbone)

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights."""
        return load_model(path, expected=self.config, verify=verify)[0].state_dict()

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write a model file."""
        save_weights(path, weights, self.config, metadata)

    def make_batches(
        self,
        recipe: TrainingConfig,
        group: ProcessGroup,
        *,
        start: int,
        labels: Sequence[ClipLabels] = (),
    ) -> BatchStream:
        """Build the stream of training batches."""
        assert self.dataset is not None  # only models without it
        return make_training_loader(
            self.dataset,
            replace(self.config, training=recipe),
            start=start,
            rank=group.rank,
            world_size=group.world_size,
            pin_memory=group.device.type == "cuda",
            labels=labels,
        )

    def images(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the images of the current frame's cameras."""
        assert isinstance(model, BEVFormerV2)
        return model.current_frame(batch, None)[0].flatten(0, 1)

    def forward(
        self,
        model: nn.Module,
        batch: Batch,
        maps: Sequence[Tensor] | None = None,
        *,
        first_stage: bool,
    ) -> BEVFormerOutput | PerspectiveViews:
        """Run the model; in the first stage backbone, neck and perspective head alone."""
        assert isinstance(model, BEVFormerV2)
        if not first_stage:
            output: BEVFormerOutput = model(batch, maps=maps)
            return output
        images, rig = model.current_frame(batch, None)
        views = model.run_perspective_head(model.extract_pyramid(images, maps), rig, batch)
        assert views is not None  # the model has a perspective head: Config checks it
        return views

    def are_finite(self, outputs: BEVFormerOutput | PerspectiveViews) -> Tensor | None:
        """Return True if the outputs can be scored."""
        return self.criterion.can_match(outputs) if isinstance(outputs, BEVFormerOutput) else None

    def losses(self, outputs: BEVFormerOutput | PerspectiveViews, batch: Batch) -> Losses:
        """Compute the losses."""
        if isinstance(outputs, BEVFormerOutput):
            return self.criterion(outputs, batch, self.config.grid)
        return self.criterion.perspective_losses(outputs, batch)

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights by the nuScenes metric; each sample is predicted from its clip."""
        assert self.held_out is not None  # has_held_out
        metrics = evaluate_held_out(weights, self.config, self.held_out, folder, group)
        return Score(metrics.figures(), metrics)
