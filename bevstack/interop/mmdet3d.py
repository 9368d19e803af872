"""Our detector as a model of mmdetection3d 1.x; importing this module registers it.

A configuration of mmdetection3d names the module and the model::

    custom_imports = dict(imports=["bevstack.interop.mmdet3d"])
    model = dict(type="BevstackDetector", config="tiny_cpu")

``docs/mmdet3d.md`` lists the versions that it was run with, and the entries of a pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.registry import MODELS, TRANSFORMS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from bevstack.config import Config, load_config
from bevstack.datasets.collate import prepare_clip, stack_clips
from bevstack.interop.mmdet3d_samples import (
    CLASSES,
    annotations_from_lidar,
    boxes_to_lidar,
    camera_boxes,
    frame_from_sample,
    lidar_from_bev,
)
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.bevformer import BEVFormerOutput
from bevstack.models.build import build_model, load_model
from bevstack.models.detection3d.box_code import detections_from
from bevstack.types import Batch, Clip, Detections, Frame

# It passes images on in 0 to 255; the model normalises and resizes them itself.
PREPROCESSOR: Mapping[str, object] = {"type": "Det3DDataPreprocessor", "bgr_to_rgb": True}


@TRANSFORMS.register_module()
class LidarToEgo(BaseTransform):  # type: ignore[misc]  # mmcv has no type information
    """Step of a pipeline that adds ``lidar2ego`` to a sample, for ``meta_keys``.

    Models whose grid lies in the ego frame need it: without it they take nuScenes' nominal place of
    the lidar.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the sample with ``lidar2ego`` (4, 4).

        Raises:
            KeyError: the information file has no ``lidar_points``.
        """
        return {**results, "lidar2ego": results["lidar_points"]["lidar2ego"]}


@MODELS.register_module()
class BevstackDetector(Base3DDetector):  # type: ignore[misc]  # mmdet3d has no type information
    """BEVFormer v2 of this project behind the interface of mmdetection3d.

    Each sample is one frame: a model of several frames sees the first frame of a stream.

    Args:
        config: name or file of a bevstack configuration; None: that of ``weights``.
        weights: file of bevstack weights to start from; None: initial weights, drawn from the
            configuration's seed.
        class_names: classes of mmdetection3d's labels, in their order.
        data_preprocessor: as ``PREPROCESSOR``, which None stands for; it may pad.
        init_cfg: of mmengine, for example to load a checkpoint of mmengine.

    Raises:
        FileNotFoundError: there is no such configuration or weights file.
        ValueError: neither configuration nor weights are given, they do not fit, a class of the
            model has no label, or the data preprocessor changes values.
    """

    def __init__(
        self,
        config: str | None = None,
        weights: str | None = None,
        *,
        class_names: Sequence[str] = CLASSES,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        preprocessor = dict(data_preprocessor or PREPROCESSOR)
        _check_preprocessor(preprocessor)
        super().__init__(data_preprocessor=MODELS.build(preprocessor), init_cfg=init_cfg)
        self.detector, self.config = _build(config, weights)
        names = self.config.class_names
        absent = [name for name in names if name not in class_names]
        if absent:
            raise ValueError(
                f"class_names must hold the classes of the model; got none named {absent[0]!r}"
            )
        self._label_from_theirs = torch.tensor(
            [names.index(name) if name in names else -1 for name in class_names]
        )
        self._label_to_theirs = torch.tensor([list(class_names).index(name) for name in names])
        self.criterion = DetectorCriterion(self.config.loss, self.config.perspective)

    def loss(self, batch_inputs: Any, batch_data_samples: Any) -> dict[str, Tensor]:
        """Return "loss_detector", the sum to minimise, and its terms, detached, for the log.

        Args:
            batch_inputs: with "imgs" (B, N, 3, H, W), of the data preprocessor.
            batch_data_samples: B samples with ``gt_instances_3d``.

        Raises:
            ValueError: a sample is not of the form of ``frame_from_sample``.
        """
        frames = self._frames(batch_inputs, batch_data_samples)
        annotated = [
            self._annotated(frame, sample)
            for frame, sample in zip(frames, batch_data_samples, strict=True)
        ]
        batch = self._batch(annotated)
        output: BEVFormerOutput = self.detector(batch)
        losses = self.criterion(output, batch, self.config.grid)
        return {"loss_detector": losses.total, **losses.terms}

    def predict(self, batch_inputs: Any, batch_data_samples: Any) -> Any:
        """Return the samples with ``pred_instances_3d``: boxes in the lidar's frame, best first.

        Args:
            batch_inputs: with "imgs" (B, N, 3, H, W), of the data preprocessor.
            batch_data_samples: B samples.

        Raises:
            ValueError: a sample is not of the form of ``frame_from_sample``.
        """
        frames = self._frames(batch_inputs, batch_data_samples)
        output: BEVFormerOutput = self.detector(self._batch(frames))
        decoder = self.config.decoder
        found = detections_from(
            output.decoder,
            max_detections=decoder.max_detections,
            post_range_m=decoder.post_range_m,
            nms_iou=decoder.nms_iou,
        )
        instances = [
            self.to_instances(detections, frame, sample.metainfo)
            for detections, frame, sample in zip(found, frames, batch_data_samples, strict=True)
        ]
        return self.add_pred_to_datasample(batch_data_samples, instances)

    def to_instances(
        self, detections: Detections, frame: Frame, meta: Mapping[str, Any]
    ) -> InstanceData:
        """Return detections in a frame's bev frame as instances of mmdetection3d.

        Args:
            detections: with our labels.
            frame: the frame of the sample.
            meta: the sample's meta information.
        """
        device = detections.scores.device
        moved = replace(detections, boxes=detections.boxes.to("cpu").to(torch.float64))
        in_lidar = moved.transformed(lidar_from_bev(frame, meta)).boxes
        rows = boxes_to_lidar(in_lidar).to(device, torch.float32)
        return InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(rows, box_dim=rows.shape[1]),
            scores_3d=detections.scores,
            labels_3d=self._label_to_theirs.to(device)[detections.labels],
        )

    def extract_feat(self, batch_inputs: Any, batch_data_samples: Any) -> Tensor:
        """Return the BEV maps (B, C, Y, X)."""
        frames = self._frames(batch_inputs, batch_data_samples)
        output: BEVFormerOutput = self.detector(self._batch(frames))
        return output.bev

    def _forward(self, batch_inputs: Any, batch_data_samples: Any = None) -> tuple[Tensor, Tensor]:
        """Return logits (R, B, Q, K) and codes (R, B, Q, 10) of every decoder layer."""
        frames = self._frames(batch_inputs, batch_data_samples)
        output: BEVFormerOutput = self.detector(self._batch(frames))
        return output.decoder.logits, output.decoder.codes

    def _frames(self, batch_inputs: Any, samples: Any) -> list[Frame]:
        images = batch_inputs["imgs"]
        if images.ndim != 5:
            raise ValueError(
                f"imgs must have the shape (B, N, 3, H, W); got {tuple(images.shape)}: load the "
                "cameras with LoadMultiViewImageFromFiles"
            )
        return [
            frame_from_sample(pictures, sample.metainfo, grid_frame=self.config.grid.frame)
            for pictures, sample in zip(images, samples, strict=True)
        ]

    def _annotated(self, frame: Frame, sample: Any) -> Frame:
        """Return a frame with a sample's true boxes, and those that each camera sees."""
        truth = sample.gt_instances_3d
        annotations = annotations_from_lidar(
            truth.bboxes_3d.tensor.to("cpu"),
            truth.labels_3d.to("cpu"),
            self._label_from_theirs,
            torch.linalg.inv(lidar_from_bev(frame, sample.metainfo)),
        )
        seen = None if self.config.perspective is None else camera_boxes(frame, annotations)
        return replace(frame, annotations=annotations, camera_annotations=seen)

    def _batch(self, frames: Sequence[Frame]) -> Batch:
        clips = [prepare_clip(Clip((frame,), (0,)), self.config) for frame in frames]
        return stack_clips(clips).to(next(self.detector.parameters()).device)


def _build(config: str | None, weights: str | None) -> tuple[Any, Config]:
    if weights is not None:
        expected = None if config is None else load_config(config)
        return load_model(Path(weights), expected=expected)
    if config is None:
        raise ValueError("config or weights must be given; got neither")
    own = load_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own.training.seed)
        return build_model(own), own


def _check_preprocessor(preprocessor: Mapping[str, Any]) -> None:
    """Check that the model gets RGB images of 0 to 255."""
    scaled = [name for name in ("mean", "std") if preprocessor.get(name) is not None]
    is_rgb = preprocessor.get("bgr_to_rgb") and not preprocessor.get("rgb_to_bgr")
    if scaled or not is_rgb:
        got = f"{scaled[0]}" if scaled else "BGR images"
        raise ValueError(
            f"data_preprocessor must only pad and turn BGR into RGB (bgr_to_rgb=True); got {got}: "
            "the model normalises images itself"
        )
