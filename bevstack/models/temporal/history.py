"""The other frames of a clip, or what a stream remembers of them, as BEV maps beside the current.

Letters: B batch, T frames, S slots, N cameras, C channels, L levels, Y X grid, F frames that exist
besides the current ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.geometry import BEVGrid, invert_se3
from bevstack.models.temporal.bev_resampling import align_history, resample_bev
from bevstack.models.temporal.fusion import TemporalFusion
from bevstack.models.temporal.memory_update import advance_memory, start_memory
from bevstack.models.temporal.past_frames import (
    FrameEncoder,
    Lookback,
    Moment,
    blacken_lost,
    encode_in_passes,
    frames_per_pass,
    image_size,
)
from bevstack.models.temporal.reset_rules import StreamCheck, check_clip, check_stream
from bevstack.types import Batch, BEVMemory, Reset, sequence_ids


class History:
    """Looks back (and, in clips, ahead) from the current frame, as ``temporal.alignment`` says.

    "reproject": features of each frame are encoded at the points of the current grid projected
    into the old images (v2 specification, sections 2.4 and 6). "warp": each frame is encoded on
    its own grid, and the map is resampled by the vehicle's motion. It has no weights of its own
    and no state. All of it runs without gradient and in evaluation mode; a missing frame costs
    nothing.

    Args:
        config: the temporal section of the configuration.
        fusion: what will fuse the maps; says which frames there are.
        fingerprint: of the model's configuration; a memory that bears another is refused.
    """

    def __init__(
        self, config: TemporalConfig, fusion: TemporalFusion, *, fingerprint: int = 0
    ) -> None:
        self.config = config
        self.fusion = fusion
        self.fingerprint = fingerprint

    @property
    def frames(self) -> tuple[int, ...]:
        """Offsets of the frames, ascending."""
        return self.fusion.frames

    @property
    def num_slots(self) -> int:
        """S of a stream's memory: the oldest offset and one more.

        The one more is the newest frame kept, which a frame that comes in between does not look
        at. All slots up to the oldest are there even where few are looked at: what is one step old
        now will be eight steps old.
        """
        return 1 - self.frames[0]

    def current_slot(self, batch: Batch, memory: BEVMemory | None) -> int:
        """Where in the batch the current frame lies, once batch and memory are what they must be.

        Raises:
            ValueError: neither a clip of all frames nor the current one alone; a memory beside a
                clip or for a model that looks ahead; a memory of another number of streams, of
                another model or rig size.
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
                "memory must be None for a clip, and for a model that looks ahead; got a memory "
                f"with {given} frames for a model of frames {self.frames}"
            )
        self._check_memory(batch, memory)
        return 0

    def _check_memory(self, batch: Batch, memory: BEVMemory) -> None:
        anew = "start its streams anew, with memory=None"
        if memory.batch_size != batch.batch_size:
            raise ValueError(
                f"memory must hold one stream a sample, {batch.batch_size}; got {memory.batch_size}"
            )
        marks = set(memory.fingerprint.tolist()) | {self.fingerprint}
        if len(marks) > 1 or memory.num_slots != self.num_slots:
            raise ValueError(
                f"memory must be of this model, fingerprint {self.fingerprint} and "
                f"{self.num_slots} slots; got one of another model, fingerprints "
                f"{memory.fingerprint.tolist()} and {memory.num_slots} slots: {anew}"
            )
        if memory.rig is None or memory.padded_size is None:
            return  # BEV maps: they fit any rig
        kept = {(memory.rig.num_cameras, *size) for size in memory.padded_size.tolist()}
        wanted = (int(batch.images.shape[2]), *image_size(batch))
        if kept - {wanted}:
            raise ValueError(
                "memory must be of the batch's rig size (cameras, height, width in pixels), "
                f"{wanted}; got {sorted(kept)}: {anew}"
            )

    def look_back(self, model: FrameEncoder, batch: Batch, memory: BEVMemory | None) -> Lookback:
        """The maps of a clip's other frames; where the batch has one frame, of those in memory."""
        if batch.images.shape[1] > 1:
            return self._of_clip(model, batch)
        if memory is not None:
            return self._of_stream(model, batch, memory)
        valid = self._offsets(batch.images.device).eq(0).expand(batch.batch_size, -1)
        resets = torch.full_like(batch.timestamp_us[:, 0], Reset.START)
        row, slot = (valid & False).nonzero(as_tuple=True)
        return Lookback(valid, resets, row, slot, None, None)

    def streams(self, batch: Batch) -> bool:
        """Whether the batch is a step of streams: one frame, and nothing looked for ahead."""
        return batch.images.shape[1] == 1 and self.frames[-1] == 0

    def keep(
        self,
        batch: Batch,  # of one frame
        memory: BEVMemory | None,
        check: StreamCheck | None,  # of this step, where there is a memory
        *,
        levels: Sequence[Tensor],  # L x (B, N, C, H_l, W_l), those the BEV encoder uses
        bev: Tensor,  # (B, C, Y, X), not augmented
    ) -> BEVMemory:
        """The memory for the next step."""
        newest = self._moment(batch, levels, bev)
        if memory is None or check is None:
            return start_memory(newest, self.num_slots)
        return advance_memory(memory, newest, check, self.config)

    def _of_clip(self, model: FrameEncoder, batch: Batch) -> Lookback:
        usable, resets = check_clip(batch, self.config, self.frames)
        row, slot = (usable & self._offsets(usable.device).ne(0)).nonzero(as_tuple=True)
        world_from_current = batch.world_from_bev[:, self.fusion.current]
        warp = self.config.alignment == "warp"

        def encode(row: Tensor, slot: Tensor) -> Tensor:  # (F, C, Y, X)
            moment = Moment(row, batch.world_from_bev[row, slot], world_from_current[row])
            rig = batch.rig[row, slot]
            if warp:
                rig = rig.moved(invert_se3(moment.current_from_own))
            levels = model.extract_pyramid(blacken_lost(batch.images[row, slot], rig.camera_mask))
            slots = batch.camera_slots[row]
            own = model.encode(levels, rig, slots, padded_size=image_size(batch))
            return self._align(own, moment, batch.bev_augmentation, model.grid)

        maps = encode_in_passes(encode, row, slot, frames_per_pass(model, batch))
        return Lookback(usable, resets, row, slot, maps, None)

    def _of_stream(self, model: FrameEncoder, batch: Batch, memory: BEVMemory) -> Lookback:
        check = check_stream(memory, batch, self.config)
        place, there = self._places(memory, check)
        row, slot = there.nonzero(as_tuple=True)

        def recall(row: Tensor, slot: Tensor) -> Tensor:  # (F, C, Y, X)
            at = (row, place[row, slot])
            moment = Moment(row, memory.world_from_bev[at], batch.world_from_bev[row, 0])
            if memory.rig is None or memory.camera_slots is None:
                own = memory.features[0][at]
            else:
                rig = memory.rig[at].moved(moment.current_from_own)
                levels = [level[at] for level in memory.features]
                slots = memory.camera_slots[at]
                own = model.encode(levels, rig, slots, padded_size=image_size(batch))
            return self._align(own, moment, batch.bev_augmentation, model.grid)

        maps = encode_in_passes(recall, row, slot, frames_per_pass(model, batch))
        valid = there | self._offsets(there.device).eq(0)
        return Lookback(valid, check.resets, row, slot, maps, check)

    def _places(self, memory: BEVMemory, check: StreamCheck) -> tuple[Tensor, Tensor]:
        """Which slot of memory lies at each offset (B, T), and whether there is a frame (B, T)."""
        offsets = self._offsets(check.steps.device)
        last = memory.num_slots - 1
        source = last + offsets + check.steps[:, None]
        there = (source <= last) & (check.resets == Reset.NONE)[:, None] & (offsets < 0)
        source = source.clamp(max=last)
        return source, there & memory.valid.gather(1, source)

    def _align(
        self,
        own: Tensor,  # (F, C, Y, X)
        moment: Moment,
        bev_augmentation: Tensor | None,  # (B, 3, 3)
        grid: BEVGrid,
    ) -> Tensor:  # (F, C, Y, X)
        """Maps on the current, augmented grid."""
        augmentation = None if bev_augmentation is None else bev_augmentation[moment.row]
        if self.config.alignment == "reproject":
            return resample_bev(own, augmentation, grid)
        poses = moment.world_from_own[:, None]
        maps = align_history(own[:, None], poses, moment.world_from_current, grid, augmentation)
        return maps[:, 0]

    def _moment(self, batch: Batch, levels: Sequence[Tensor], bev: Tensor) -> BEVMemory:
        """The current frame as a memory of one slot."""
        device = batch.images.device
        frame = (
            torch.ones_like(batch.frame_valid),
            batch.world_from_bev,
            batch.timestamp_us,
            sequence_ids(batch.scene_tokens).to(device),
            torch.full((batch.batch_size,), self.fingerprint, device=device),
        )
        if self.config.alignment == "warp":
            return BEVMemory((bev.detach()[:, None],), *frame)
        kept = tuple(level.detach()[:, None] for level in levels)
        size = torch.tensor(image_size(batch), device=device).expand(batch.batch_size, 2)
        return BEVMemory(kept, *frame, batch.rig, batch.camera_slots[:, None], size)

    def _offsets(self, device: torch.device) -> Tensor:  # (T,)
        return torch.tensor(self.frames, device=device)
