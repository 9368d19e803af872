"""BEVFormer v2 (arXiv 2211.10439), from camera images to boxes in the bird's-eye view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from bevstack.geometry import BEVGrid, CameraRig
from bevstack.models.detection3d.bev_encoder import BEVEncoder
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.models.layers.mirroring import mirror_back
from bevstack.models.layers.sizes import Bounds, Sizes
from bevstack.models.perspective.camera_views import PerspectiveViews, run_perspective_head
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.models.perspective.proposals import Proposals
from bevstack.models.temporal.bev_resampling import resample_bev
from bevstack.models.temporal.history import History
from bevstack.models.temporal.past_frames import (
    PastFrames,
    blacken_lost,
    evaluation_mode,
    image_size,
)
from bevstack.types import Batch, BEVMemory

PIXELS_PER_PASS = 2**20  # one image of 640x1600, six of 225x400


class ProposalFinder(Protocol):
    """Signature of ``find_proposals`` with its configuration bound."""

    def __call__(
        self,
        views: PerspectiveViews,
        rig: CameraRig,  # leading axes (B,)
        *,
        bev_augmentation: Tensor | None = None,  # (B, 3, 3), augmented_bev_from_bev
        sizes: Sizes | None = None,
    ) -> Proposals:
        """Return the proposals of every sample."""
        ...


@dataclass(frozen=True)
class BEVFormerOutput:
    """Output of one step: the BEV map, boxes and logits, and the memory for the next step."""

    bev: Tensor  # (B, C, Y, X)
    decoder: DecoderOutput
    memory: BEVMemory | None  # for the next step; None if the batch is no step of streams
    perspective: PerspectiveViews | None = None  # current frame; None if the head did not run
    resets: Tensor | None = None  # (B,) int64, codes of Reset; None for a model of one frame
    # (4,) int64, largest counts, in the order of the fields of Bounds; the output is complete if no
    # count exceeds the bound that was given
    counts: Tensor | None = None


class BEVFormerV2(nn.Module):
    """The detector: image pyramid, BEV map, temporal fusion, and boxes from the decoder.

    Args:
        backbone: from images (B, 3, H, W) to the maps that ``neck`` takes.
        neck: from these maps to the pyramid.
        encoder: the BEV encoder.
        decoder: the decoder and its head.
        perspective_head: the perspective head, for an auxiliary loss in training and for proposals.
            It takes all levels of the pyramid; the encoder takes the finest ones, as many as it has
            level embeddings.
        propose: computes proposals for the decoder from the perspective head's output
            (``find_proposals``); None for learned queries alone.
        history: the source of past frames' BEV maps, with the module that fuses them; None for a
            model of frames (0,).
        pixels_per_pass: limit of image pixels that go through backbone and neck in one pass,
            without gradients and in evaluation mode; at least one image does. It bounds memory for
            large images and does not change the result.
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
        """Return the grid of the BEV map."""
        return self.encoder.grid

    def forward(
        self,
        batch: Batch,
        memory: BEVMemory | None = None,
        maps: Sequence[Tensor] | None = None,  # (B * N, C_l, H_l, W_l) of every backbone stage
        *,
        bounds: Bounds | None = None,
    ) -> BEVFormerOutput:
        """Detect objects in the current frame of every sample.

        A model of several frames takes either whole clips without memory, or the current frame
        alone with the memory of each stream (None at the start of the streams). In the second case
        it returns the memory for the next step.

        Only the current frame carries gradient; the other frames are encoded in evaluation mode.
        Queries do not attend to a lost camera (``rig.camera_mask`` False), and its image is not
        used.

        ``maps`` are the backbone's output for the current frame's images, if it has run on them
        already for another task; otherwise it runs here.

        With ``bounds`` the host neither waits for the device nor copies to it, and every call runs
        the same operators on the same shapes; all frames and cameras run, also missing ones. The
        outputs are equal, if ``counts`` exceed no bound. Without bounds less is computed.

        Raises:
            ValueError: the batch holds neither a clip of the model's frames nor one frame, or the
                memory is of another model, rig size or number of streams.
        """
        sizes = Sizes(bounds)
        images, rig = self.current_frame(batch, memory)
        past = self.encode_history(batch, memory, sizes)
        pyramid = self.extract_pyramid(images, maps)
        views = self.run_perspective_head(pyramid, rig, batch, sizes)
        bev, next_memory = self.encode_bev(pyramid, rig, batch, past, memory, sizes)
        decoded = self.decoder(bev, self.find_proposals(views, rig, batch, sizes))
        resets = None if past is None else past.resets
        counts = sizes.largest(bev.device)
        return BEVFormerOutput(bev, decoded, next_memory, views, resets, counts)

    def current_frame(self, batch: Batch, memory: BEVMemory | None) -> tuple[Tensor, CameraRig]:
        """Return images (B, N, 3, H, W), black for lost cameras, and the rig (B,).

        Raises:
            ValueError: batch or memory do not fit this model.
        """
        if self.history is None:
            _check_single_frame(batch, memory)
            slot = 0
        else:
            slot = self.history.locate_current(batch, memory)
        rig = batch.rig[:, slot]
        return blacken_lost(batch.images[:, slot], rig.camera_mask), rig

    def encode_history(
        self, batch: Batch, memory: BEVMemory | None, sizes: Sizes
    ) -> PastFrames | None:
        """Return the maps of the other frames, without gradient; None for a model of one frame.

        As in the released code this runs before the current frame, which in training changes the
        statistics of batch norms that the other frames are normalised with.
        """
        if self.history is None:
            return None
        height, width = image_size(batch)
        pixels = max(1, int(batch.images.shape[2]) * height * width)
        encode = partial(self.encode_frames, padded_size=(height, width), sizes=sizes)
        count = max(1, self.pixels_per_pass // pixels)
        with evaluation_mode(self):
            return self.history.align(encode, batch, memory, frames_per_pass=count, sizes=sizes)

    def encode_frames(
        self,
        images: Tensor | Sequence[Tensor],  # (F, N, 3, H, W), or L x (F, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (F,)
        camera_slots: Tensor,  # (F, N) int64
        *,
        padded_size: tuple[int, int],  # (H, W) pixels
        sizes: Sizes,
    ) -> Tensor:  # (F, C, Y, X)
        """Return the BEV maps of frames, from their images or from a pyramid made before."""
        if isinstance(images, Tensor):
            images = self.extract_pyramid(blacken_lost(images, rig.camera_mask))
        return self.encode(images, rig, camera_slots, padded_size=padded_size, sizes=sizes)

    def encode_bev(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (B,)
        batch: Batch,
        past: PastFrames | None,
        memory: BEVMemory | None,
        sizes: Sizes | None = None,
    ) -> tuple[Tensor, BEVMemory | None]:
        """Return the fused, augmented BEV map (B, C, Y, X), and the memory for the next step.

        The memory is None if the batch is no step of streams.
        """
        bev = self.encode(
            pyramid, rig, batch.camera_slots, padded_size=image_size(batch), sizes=sizes
        )
        augmented = resample_bev(bev, batch.bev_augmentation, self.grid)
        if self.history is None or past is None:
            return augmented, None
        fused: Tensor = self.history.fusion(
            past.stack_with_current(augmented, self.history.fusion.current), past.valid
        )
        if not self.history.is_stream_step(batch):
            return fused, None
        levels = pyramid[: self.encoder.num_levels]
        return fused, self.history.next_memory(
            batch, memory, past.check, levels=levels, bev=bev, sizes=sizes
        )

    def encode(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (B,)
        camera_slots: Tensor,  # (B, N) int64
        *,
        padded_size: tuple[int, int],  # (H, W) pixels of the images the pyramid covers
        sizes: Sizes | None = None,
    ) -> Tensor:  # (B, C, Y, X)
        """Return the BEV map of one frame, from the levels of the pyramid that the encoder uses.

        The features of mirrored images are mirrored back (v2 specification, section 3.2).
        """
        pairs = find_visible_pairs(
            rig,
            self.grid,
            num_heights=self.encoder.num_heights,
            padded_size=padded_size,
            capacity_step=self.encoder.pair_step,
            sizes=sizes,
        )
        levels = mirror_back(pyramid[: self.encoder.num_levels], rig.mirrored, sizes)
        bev: Tensor = self.encoder(levels, pairs, camera_slots)
        return bev

    def run_perspective_head(
        self,
        pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
        rig: CameraRig,  # leading axes (B,)
        batch: Batch,
        sizes: Sizes | None = None,
    ) -> PerspectiveViews | None:
        """Return the perspective head's output; None without a head, or if its output is not used.

        The output is used in training and for proposals. In training without proposals, images
        without a true box are left out, as in the released code (v2 specification, section 11.6).
        With proposals, all images of working cameras are used: training must see the proposals that
        evaluation will see, and images without boxes must learn to propose nothing.
        """
        if self.perspective_head is None or not (self.training or self.propose):
            return None
        wanted: Tensor | None = rig.camera_mask
        if sizes is not None and sizes.bounds is not None:
            wanted = None  # the number of working cameras depends on the data
        elif batch.camera_annotations is not None and self.propose is None:
            counts = [[len(camera) for camera in sample] for sample in batch.camera_annotations]
            has_boxes = torch.tensor(counts, device=rig.camera_mask.device) > 0
            wanted = rig.camera_mask & has_boxes
        width = int(batch.images.shape[-1])
        return run_perspective_head(
            self.perspective_head, pyramid, rig, wanted=wanted, padded_width=width, sizes=sizes
        )

    def find_proposals(
        self,
        views: PerspectiveViews | None,
        rig: CameraRig,
        batch: Batch,
        sizes: Sizes | None = None,
    ) -> Proposals | None:
        """Return proposals from the current frame's cameras, without gradient; None if not used."""
        if self.propose is None or views is None:
            return None
        return self.propose(views, rig, bev_augmentation=batch.bev_augmentation, sizes=sizes)

    def extract_pyramid(
        self,
        images: Tensor,  # (B, N, 3, H, W)
        maps: Sequence[Tensor] | None = None,  # (B * N, C_l, H_l, W_l) of every backbone stage
    ) -> tuple[Tensor, ...]:  # L x (B, N, C, H_l, W_l)
        """Return the features of every image, from the backbone's maps if they are given."""
        if maps is not None:
            return tuple(level.unflatten(0, images.shape[:2]) for level in self.neck(maps))
        flat = images.flatten(0, 1)
        count = flat.shape[0]
        if not (self.training or torch.is_grad_enabled()):
            count = max(1, self.pixels_per_pass // (flat.shape[-2] * flat.shape[-1]))
        passes = [self.neck(self.backbone(part)) for part in torch.split(flat, max(count, 1))]
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
