"""The reader of the stored 2D cases: the rule of weights and the manifest."""

from __future__ import annotations

import pytest
import torch

from tests import internimage_heads_oracle as oracle

STORED = ("mask", "cascade", "upernet", "mask2former", "dino", "cb_backbone")


@pytest.mark.parametrize("name", oracle.cases(*STORED, aspect="_weights"))
def test_stored_weights_are_those_of_the_rule_with_its_gains(name: str) -> None:
    stored = oracle.stored_state(name)
    case = oracle.manifest()[name]
    ruled = oracle.ruled_state(case, ((key, tuple(v.shape)) for key, v in stored.items()))
    different = [key for key, value in stored.items() if not torch.equal(value, ruled[key])]
    assert not different, different[:10]
