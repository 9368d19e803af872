"""True rectangles with noise, stood on the ground: all that a perfect image detector would give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.baselines.lifting import ClassPriors, ImageBoxes, lift_boxes
from bevstack.evaluation.baselines.priors import Entries
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.runtime.tracked import FrameTracker

NOISE_PX = 1.0  # standard deviation, of images as they are stored


def lift_true_boxes(
    dataset: NuScenesDataset,
    priors: ClassPriors,
    *,
    contact_at_near_edge: bool = False,
    tracked: bool = False,
    noise_px: float = NOISE_PX,
    seed: int = 0,
) -> Entries:
    """Results made of what each camera truly sees.

    Noise is drawn for each of the four sides, from the seed and the sample's place in its table.

    Args:
        dataset: samples with annotations.
        priors: of the detection classes.
        contact_at_near_edge: see ``lift_boxes``.
        tracked: bring the boxes of a scene's frames together, as those of a model are.
        noise_px: standard deviation.
        seed: of the noise.

    Raises:
        ValueError: samples without annotations.
    """
    priors = priors.select_classes(dataset.class_names)
    tracker = FrameTracker(TrackingConfig())
    results: Entries = {}
    for index in range(len(dataset)):
        frame = dataset.frame(index, load_images=False, camera_annotations=True)
        if frame.camera_annotations is None:
            raise ValueError(f"samples must have annotations; got none in {frame.sample_token!r}")
        counts = [len(seen) for seen in frame.camera_annotations]
        sides = torch.cat([seen.boxes_px for seen in frame.camera_annotations]).double()
        row = dataset.tables.sample_row(frame.sample_token)
        noise = np.random.default_rng((seed, row)).normal(0.0, noise_px, tuple(sides.shape))
        found = ImageBoxes(
            boxes_px=sides + torch.from_numpy(noise),
            labels=torch.cat([seen.labels for seen in frame.camera_annotations]),
            cameras=torch.repeat_interleave(torch.tensor(counts)),
        )
        in_ego = replace(frame, bev_from_ego=None)
        lifted = lift_boxes(
            found,
            priors,
            intrinsics=frame.intrinsics,
            ego_from_cam=in_ego.bev_from_cam(),
            contact_at_near_edge=contact_at_near_edge,
        )
        if tracked:
            lifted = tracker.step(in_ego, lifted)
        results[frame.sample_token] = results_of_frame(lifted, in_ego, dataset.class_names)
    return results
