"""Counts what a detector holds and computes a step, for `bevstack doctor --config`.

Letters: N cameras, H W image, Y X grid, M visible (camera, query) pairs, Z heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bevstack.config import Config, load_config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bevstack.costs.macs import MACCounts
    from bevstack.geometry import CameraRig
    from bevstack.models.bevformer import BEVFormerV2

GIGA = 1e9
MEGA = 1e6
FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class PartCount:
    """One part of a detector: its size, the work of one run, and how often a step runs it."""

    name: str
    parameters: int
    gflop: float  # of one run, 2 a multiply-accumulate
    clip_runs: int  # in a step that encodes all frames
    stream_runs: int  # in a step that finds the past in memory
    training_gflop: float  # forward pass of a training step, all frames

    def columns(self) -> str:
        """One line of the table."""
        return (
            f"{self.name:<18}{self.parameters:>13,}{self.gflop:>12.1f}"
            f"{self.clip_runs:>6}{self.stream_runs:>8}{self.training_gflop:>14.1f}"
        )


@dataclass(frozen=True, kw_only=True)
class ConfigCount:
    """A configuration's counts for one sample of six cameras."""

    name: str
    image_size: tuple[int, int]  # (H, W) px, padded
    grid_shape: tuple[int, int]  # (Y, X)
    frames: int
    pairs: int  # M of one frame
    looks_ahead: bool  # then there is no streaming: the future is not in memory
    frame_memory_bytes: int  # of what a stream keeps of one frame, float32
    parts: tuple[PartCount, ...]

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def clip_gflop(self) -> float:
        """A step that encodes all frames."""
        return sum(part.gflop * part.clip_runs for part in self.parts)

    @property
    def stream_gflop(self) -> float:
        """A step that encodes the newest frame and finds the others in memory."""
        return sum(part.gflop * part.stream_runs for part in self.parts)

    @property
    def training_gflop(self) -> float:
        """The forward pass of a training step."""
        return sum(part.training_gflop for part in self.parts)

    def lines(self) -> list[str]:
        """The counts as text."""
        height, width = self.image_size
        rows, columns = self.grid_shape
        streaming = "none: it looks ahead" if self.looks_ahead else f"{self.stream_gflop:,.1f}"
        return [
            f"{self.name}: 6 images of {height} x {width} px, {rows} x {columns} BEV cells, "
            f"{self.frames} frame{'s' * (self.frames > 1)}, {self.pairs:,} visible pairs a frame",
            f"{'':<18}{'parameters':>13}{'GFLOP a run':>12}{'clip':>6}{'stream':>8}"
            f"{'training GFLOP':>15}",
            *(part.columns() for part in self.parts),
            f"{'all':<18}{self.parameters:>13,}",
            f"GFLOP of a step: clip-wise {self.clip_gflop:,.1f}; streaming {streaming}; "
            f"training, forward only {self.training_gflop:,.1f}",
            *self._memory_line(),
        ]

    def _memory_line(self) -> list[str]:
        if self.frames == 1 or self.looks_ahead:
            return []
        return [f"a stream keeps {self.frame_memory_bytes / MEGA:,.1f} MB a past frame (float32)"]


def count_config(name_or_path: str, *, pairs: int | None = None) -> ConfigCount:
    """Counts the detector of a configuration without allocating it.

    The visible pairs are those of the first nuScenes car's cameras; frames of the past are taken to
    have as many. Elementwise work, norms, softmax and non-maximum suppression are not counted.

    Args:
        name_or_path: as ``load_config`` takes it.
        pairs: another number of visible pairs.

    Raises:
        FileNotFoundError: no such configuration.
        ValueError: it contradicts itself.
    """
    import torch

    from bevstack.models.build import build_model

    config = load_config(name_or_path)
    with torch.device("meta"):
        model = build_model(config).eval()
    rig = nominal_rig(config)
    size = padded_size(config, rig)
    found = count_pairs(config, rig, size, step=model.encoder.pair_step) if pairs is None else pairs
    parts, kept = _count_parts(model, config, size, rig.num_cameras, found)
    return ConfigCount(
        name=config.name,
        image_size=size,
        grid_shape=config.grid.shape,
        frames=len(config.frames),
        pairs=found,
        looks_ahead=config.frames[-1] > 0,
        frame_memory_bytes=kept * FLOAT32_BYTES,
        parts=tuple(parts),
    )


def nominal_rig(config: Config) -> CameraRig:
    """The first nuScenes car's cameras, images as the configuration wants them; no leading axes."""
    import torch

    from bevstack.datasets.preprocess import target_size
    from bevstack.geometry import CameraRig, nominal_bev_from_ego
    from bevstack.synthetic.rig import NATIVE_SIZE, make_rig

    mounts = make_rig("n015", NATIVE_SIZE, None).cameras
    ego_from_cam = torch.eye(4, dtype=torch.float64).repeat(len(mounts), 1, 1)
    for matrix, mount in zip(ego_from_cam, mounts, strict=True):
        matrix[:3, :3] = torch.as_tensor(mount.ego_from_cam_rotation)
        matrix[:3, 3] = torch.as_tensor(mount.ego_from_cam_translation_m)
    native = CameraRig(
        torch.stack([torch.as_tensor(mount.intrinsics) for mount in mounts]),
        nominal_bev_from_ego(config.grid.frame) @ ego_from_cam,
        torch.tensor(NATIVE_SIZE).expand(len(mounts), 2),
        torch.ones(len(mounts), dtype=torch.bool),
    )
    height, width = NATIVE_SIZE
    kept = round(height * config.images.keep_bottom)
    size = target_size((kept, width), config.images)
    return native.cropped(0, height - kept, (kept, width)).resized(size)


