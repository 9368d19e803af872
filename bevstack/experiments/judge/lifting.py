"""True 2D boxes with noise, lifted to the ground plane: the limit for a perfect 2D detector."""

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

NOISE_PX = 1.0  # standard deviation, in pixels of the stored images


def lift_true_boxes(
    dataset: NuScenesDataset,
    priors: ClassPriors,
    *,
    contact_at_near_edge: bool = False,
    tracked: bool = False,
    noise_px: float = NOISE_PX,
    seed: int = 0,
) -> Entries:
    """Make results by lifting the true 2D boxes of every camera.

    Noise is drawn for each of the four sides, from the seed and the sample's row in its table.

    Args:
        dataset: samples with annotations.
        priors: size and heading of the detection classes.
        contact_at_near_edge: see ``lift_boxes``.
        tracked: track the boxes over the frames of a scene, like those of a model.
        noise_px: standard deviation of the noise.
        seed: seed of the noise.

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
        counts = [len(annotations) for annotations in frame.camera_annotations]
        sides = torch.cat(
            [annotations.boxes_px for annotations in frame.camera_annotations]
        ).double()
        row = dataset.tables.sample_row(frame.sample_token)
        noise = np.random.default_rng((seed, row)).normal(0.0, noise_px, tuple(sides.shape))
        image_boxes = ImageBoxes(
            boxes_px=sides + torch.from_numpy(noise),
            labels=torch.cat([annotations.labels for annotations in frame.camera_annotations]),
            cameras=torch.repeat_interleave(torch.tensor(counts)),
        )
        ego_frame = replace(frame, bev_from_ego=None)
        lifted = lift_boxes(
            image_boxes,
            priors,
            intrinsics=frame.intrinsics,
            ego_from_cam=ego_frame.bev_from_cam(),
            contact_at_near_edge=contact_at_near_edge,
        )
        if tracked:
            lifted = tracker.step(ego_frame, lifted)
        results[frame.sample_token] = results_of_frame(lifted, ego_frame, dataset.class_names)
    return results
