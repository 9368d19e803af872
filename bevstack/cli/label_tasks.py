"""Parts of verbs that work on labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config.segmentation import SegmentationConfig


def load_segmentation_config(name: str, overrides: Sequence[str]) -> SegmentationConfig | None:
    """Return the configuration of a segmenter, by name or path; None for another one.

    Raises:
        ValueError: an override does not fit.
    """
    from bevstack.config import packaged_configs
    from bevstack.config.loading import defines, load_task_config
    from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig

    if name in packaged_configs(SEGMENTATION) or defines(name, SegmentationConfig):
        return load_task_config(SegmentationConfig, SEGMENTATION, name, overrides)
    return None