def padded_size(config: Config, rig: CameraRig) -> tuple[int, int]:
    """(H, W) px that features cover."""
    multiple = config.images.pad_to
    height, width = (-(-int(side) // multiple) * multiple for side in rig.image_size[0])
    return height, width


def count_pairs(config: Config, rig: CameraRig, size: tuple[int, int], *, step: int) -> int:
    """M of one frame, padding included."""
    from bevstack.models.detection3d.visible_pairs import find_visible_pairs

    found = find_visible_pairs(
        type(rig).stack([rig]),
        config.grid,
        num_heights=config.encoder.num_heights,
        padded_size=size,
        capacity_step=step,
    )
    return int(found.camera.shape[0])


def _count_parts(
    model: BEVFormerV2, config: Config, size: tuple[int, int], cameras: int, pairs: int
) -> tuple[list[PartCount], int]:
    """The parts in the order of a step, each run on the last one's shapes, and what is kept.

    What a stream keeps of a frame: numbers of its BEV map, or of the pyramid that it comes from.
    """
    import torch

    from bevstack.costs.macs import run_counted, shapes_only

    frames = len(config.frames)
    remembers_maps = config.temporal is not None and config.temporal.alignment == "warp"
    proposing = 0 if config.proposals is None else 1
    with shapes_only(model):
        work, maps = run_counted(model.backbone, torch.empty(cameras, 3, *size))
        parts = [_part("backbone", model.backbone, work, frames, 1, frames)]
        work, pyramid = run_counted(model.neck, maps)
        parts.append(_part("neck", model.neck, work, frames, 1, frames))
        if model.perspective_head is not None:
            head = model.perspective_head
            work, _ = run_counted(head, *head_inputs(config, pyramid))
            parts.append(_part("perspective_head", head, work, proposing, proposing, 1))
        work, bev = run_counted(model.encoder, *encoder_inputs(model, pyramid, pairs))
        encoded = 1 if remembers_maps else frames
        levels = pyramid[: model.encoder.num_levels]
        kept = bev.numel() if remembers_maps else sum(level.numel() for level in levels)
        parts.append(_part("encoder", model.encoder, work, frames, encoded, frames))
        if model.fusion is not None:
            known = torch.ones(1, frames, dtype=torch.bool)
            work, bev = run_counted(
                model.fusion, bev[:, None].expand(-1, frames, -1, -1, -1), known
            )
            parts.append(_part("fusion", model.fusion, work, 1, 1, 1))
        inputs = (bev, *no_proposals(config))
        work, _ = run_counted(model.decoder, *inputs)
        in_training, _ = run_counted(model.decoder.train(), *inputs)
        parts.append(_part("decoder", model.decoder, work, 1, 1, in_training))
    return parts, kept


def head_inputs(
    config: Config, pyramid: Sequence[Tensor]
) -> tuple[Sequence[Tensor], list[Tensor] | None]:
    """What the perspective head of a configuration takes, of one frame's (I, C, H, W) levels."""
    told = config.perspective is not None and config.perspective.changes.ground_z_m is not None
    return pyramid, [level[:, 0] for level in pyramid] if told else None


def _part(
    name: str,
    module: nn.Module,
    work: MACCounts,
    clip_runs: int,
    stream_runs: int,
    training: int | MACCounts,  # runs in training, or the work of its one run
) -> PartCount:
    from bevstack.costs.macs import count_parameters

    gflop = 2 * work.total / GIGA
    return PartCount(
        name=name,
        parameters=count_parameters(module),
        gflop=gflop,
        clip_runs=clip_runs,
        stream_runs=stream_runs,
        training_gflop=training * gflop if isinstance(training, int) else 2 * training.total / GIGA,
    )


def encoder_inputs(model: BEVFormerV2, pyramid: Sequence[Tensor], pairs: int) -> tuple[Any, ...]:
    """What the encoder takes of one sample, shapes alone."""
    import torch

    from bevstack.models.detection3d.visible_pairs import VisiblePairs

    levels = [level[None] for level in pyramid[: model.encoder.num_levels]]
    rows, columns = model.grid.shape
    index = torch.empty(pairs, dtype=torch.int64)
    visible = VisiblePairs(
        camera=index,
        query=index,
        anchors=torch.empty(pairs, model.encoder.num_heights, 2),
        num_cameras=torch.empty(1, rows * columns, dtype=torch.int64),
    )
    return levels, visible, torch.empty(1, pyramid[0].shape[0], dtype=torch.int64)


def no_proposals(config: Config) -> tuple[Any, ...]:
    """Places for proposals of one sample, where the decoder takes them; shapes alone."""
    import torch

    from bevstack.models.perspective.proposals import Proposals
    from bevstack.types import Boxes3D

    if config.proposals is None:
        return ()
    places = (1, config.proposals.max_proposals)
    return (
        Proposals(
            reference_points=torch.empty(*places, 3),
            valid=torch.empty(places, dtype=torch.bool),
            boxes=Boxes3D(*(torch.empty(*places, *axes) for axes in ((3,), (3,), (), (2,)))),
            scores=torch.empty(places),
            labels=torch.empty(places, dtype=torch.int64),
        ),
    )
