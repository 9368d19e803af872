"""BEV maps of a clip's past frames, or of the frames in a stream's memory.

Letters: B batch, T frames, S slots, N cameras, C channels, L levels, Y X grid, F existing past
frames of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.geometry import BEVGrid, CameraRig, constant, invert_se3
from bevstack.models.layers.sizes import Sizes
from bevstack.models.temporal.bev_resampling import align_history, resample_bev
from bevstack.models.temporal.fusion import TemporalFusion
from bevstack.models.temporal.memory_update import advance_memory, start_memory
from bevstack.models.temporal.past_frames import (
    FramePoses,
    PastFrames,
    choose_frames,
    encode_in_passes,
    image_size,
)
from bevstack.models.temporal.reset_rules import StreamCheck, check_clip, check_stream
from bevstack.types import Batch, BEVMemory, Reset

# The function that the model gives to its history: from images (F, N, 3, H, W), or from their
# pyramid L x (F, N, C, H_l, W_l) as a memory holds it, with rig (F,) and camera slots (F, N), to
# BEV maps (F, C, Y, X).
Encode = Callable[[Tensor | Sequence[Tensor], CameraRig, Tensor], Tensor]


class History:
    """Source of past frames' BEV maps, aligned to the current frame by ``temporal.alignment``.

    - "reproject": each past frame's features are encoded at the points of the current grid,
      projected into the past images (v2 specification, sections 2.4 and 6).
    - "warp": each past frame is encoded on its own grid, and the map is resampled by the vehicle's
      motion.

    In clips, future frames are handled in the same way. History has neither weights nor state. The
    model calls it without gradient and in evaluation mode, and gives it one function that encodes
    frames. Missing frames cost nothing, except with bounds of sizes, which let all frames run.

    Args:
        config: the temporal section of the configuration.
        fusion: the module that fuses the maps; its ``frames`` are the offsets used here.
        grid: the grid of the BEV maps.
        fingerprint: of the model's configuration; a memory with another one is refused.
    """

    def __init__(
        self,
        config: TemporalConfig,
        fusion: TemporalFusion,
        *,
        grid: BEVGrid,
        fingerprint: int = 0,
    ) -> None:
        self.config = config
        self.fusion = fusion
        self.grid = grid
        self.fingerprint = fingerprint

    @property
    def frames(self) -> tuple[int, ...]:
        """Return the offsets of the frames, ascending."""
        return self.fusion.frames

    @property
    def num_slots(self) -> int:
        """Return S, the number of slots of a stream's memory: one more than the oldest offset.

        There is a slot for every offset down to the oldest, even if the model uses only a few: a
        frame that is one step old now will be eight steps old later. The additional slot holds the
        newest frame in memory, which a frame in between (less than half a step later) skips.
        """
        return 1 - self.frames[0]

    def locate_current(self, batch: Batch, memory: BEVMemory | None) -> int:
        """Check batch and memory, and return the slot of the current frame in the batch.

        Raises:
            ValueError: the batch holds neither a clip of all frames nor the current one alone; a
                memory is given with a clip or for a model that uses future frames; or the memory
                has another number of streams, or is of another model or rig size.
        """
        given = int(batch.images.shape[1])
        if given not in (1, len(self.frames)):
            raise ValueError(
                f"images must hold the {len(self.frames)} frames at {self.frames}, or the current "
                f"one alone; got {given}"
            )
        if memory is None:
            return self.fusion.current if given > 1 else 0
        if given > 1 or self.frames[-1] > 0:
            raise ValueError(
                "memory must be None for a clip, and for a model that uses future frames; got a "
                f"memory with {given} frames for a model of frames {self.frames}"
            )
        self._check_memory(batch, memory)
        return 0

    def _check_memory(self, batch: Batch, memory: BEVMemory) -> None:
        remedy = "start its streams again, with memory=None"
        if memory.batch_size != batch.batch_size:
            raise ValueError(
                f"memory must hold one stream a sample, {batch.batch_size}; got {memory.batch_size}"
            )
        fingerprints = {*memory.fingerprint, self.fingerprint}
        if len(fingerprints) > 1 or memory.num_slots != self.num_slots:
            raise ValueError(
                f"memory must be of this model, fingerprint {self.fingerprint} and "
                f"{self.num_slots} slots; got one of another model, fingerprints "
                f"{list(memory.fingerprint)} and {memory.num_slots} slots: {remedy}"
            )
        if memory.rig is None or memory.padded_size is None:
            return  # BEV maps: they fit any rig
        stored = {(memory.rig.num_cameras, *size) for size in memory.padded_size}
        wanted = (int(batch.images.shape[2]), *image_size(batch))
        if stored - {wanted}:
            raise ValueError(
                "memory must be of the batch's rig size (cameras, height, width in pixels), "
                f"{wanted}; got {sorted(stored)}: {remedy}"
            )

    def align(
        self,
        encode: Encode,
        batch: Batch,
        memory: BEVMemory | None,
        *,
        frames_per_pass: int,  # frames to encode in one call
        sizes: Sizes,
    ) -> PastFrames:
        """Return the maps of a clip's past frames; for a batch of one frame, those in memory."""
        if batch.images.shape[1] > 1:
            return self._from_clip(encode, batch, frames_per_pass, sizes)
        if memory is not None:
            return self._from_memory(encode, batch, memory, frames_per_pass, sizes)
        valid = self._offsets(batch.timestamp_us).eq(0).expand(batch.batch_size, -1)
        resets = torch.full_like(batch.timestamp_us[:, 0], Reset.START)
        none = resets[:0]  # F = 0
        return PastFrames(valid, resets, none, none, None, None)

    def is_stream_step(self, batch: Batch) -> bool:
        """Return True if the batch is a step of streams: one frame, and no future frames used."""
        return batch.images.shape[1] == 1 and self.frames[-1] == 0

    def next_memory(
        self,
        batch: Batch,  # of one frame
        memory: BEVMemory | None,
        check: StreamCheck | None,  # of this step; None without a memory
        *,
        levels: Sequence[Tensor],  # L x (B, N, C, H_l, W_l), those the BEV encoder uses
        bev: Tensor,  # (B, C, Y, X), not augmented
        sizes: Sizes | None = None,
    ) -> BEVMemory:
        """Return the memory for the next step."""
        newest = self._current_frame(batch, levels, bev)
        if memory is None or check is None:
            return start_memory(newest, self.num_slots)
        return advance_memory(memory, newest, check, self.config, sizes)

    def _from_clip(
        self, encode: Encode, batch: Batch, frames_per_pass: int, sizes: Sizes
    ) -> PastFrames:
        usable, resets = check_clip(batch, self.config, self.frames)
        row, slot = choose_frames(usable, self.fusion.current, sizes)
        world_from_current = batch.world_from_bev[:, self.fusion.current]
        warp = self.config.alignment == "warp"

        def encode_aligned(row: Tensor, slot: Tensor) -> Tensor:  # (F, C, Y, X)
            poses = FramePoses(row, batch.world_from_bev[row, slot], world_from_current[row])
            rig = batch.rig[row, slot]
            if warp:
                rig = rig.moved(invert_se3(poses.current_from_past))
            bev = encode(batch.images[row, slot], rig, batch.camera_slots[row])
            return self._resample(bev, poses, batch.bev_augmentation)

        maps = encode_in_passes(encode_aligned, row, slot, frames_per_pass)
        return PastFrames(usable, resets, row, slot, maps, None)

    def _from_memory(
        self,
        encode: Encode,
        batch: Batch,
        memory: BEVMemory,
        frames_per_pass: int,
        sizes: Sizes,
    ) -> PastFrames:
        check = check_stream(memory, batch, self.config)
        memory_slot, exists = self._memory_slots(memory, check)
        row, slot = choose_frames(exists, self.fusion.current, sizes)

        def encode_aligned(row: Tensor, slot: Tensor) -> Tensor:  # (F, C, Y, X)
            index = (row, memory_slot[row, slot])
            poses = FramePoses(row, memory.world_from_bev[index], batch.world_from_bev[row, 0])
            if memory.rig is None or memory.camera_slots is None:
                bev = memory.features[0][index]
            else:
                rig = memory.rig[index].moved(poses.current_from_past)
                levels = [level[index] for level in memory.features]
                bev = encode(levels, rig, memory.camera_slots[index])
            return self._resample(bev, poses, batch.bev_augmentation)

        maps = encode_in_passes(encode_aligned, row, slot, frames_per_pass)
        valid = exists | self._offsets(memory_slot).eq(0)
        return PastFrames(valid, check.resets, row, slot, maps, check)

    def _memory_slots(self, memory: BEVMemory, check: StreamCheck) -> tuple[Tensor, Tensor]:
        """Return the memory slot of each offset (B, T), and True if it holds a frame (B, T)."""
        offsets = self._offsets(check.steps)
        last = memory.num_slots - 1
        source = last + offsets + check.steps[:, None]
        exists = (source <= last) & (check.resets == Reset.NONE)[:, None] & (offsets < 0)
        source = source.clamp(max=last)
        return source, exists & memory.valid.gather(1, source)

    def _resample(
        self,
        bev: Tensor,  # (F, C, Y, X)
        poses: FramePoses,
        bev_augmentation: Tensor | None,  # (B, 3, 3)
    ) -> Tensor:  # (F, C, Y, X)
        """Return the maps on the current, augmented grid."""
        augmentation = None if bev_augmentation is None else bev_augmentation[poses.row]
        if self.config.alignment == "reproject":
            return resample_bev(bev, augmentation, self.grid)
        world_from_past = poses.world_from_past[:, None]
        maps = align_history(
            bev[:, None], world_from_past, poses.world_from_current, self.grid, augmentation
        )
        return maps[:, 0]

    def _current_frame(self, batch: Batch, levels: Sequence[Tensor], bev: Tensor) -> BEVMemory:
        """Return the current frame as a memory of one slot."""
        frame = (
            torch.ones_like(batch.frame_valid),
            batch.world_from_bev,
            batch.timestamp_us,
            batch.sequence_id,
            (self.fingerprint,) * batch.batch_size,
        )
        if self.config.alignment == "warp":
            return BEVMemory((bev.detach()[:, None],), *frame)
        features = tuple(level.detach()[:, None] for level in levels)
        sizes = (image_size(batch),) * batch.batch_size
        return BEVMemory(features, *frame, batch.rig, batch.camera_slots[:, None], sizes)

    def _offsets(self, like: Tensor) -> Tensor:  # (T,) int64
        return constant(like, self.frames)
