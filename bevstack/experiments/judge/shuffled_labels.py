"""Training samples with the labels of another scene, from which no detector can learn."""

from __future__ import annotations

from dataclasses import replace

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.disturbances import DerivedDataset, assign_partners
from bevstack.types import Frame


class ShuffledLabels(DerivedDataset):
    """The samples of a dataset, each with the true boxes of a sample of another scene.

    ``assign_partners`` assigns the samples; the assignment is the same in every epoch and every
    run. Images, calibration and pose stay those of the sample.

    Args:
        dataset: the dataset whose labels are shuffled.

    Raises:
        ValueError: see ``assign_partners``.
    """

    def __init__(self, dataset: NuScenesDataset) -> None:
        super().__init__(dataset)
        self._partners = assign_partners(dataset.scene_indices())

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """Load a sample's images with the boxes of its partner, in space and in each camera.

        Raises:
            ValueError: the two samples have different numbers of cameras.
        """
        own = super().frame(index, load_images, images_for=images_for)
        partner = super().frame(
            self._partners[index],
            load_images=False,
            camera_annotations=camera_annotations,
            images_for=images_for,
        )
        if partner.num_cameras != own.num_cameras:
            raise ValueError(
                "samples that exchange labels must have the same number of cameras; got "
                f"{own.num_cameras} and {partner.num_cameras}"
            )
        return replace(
            own, annotations=partner.annotations, camera_annotations=partner.camera_annotations
        )
