"""Configuration: one frozen dataclass for each stage; ``configs/`` holds whole detectors."""

from bevstack.config.detector import Config
from bevstack.config.internimage import InternImageConfig
from bevstack.config.loading import describe_packaged, load_config, packaged_configs
from bevstack.config.model import (
    BEVEncoderConfig,
    DecoderConfig,
    FPNConfig,
    ImageConfig,
    LossConfig,
)
from bevstack.config.overrides import flat_fields, with_overrides
from bevstack.config.perspective import PerspectiveConfig, ProposalConfig, SmallImagePreset
from bevstack.config.resnet import ResNetConfig
from bevstack.config.serialization import (
    config_from_json,
    config_to_json,
    first_differences,
    stored_differences,
)
from bevstack.config.temporal import TemporalConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.config.training import AugmentationConfig, TrainingConfig
from bevstack.geometry import BEVGrid

__all__ = [
    "AugmentationConfig",
    "BEVEncoderConfig",
    "BEVGrid",
    "Config",
    "DecoderConfig",
    "FPNConfig",
    "ImageConfig",
    "InternImageConfig",
    "LossConfig",
    "PerspectiveConfig",
    "ProposalConfig",
    "ResNetConfig",
    "SmallImagePreset",
    "TemporalConfig",
    "TrafficConfig",
    "TrainingConfig",
    "config_from_json",
    "config_to_json",
    "describe_packaged",
    "first_differences",
    "flat_fields",
    "load_config",
    "packaged_configs",
    "stored_differences",
    "with_overrides",
]
