from __future__ import annotations

import pytest

from bevstack.config.resnet import ResNetConfig


def test_channels_and_strides_of_the_published_backbone() -> None:
    config = ResNetConfig()
    assert config.stage_channels == (256, 512, 1024, 2048)
    assert config.out_channels == (512, 1024, 2048)
    assert config.out_strides == (8, 16, 32)
    assert ResNetConfig(depth=101).stage_blocks == (3, 4, 23, 3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("depth", 34, r"backbone\.depth must be one of \(50, 101\); got 34"),
        ("base_channels", 0, r"backbone\.base_channels must be positive; got 0"),
        (
            "out_indices",
            (),
            r"backbone\.out_indices must be stages 0\.\.3 in ascending order; got \(\)",
        ),
        ("out_indices", (2, 1), r"backbone\.out_indices must be stages 0\.\.3 in ascending order"),
        ("out_indices", (1, 4), r"backbone\.out_indices must be stages 0\.\.3 in ascending order"),
        ("norm", "GN", r"backbone\.norm must be one of .*got 'GN'"),
    ],
)
def test_contradictions_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**{field: value})
