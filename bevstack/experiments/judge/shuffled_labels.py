"""Training samples whose labels are those of another scene: nothing can be learned from them."""

from __future__ import annotations

from dataclasses import replace

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.disturbances import DerivedDataset, partners
from bevstack.types import Frame


class ShuffledLabels(DerivedDataset):
    """The samples of a data set, each with the true boxes of one of another scene.

    Who gives labels to whom is the same in every epoch and every run; ``partners`` says it. Images,
    calibration and pose are the sample's own.

    Args:
        dataset: whose labels are shuffled.
    """

    def __init__(self, dataset: NuScenesDataset) -> None:
        super().__init__(dataset)
        self._partner = partners(dataset.scene_indices())

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """A sample's images with another's boxes, in space and in each camera.

        Raises:
            ValueError: the other sample has not as many cameras.
        """
        own = super().frame(index, load_images, images_for=images_for)
        other = super().frame(
            self._partner[index],
            load_images=False,
            camera_annotations=camera_annotations,
            images_for=images_for,
        )
        if other.num_cameras != own.num_cameras:
            raise ValueError(
                "samples that change labels must have the same number of cameras; got "
                f"{own.num_cameras} and {other.num_cameras}"
            )
        return replace(
            own, annotations=other.annotations, camera_annotations=other.camera_annotations
        )
