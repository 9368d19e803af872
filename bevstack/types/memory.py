"""Temporal memory: what a stream keeps from one step to the next."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from bevstack.geometry import CameraRig
from bevstack.shapes import expect_shape


class Reset(IntEnum):
    """Why a step used no history, or a clip not all of its frames."""

    NONE = 0  # none: the stream went on, the clip's frames were used
    START = 1  # there is none: a stream's first frame, a clip of nothing but the current one
    SCENE = 2  # the last frame kept is of another scene
    TIME = 3  # timestamps go back
    GAP = 4  # the last frame kept is older than the oldest that is looked at
    JUMP = 5  # the pose moved faster than temporal.max_speed_mps
    RIG = 6  # another number of cameras, or larger images: old features do not fit beside new ones


@dataclass(frozen=True)
class BEVMemory:
    """Past frames of B independent streams, newest last: tensors only, batch first.

    It goes into a model's ``forward`` and comes out of it; nothing else holds state. Slot s holds
    the frame S - 1 - s steps of ``temporal.frame_interval_s`` before the newest kept; what stands
    where ``valid`` is false is not read. ``features`` holds what the configured alignment keeps:
    for "reproject" one entry an FPN level (B, S, N, C, H, W), and ``rig``, ``camera_slots`` and
    ``padded_size`` are there; for "warp" one BEV map (B, S, C, Y, X), and they are None.
    """

    features: tuple[Tensor, ...]  # each (B, S, ...)
    valid: Tensor  # (B, S) bool
    world_from_bev: Tensor  # (B, S, 4, 4) float64
    timestamp_us: Tensor  # (B, S) int64
    sequence_id: Tensor  # (B,) int64, which scene a row's frames are of: see sequence_ids
    fingerprint: Tensor  # (B,) int64, of the configuration of the model that made the features
    rig: CameraRig | None = None  # leading axes (B, S), each in its own frame's bev frame
    camera_slots: Tensor | None = None  # (B, S, N) int64, as in Batch
    padded_size: Tensor | None = None  # (B, 2) int64, pixels (H, W) that the features cover

    def __post_init__(self) -> None:
        sizes = expect_shape("valid", self.valid, ("B", "S"))
        expect_shape("world_from_bev", self.world_from_bev, ("B", "S", 4, 4), sizes)
        expect_shape("timestamp_us", self.timestamp_us, ("B", "S"), sizes)
        expect_shape("sequence_id", self.sequence_id, ("B",), sizes)
        expect_shape("fingerprint", self.fingerprint, ("B",), sizes)
        for level, feature in enumerate(self.features):
            if tuple(feature.shape[:2]) != (sizes["B"], sizes["S"]):
                raise ValueError(
                    f"features[{level}] must have leading axes {(sizes['B'], sizes['S'])}; "
                    f"got {tuple(feature.shape)}"
                )
        given = [part is not None for part in (self.rig, self.camera_slots, self.padded_size)]
        if any(given) != all(given):
            raise ValueError(
                f"rig, camera_slots and padded_size must be given together; got {given}"
            )
        if self.rig is not None and self.camera_slots is not None and self.padded_size is not None:
            expect_shape("rig.camera_mask", self.rig.camera_mask, ("B", "S", "N"), sizes)
            expect_shape("camera_slots", self.camera_slots, ("B", "S", "N"), sizes)
            expect_shape("padded_size", self.padded_size, ("B", 2), sizes)

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.valid.shape[0])

    @property
    def num_slots(self) -> int:
        """S."""
        return int(self.valid.shape[1])

    @property
    def bytes_per_frame(self) -> int:
        """What one frame of one stream takes in features, calibration and pose."""
        return sum(t.element_size() * math.prod(t.shape[2:]) for t in self.of_frames())

    def select(
        self,
        rows: Tensor,  # (R,) int64
    ) -> BEVMemory:
        """The streams of the given batch rows, in that order."""
        return self._map(lambda tensor: tensor[rows])

    @staticmethod
    def concatenate(memories: Sequence[BEVMemory]) -> BEVMemory:
        """Streams of several memories as rows of one.

        Raises:
            ValueError: no memory, a different number of feature levels or slots, or other sizes.
        """
        kinds = {(len(m.features), m.num_slots, m.rig is None) for m in memories}
        if len(kinds) != 1:
            levels = sorted({len(memory.features) for memory in memories})
            slots = sorted({memory.num_slots for memory in memories})
            raise ValueError(
                "memories must hold the same number of levels and slots, of the same alignment; "
                f"got levels {levels} and slots {slots}"
            )
        shapes = {tuple(tuple(f.shape[2:]) for f in memory.features) for memory in memories}
        if len(shapes) != 1:
            raise ValueError(f"memories must hold features of one size; got {sorted(shapes)}")
        parts = [memory._tensors() for memory in memories]
        joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        return memories[0]._rebuilt(joined)

    def detach(self) -> BEVMemory:
        """The memory without gradient history."""
        return self._map(lambda tensor: tensor.detach())

    def to(self, device: torch.device | str) -> BEVMemory:
        """The memory on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> BEVMemory:
        return self._rebuilt([function(tensor) for tensor in self._tensors()])

    def map_frames(self, function: Callable[[Tensor], Tensor]) -> BEVMemory:
        """Changes what belongs to single frames, (B, S, ...), all tensors alike; ``valid`` too."""
        count = len(self.of_frames())
        tensors = self._tensors()
        return self._rebuilt([*map(function, tensors[:count]), *tensors[count:]])

    def of_frames(self) -> list[Tensor]:
        """The tensors with a slot axis, (B, S, ...)."""
        tensors = [*self.features, self.valid, self.world_from_bev, self.timestamp_us]
        if self.rig is not None and self.camera_slots is not None:
            rig = self.rig
            tensors += [rig.intrinsics, rig.bev_from_cam, rig.image_size, rig.camera_mask]
            tensors += [self.camera_slots]
        return tensors

    def _tensors(self) -> list[Tensor]:
        of_rows = [self.sequence_id, self.fingerprint]
        if self.padded_size is not None:
            of_rows += [self.padded_size]
        return self.of_frames() + of_rows

    def _rebuilt(self, tensors: Sequence[Tensor]) -> BEVMemory:
        """A memory of the tensors that ``_tensors`` lists."""
        levels = len(self.features)
        valid, world_from_bev, timestamp_us, *rest = tensors[levels:]
        features = tuple(tensors[:levels])
        if self.rig is None:
            sequence_id, fingerprint = rest
            return BEVMemory(
                features, valid, world_from_bev, timestamp_us, sequence_id, fingerprint
            )
        *calibration, slots, sequence_id, fingerprint, padded_size = rest
        return BEVMemory(
            features,
            valid,
            world_from_bev,
            timestamp_us,
            sequence_id,
            fingerprint,
            CameraRig(*calibration),
            slots,
            padded_size,
        )


def sequence_ids(scene_tokens: Sequence[str]) -> Tensor:  # (B,) int64
    """A number for each scene: the first 63 bits of its token's SHA-256, the same everywhere."""
    digests = [hashlib.sha256(token.encode()).digest() for token in scene_tokens]
    numbers = [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
    return torch.tensor(numbers, dtype=torch.int64)
