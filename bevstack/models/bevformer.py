"""BEVFormer v2 (arXiv 2211.10439): six camera images to boxes in the bird's-eye view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bevstack.geometry import BEVGrid, CameraRig
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.models.perspective.camera_views import PerspectiveViews, look_from_cameras
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.models.perspective.proposals import Proposals
from bevstack.models.temporal.bev_resampling import resample_bev
from bevstack.models.temporal.history import History
from bevstack.models.temporal.past_frames import Lookback, blacken_lost, looking_back
from bevstack.types import Batch, BEVMemory

PIXELS_PER_PASS = 2**20  # one image of 640x1600, six of 225x400


class ProposalFinder(Protocol):
    """``find_proposals`` with all but its inputs given."""

    def __call__(
        self,
        views: PerspectiveViews,
        rig: CameraRig,  # leading axes (B,)
        *,
        bev_augmentation: Tensor | None = None,  # (B, 3, 3), augmented_bev_from_bev
    ) -> Proposals:
        """Proposals of every sample."""
        ...


@dataclass(frozen=True)
class BEVFormerOutput:
    """What one step gives: the map, what the decoder reads from it, and what to keep."""

    bev: Tensor  # (B, C, Y, X)
    decoder: DecoderOutput
    memory: BEVMemory | None  # for the next step; None where the model keeps nothing
    perspective: PerspectiveViews | None = None  # of the current frame; None where it was not asked
    resets: Tensor | None = None  # (B,) int64, codes of Reset; None for a model of one frame


class BEVFormerV2(nn.Module):
    """Images to a pyramid, a pyramid to a BEV map, maps of several frames to one, that to boxes.

    Args:
        backbone: images (B, 3, H, W) to the maps that ``neck`` takes.
        neck: those maps to the pyramid.
        encoder: the BEV encoder.
        decoder: the decoder and its head.
        perspective_head: the perspective head, which supervises in training; it sees all levels of
            the pyramid, the encoder as many of the finest as it has level embeddings.
        propose: makes reference points for the decoder of what the perspective head says of each
            sample (``find_proposals``); none for learned queries alone.
        history: looks at other frames than the current one, and fuses their maps with its own; none
            for a model of frames (0,).
        pixels_per_pass: without gradients and in evaluation mode, at most so many image pixels (but
            at least one image) go through backbone and neck together. This bounds memory where
            images are large, and gives the same numbers; small images all go at once.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        *,
        encoder: BEVEncoder,
        decoder: Decoder,
        perspective_head: PerspectiveHead | None = None,
        propose: ProposalFinder | None = None,
        history: History | None = None,
        pixels_per_pass: int = PIXELS_PER_PASS,
    ) -> None:
        super().__init__()
        if pixels_per_pass < 1:
            raise ValueError(f"pixels_per_pass must be positive; got {pixels_per_pass}")
        self.backbone = backbone
        self.neck = neck
        self.encoder = encoder
        self.decoder = decoder
        self.perspective_head = perspective_head
        self.propose = propose
        self.history = history
        self.fusion = None if history is None else history.fusion
        self.pixels_per_pass = pixels_per_pass

    @property
    def grid(self) -> BEVGrid:
        """The grid of the BEV map."""
        return self.encoder.grid

    def forward(self, batch: Batch, memory: BEVMemory | None = None) -> BEVFormerOutput:
        """Detects in the current frame of every sample.

        A model of several frames takes whole clips without memory; or the current frame alone with
        what it remembers of each stream (None where the streams start), and gives the memory for
        the next step. Only the current frame carries gradient: others are encoded in evaluation
        mode. A lost camera (``rig.camera_mask`` false) is not attended to, whatever its image
        holds.

        Raises:
            ValueError: neither a clip of the model's frames nor one frame, or a memory of another
                model, rig size or number of streams.
        """
        images, rig = self.current_frame(batch, memory)
        past = self.look_back(batch, memory)
        pyramid = self.extract_pyramid(images)
        views = self.look_from_cameras(pyramid, rig, batch)
        bev = self.encode(pyramid, rig, batch.camera_slots, padded_size=images.shape[-2:])
        next_memory = self.keep(batch, memory, past, pyramid, bev)
        bev = self.fuse(resample_bev(bev, batch.bev_augmentation, self.grid), past)
        resets = None if past is None else past.resets
        proposals = self.find_proposals(views, rig, batch)
        return BEVFormerOutput(bev, self.decoder(bev, proposals), next_memory, views, resets)

    def current_frame(self, batch: Batch, memory: BEVMemory | None) -> tuple[Tensor, CameraRig]:
        """Images (B, N, 3, H, W), black where a camera is lost, and the rig (B,).

        Raises:
            ValueError: batch and memory are not what this model takes.
        """
        if self.history is None:
            _check_single_frame(batch, memory)
            now = 0
        else:
            now = self.history.current_slot(batch, memory)
        rig = batch.rig[:, now]
        return blacken_lost(batch.images[:, now], rig.camera_mask), rig

    def look_back(self, batch: Batch, memory: BEVMemory | None) -> Lookback | None:
        """Maps of the other frames, without gradient; None for a model of one frame.

        Before the current frame, as released: in training that one moves the statistics of batch
        norms that history is normalised with.
        """
        if self.history is None:
            return None
        with looking_back(self):
            return self.history.look_back(self, batch, memory)

    def fuse(
        self,
        bev: Tensor,  # (B, C, Y, X), augmented
        past: Lookback | None,
    ) -> Tensor:  # (B, C, Y, X)
        """The current frame's map and the others' as one."""
        if self.fusion is None or past is None:
            return bev
        return self.fusion(past.beside(bev, self.fusion.current), past.valid)

    def keep(
        self,
        batch: Batch,
        memory: BEVMemory | None,
        past: Lookback | None,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        bev: Tensor,  # (B, C, Y, X), not augmented
    ) -> BEVMemory | None:
        """What a stream finds at its next step; None where nothing goes on."""
        if self.history is None or past is None or not self.history.streams(batch):
            return None
        levels = pyramid[: self.encoder.num_levels]
        return self.history.keep(batch, memory, past.check, levels=levels, bev=bev)

    def encode(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (B,)
        camera_slots: Tensor,  # (B, N) int64
        *,
        padded_size: tuple[int, int],  # (H, W) pixels of the images the pyramid covers
    ) -> Tensor:  # (B, C, Y, X)
        """The BEV map of one frame, from the levels of the pyramid that the encoder knows."""
        pairs = find_visible_pairs(
            rig,
            self.grid,
            num_heights=self.encoder.num_heights,
            padded_size=padded_size,
            capacity_step=self.encoder.pair_step,
        )
        return self.encoder(pyramid[: self.encoder.num_levels], pairs, camera_slots)

    def look_from_cameras(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (B,)
        batch: Batch,
    ) -> PerspectiveViews | None:
        """What the perspective head says; None without one, and where nobody would listen.

        In training without proposals, images without a true box take no part, as released (v2
        specification, section 11.6). For proposals every image of a working camera does: what is
        proposed in training must be what will be proposed later, and empty images must learn to
        propose nothing.
        """
        if self.perspective_head is None or not (self.training or self.propose):
            return None
        wanted = rig.camera_mask
        if batch.camera_annotations is not None and self.propose is None:
            counts = [[len(of_camera) for of_camera in row] for row in batch.camera_annotations]
            wanted = wanted & (torch.tensor(counts, device=wanted.device) > 0)
        width = int(batch.images.shape[-1])
        return look_from_cameras(
            self.perspective_head, pyramid, rig, wanted=wanted, padded_width=width
        )

    def find_proposals(
        self, views: PerspectiveViews | None, rig: CameraRig, batch: Batch
    ) -> Proposals | None:
        """Reference points of the current frame from its cameras, without gradient."""
        if self.propose is None or views is None:
            return None
        return self.propose(views, rig, bev_augmentation=batch.bev_augmentation)

    def extract_pyramid(
        self,
        images: Tensor,  # (B, N, 3, H, W)
    ) -> tuple[Tensor, ...]:  # L x (B, N, C, H_l, W_l)
        """Features of every image."""
        flat = images.flatten(0, 1)
        count = flat.shape[0]
        if not (self.training or torch.is_grad_enabled()):
            count = max(1, self.pixels_per_pass // (flat.shape[-2] * flat.shape[-1]))
        passes = [self.neck(self.backbone(part)) for part in flat.split(max(count, 1))]
        levels = (
            torch.cat(maps) if len(maps) > 1 else maps[0] for maps in zip(*passes, strict=True)
        )
        return tuple(level.unflatten(0, images.shape[:2]) for level in levels)


def _check_single_frame(batch: Batch, memory: BEVMemory | None) -> None:
    if batch.images.shape[1] != 1:
        raise ValueError(
            f"images must hold one frame for a model of frames (0,); got {batch.images.shape[1]}"
        )
    if memory is not None:
        raise ValueError("memory must be None for a model of frames (0,), which keeps none")
