"""Parameters, operations and memory of a detector, for `bevstack doctor --config`.

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
    """Counts of one part of a detector: parameters, operations, and its runs in one step."""

    name: str
    parameters: int
    gflop: float  # of one run; a multiply-accumulate is 2 operations
    clip_runs: int  # in a clip-wise step, which encodes all frames
    stream_runs: int  # in a streaming step, which reads the past frames from memory
    training_gflop: float  # of the forward pass of a training step, all frames

    def cells(self) -> tuple[str, ...]:
        """Return the part's row of the table."""
        runs = (f"{self.gflop:.1f}", f"{self.clip_runs}", f"{self.stream_runs}")
        return (self.name, f"{self.parameters:,}", *runs, f"{self.training_gflop:.1f}")


@dataclass(frozen=True, kw_only=True)
class ConfigCount:
    """Counts of a configured detector for one sample of six cameras."""

    name: str
    image_size: tuple[int, int]  # (H, W) px, padded
    grid_shape: tuple[int, int]  # (Y, X)
    frames: int
    pairs: int  # M, of one frame
    looks_ahead: bool  # uses future frames, which excludes streaming
    frame_memory_bytes: int  # memory of a stream for each past frame, float32
    parts: tuple[PartCount, ...]

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def clip_gflop(self) -> float:
        """Return the GFLOP of a clip-wise step, which encodes all frames."""
        return sum(part.gflop * part.clip_runs for part in self.parts)

    @property
    def stream_gflop(self) -> float:
        """Return the GFLOP of a streaming step, which encodes the newest frame only."""
        return sum(part.gflop * part.stream_runs for part in self.parts)

    @property
    def training_gflop(self) -> float:
        """Return the GFLOP of the forward pass of a training step."""
        return sum(part.training_gflop for part in self.parts)

    def table(self) -> list[tuple[str, ...]]:
        """Return titles, a row of each part, and their total."""
        titles = ("part", "parameters", "GFLOP/run", "clip", "stream", "training GFLOP")
        total = ("total", f"{self.parameters:,}", "", "", "", "")
        return [titles, *(part.cells() for part in self.parts), total]

    def lines(self) -> list[str]:
        """Return the text around the table: a heading, and then what a whole step takes."""
        height, width = self.image_size
        rows, columns = self.grid_shape
        streaming = (
            "none (needs future frames)" if self.looks_ahead else f"{self.stream_gflop:,.1f}"
        )
        return [
            f"{self.name}: 6 images of {height} x {width} px, {rows} x {columns} BEV cells, "
            f"{self.frames} frame{'s' * (self.frames > 1)}, {self.pairs:,} visible pairs per frame",
            f"GFLOP per step: clip-wise {self.clip_gflop:,.1f}; streaming {streaming}; "
            f"training, forward pass {self.training_gflop:,.1f}",
            *self._memory_line(),
        ]

    def _memory_line(self) -> list[str]:
        if self.frames == 1 or self.looks_ahead:
            return []
        return [
            f"memory of a stream: {self.frame_memory_bytes / MEGA:,.1f} MB per past frame (float32)"
        ]


def count_config(config: str | Config, *, pairs: int | None = None) -> ConfigCount:
    """Count parameters, operations and memory of a configured detector without allocating it.

    The visible pairs are those of the cameras of nuScenes' first car; past frames are assumed to
    have the same number. Elementwise operations, norms, softmax and non-maximum suppression are not
    counted.

    Args:
        config: the configuration, or its name or file as in ``load_config``.
        pairs: M, number of visible pairs of one frame. None: those of the first car's cameras.

    Raises:
        FileNotFoundError: there is no such configuration.
        ValueError: fields of the configuration contradict each other.
    """
    import torch

    from bevstack.models.build import build_model

    config = config if isinstance(config, Config) else load_config(config)
    with torch.device("meta"):
        model = build_model(config).eval()
    rig = nominal_rig(config)
    size = padded_size(config, rig)
    if pairs is None:
        pairs = count_pairs(config, rig, size, step=model.encoder.pair_step)
    parts, memory_numbers = _count_parts(model, config, size, rig.num_cameras, pairs)
    return ConfigCount(
        name=config.name,
        image_size=size,
        grid_shape=config.grid.shape,
        frames=len(config.frames),
        pairs=pairs,
        looks_ahead=config.frames[-1] > 0,
        frame_memory_bytes=memory_numbers * FLOAT32_BYTES,
        parts=(*parts, *_traffic_part(config)),
    )


def _traffic_part(config: Config) -> tuple[PartCount, ...]:
    """Return the traffic head with its own pass through the backbone, if there is one."""
    from bevstack.costs.traffic import count_traffic

    if config.traffic is None:
        return ()
    count = count_traffic(config)
    gflop = 2 * sum(work.total for work in count.passes) / GIGA
    part = PartCount(
        name="traffic",
        parameters=count.parameters,
        gflop=gflop,
        clip_runs=1,
        stream_runs=1,
        training_gflop=gflop,
    )
    return (part,)


