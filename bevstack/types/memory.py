"""Temporal memory: the past frames that a stream keeps from one step to the next."""

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
    """Reasons for dropping the history of a step, or past frames of a clip."""

    NONE = 0  # no reset: the history, or every frame of the clip, was used
    START = 1  # no history: the first frame of a stream, or a clip of the current frame alone
    SCENE = 2  # the newest frame in memory belongs to another scene
    TIME = 3  # timestamps go back
    GAP = 4  # the newest frame in memory is older than the oldest one that the model uses
    JUMP = 5  # the pose moved faster than temporal.max_speed_mps
    RIG = 6  # another number of cameras, or larger images: old and new features do not fit together


@dataclass(frozen=True)
class BEVMemory:
    """Past frames of B independent streams, newest last, batch first.

    A model's ``forward`` takes the memory and returns an updated one; nothing else holds state.
    Slot s holds the frame that is S - 1 - s steps of ``temporal.frame_interval_s`` older than the
    newest one in memory. Slots where ``valid`` is false are not read.

    The content depends on ``temporal.alignment``. For "reproject", ``features`` has one entry an
    FPN level (B, S, N, C, H, W), and ``rig``, ``camera_slots`` and ``padded_size`` are given. For
    "warp", ``features`` is one BEV map (B, S, C, Y, X), and the three are None.

    Raises:
        ValueError: shapes that do not agree, or only some of ``rig``, ``camera_slots`` and
            ``padded_size``.
    """

    features: tuple[Tensor, ...]  # each (B, S, ...)
    valid: Tensor  # (B, S) bool
    world_from_bev: Tensor  # (B, S, 4, 4) float64
    timestamp_us: Tensor  # (B, S) int64
    sequence_id: Tensor  # (B,) int64, the scene of each row: see sequence_ids
    # B numbers, of the configuration of the model that computed the features; on the host, so that
    # checking them waits for no device
    fingerprint: tuple[int, ...]
    rig: CameraRig | None = None  # leading axes (B, S), each slot in the bev frame of its own frame
    camera_slots: Tensor | None = None  # (B, S, N) int64, as in Batch
    padded_size: tuple[tuple[int, int], ...] | None = None  # B x (H, W) pixels the features cover

    def __post_init__(self) -> None:
        sizes = expect_shape("valid", self.valid, ("B", "S"))
        expect_shape("world_from_bev", self.world_from_bev, ("B", "S", 4, 4), sizes)
        expect_shape("timestamp_us", self.timestamp_us, ("B", "S"), sizes)
        expect_shape("sequence_id", self.sequence_id, ("B",), sizes)
        _expect_rows("fingerprint", self.fingerprint, sizes["B"])
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
            _expect_rows("padded_size", self.padded_size, sizes["B"])

    @property
    def batch_size(self) -> int:
        """Return B."""
        return int(self.valid.shape[0])

    @property
    def num_slots(self) -> int:
        """Return S."""
        return int(self.valid.shape[1])

    @property
    def bytes_per_frame(self) -> int:
        """Return the bytes of the features, calibration and pose of one frame of one stream."""
        return sum(t.element_size() * math.prod(t.shape[2:]) for t in self.frame_tensors())

    def select(
        self,
        rows: Tensor,  # (R,) int64
    ) -> BEVMemory:
        """Return the streams of the given batch rows, in that order."""
        host_rows: list[int] = rows.tolist()
        sizes = self.padded_size
        return self._with_tensors(
            [tensor[rows] for tensor in self._tensors()],
            tuple(self.fingerprint[row] for row in host_rows),
            None if sizes is None else tuple(sizes[row] for row in host_rows),
        )

    @staticmethod
    def concatenate(memories: Sequence[BEVMemory]) -> BEVMemory:
        """Concatenate memories along the batch axis.

        Raises:
            ValueError: no memory is given, or their feature levels, slots or sizes differ.
        """
        layouts = {(len(m.features), m.num_slots, m.rig is None) for m in memories}
        if len(layouts) != 1:
            levels = sorted({len(memory.features) for memory in memories})
            slots = sorted({memory.num_slots for memory in memories})
            raise ValueError(
                "memories must have the same number of levels and slots and the same alignment; "
                f"got levels {levels} and slots {slots}"
            )
        shapes = {tuple(tuple(f.shape[2:]) for f in memory.features) for memory in memories}
        if len(shapes) != 1:
            raise ValueError(f"memories must have features of one size; got {sorted(shapes)}")
        parts = [memory._tensors() for memory in memories]
        concatenated = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        sizes = [size for memory in memories for size in memory.padded_size or ()]
        return memories[0]._with_tensors(
            concatenated,
            tuple(number for memory in memories for number in memory.fingerprint),
            None if memories[0].padded_size is None else tuple(sizes),
        )

    def detach(self) -> BEVMemory:
        """Return the memory detached from the autograd graph."""
        return self._map(lambda tensor: tensor.detach())

    def to(self, device: torch.device | str) -> BEVMemory:
        """Return the memory on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> BEVMemory:
        return self._with_tensors([function(tensor) for tensor in self._tensors()])

    def map_frames(self, function: Callable[[Tensor], Tensor]) -> BEVMemory:
        """Apply a function to every tensor (B, S, ...) with a slot axis, also to ``valid``."""
        count = len(self.frame_tensors())
        tensors = self._tensors()
        return self._with_tensors([*map(function, tensors[:count]), *tensors[count:]])

    def frame_tensors(self) -> list[Tensor]:
        """Return the tensors with a slot axis, (B, S, ...)."""
        tensors = [*self.features, self.valid, self.world_from_bev, self.timestamp_us]
        if self.rig is not None and self.camera_slots is not None:
            rig = self.rig
            tensors += [rig.intrinsics, rig.bev_from_cam, rig.image_size, rig.camera_mask]
            tensors += [self.camera_slots]
        return tensors

    def _tensors(self) -> list[Tensor]:
        return [*self.frame_tensors(), self.sequence_id]

    def _with_tensors(
        self,
        tensors: Sequence[Tensor],  # in the order of ``_tensors``
        fingerprint: tuple[int, ...] | None = None,  # None: that of this memory
        padded_size: tuple[tuple[int, int], ...] | None = None,  # None: that of this memory
    ) -> BEVMemory:
        """Return a memory of this layout from tensors, which may have another number of rows."""
        levels = len(self.features)
        valid, world_from_bev, timestamp_us, *calibration, sequence_id = tensors[levels:]
        *rig, slots = calibration or (None,)
        return BEVMemory(
            tuple(tensors[:levels]),
            valid,
            world_from_bev,
            timestamp_us,
            sequence_id,
            self.fingerprint if fingerprint is None else fingerprint,
            None if self.rig is None else CameraRig(*rig),
            slots,
            self.padded_size if padded_size is None else padded_size,
        )


def _expect_rows(name: str, rows: Sequence[object], count: int) -> None:
    if len(rows) != count:
        raise ValueError(f"{name} must hold one entry a stream ({count}); got {len(rows)}")


def sequence_ids(scene_tokens: Sequence[str]) -> Tensor:  # (B,) int64
    """Return a reproducible number for each scene: the first 63 bits of its token's SHA-256."""
    digests = [hashlib.sha256(token.encode()).digest() for token in scene_tokens]
    numbers = [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
    return torch.tensor(numbers, dtype=torch.int64)
