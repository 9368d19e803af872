from __future__ import annotations

import pytest

from bevstack.config.temporal import TemporalConfig


def test_defaults_are_the_released_ones() -> None:
    config = TemporalConfig()
    assert (config.alignment, config.num_fusion, config.inter_channels) == ("reproject", 3, None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("alignment", "add", r"temporal\.alignment must be one of .*got 'add'"),
        ("num_fusion", 0, r"temporal\.num_fusion must be positive; got 0"),
        ("inter_channels", 0, r"temporal\.inter_channels must be positive or None; got 0"),
        ("norm", "LN", r"temporal\.norm must be one of .*got 'LN'"),
    ],
)
def test_contradictions_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemporalConfig(**{field: value})