def nominal_rig(config: Config) -> CameraRig:
    """Return the cameras of nuScenes' first car with the configured image size; no leading axes."""
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
    kept_rows = round(height * config.images.keep_bottom)
    size = target_size((kept_rows, width), config.images)
    return native.cropped(0, height - kept_rows, (kept_rows, width)).resized(size)


def padded_size(config: Config, rig: CameraRig) -> tuple[int, int]:
    """Return (H, W) px of the padded images, which the features cover."""
    multiple = config.images.pad_to
    height, width = (-(-int(side) // multiple) * multiple for side in rig.image_size[0])
    return height, width


def count_pairs(config: Config, rig: CameraRig, size: tuple[int, int], *, step: int) -> int:
    """Return M, the number of visible pairs of one frame, padded to a multiple of ``step``."""
    from bevstack.models.detection3d.visible_pairs import find_visible_pairs

    visible = find_visible_pairs(
        type(rig).stack([rig]),
        config.grid,
        num_heights=config.encoder.num_heights,
        padded_size=size,
        capacity_step=step,
    )
    return int(visible.camera.shape[0])


def _count_parts(
    model: BEVFormerV2, config: Config, size: tuple[int, int], cameras: int, pairs: int
) -> tuple[list[PartCount], int]:
    """Return the counts of the parts in the order of a step, and the memory of a past frame.

    Each part runs on the output shapes of the part before. The memory is a number of elements: of
    the frame's BEV map, or of the pyramid levels that the BEV encoder reads.
    """
    import torch

    from bevstack.costs.macs import run_and_count, shapes_only

    frames = len(config.frames)
    keeps_bev = config.temporal is not None and config.temporal.alignment == "warp"
    head_runs = 0 if config.proposals is None else 1
    with shapes_only(model):
        work, maps = run_and_count(model.backbone, torch.empty(cameras, 3, *size))
        parts = [_part("backbone", model.backbone, work, frames, 1, frames)]
        work, pyramid = run_and_count(model.neck, maps)
        parts.append(_part("neck", model.neck, work, frames, 1, frames))
        if model.perspective_head is not None:
            head = model.perspective_head
            work, _ = run_and_count(head, *head_inputs(config, pyramid))
            parts.append(_part("perspective_head", head, work, head_runs, head_runs, 1))
        work, bev = run_and_count(model.encoder, *encoder_inputs(model, pyramid, pairs))
        encoder_runs = 1 if keeps_bev else frames
        levels = pyramid[: model.encoder.num_levels]
        memory_numbers = bev.numel() if keeps_bev else sum(level.numel() for level in levels)
        parts.append(_part("encoder", model.encoder, work, frames, encoder_runs, frames))
        if model.fusion is not None:
            usable = torch.ones(1, frames, dtype=torch.bool)
            work, bev = run_and_count(
                model.fusion, bev[:, None].expand(-1, frames, -1, -1, -1), usable
            )
            parts.append(_part("fusion", model.fusion, work, 1, 1, 1))
        inputs = (bev, *empty_proposals(config))
        work, _ = run_and_count(model.decoder, *inputs)
        training_work, _ = run_and_count(model.decoder.train(), *inputs)
        parts.append(_part("decoder", model.decoder, work, 1, 1, training_work))
    return parts, memory_numbers


def head_inputs(
    config: Config, pyramid: Sequence[Tensor]
) -> tuple[Sequence[Tensor], list[Tensor] | None]:
    """Return the inputs of the perspective head for the (I, C, H, W) levels of one frame."""
    needs_ground = (
        config.perspective is not None and config.perspective.changes.ground_z_m is not None
    )
    return pyramid, [level[:, 0] for level in pyramid] if needs_ground else None


def _part(
    name: str,
    module: nn.Module,
    work: MACCounts,
    clip_runs: int,
    stream_runs: int,
    training: int | MACCounts,  # runs in a training step, or the counts of the only run
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
    """Return the inputs of the BEV encoder for one sample; only their shapes have a meaning."""
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


def empty_proposals(config: Config) -> tuple[Any, ...]:
    """Return the decoder's proposals for one sample, if any; only their shapes have a meaning."""
    import torch

    from bevstack.models.perspective.proposals import Proposals
    from bevstack.types import Boxes3D

    if config.proposals is None:
        return ()
    rows = (1, config.proposals.max_proposals)
    return (
        Proposals(
            reference_points=torch.empty(*rows, 3),
            valid=torch.empty(rows, dtype=torch.bool),
            boxes=Boxes3D(*(torch.empty(*rows, *axes) for axes in ((3,), (3,), (), (2,)))),
            scores=torch.empty(rows),
            labels=torch.empty(rows, dtype=torch.int64),
        ),
    )
