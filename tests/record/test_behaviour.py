"""Comparison of the package's present behaviour with the stored record."""

import copy
import json

import pytest

from tests.record import behaviour


@pytest.fixture
def recorded():
    return json.loads(behaviour.PATH.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("part", behaviour.PARTS)
def test_behaviour_is_the_recorded_one(part, recorded, tmp_path):
    current = behaviour.record(tmp_path, (part,))
    assert not behaviour.differences(current, recorded)


def test_a_changed_entry_is_found(recorded):
    """Change entries of every kind; compare on the machine of the record and on another one."""
    assert behaviour.differences(recorded, recorded) == []
    current = copy.deepcopy(recorded)
    current["parts"]["exit_codes"]["everywhere"]["doctor"] = 3
    current["parts"]["demo"]["on_this_machine"]["results_nusc.json"] = "0" * 64
    current["parts"]["demo"]["figures"]["NDS"] += 0.02
    here = behaviour.differences(current, recorded)
    assert [line.split(":")[0] for line in here] == [
        "demo.on_this_machine.results_nusc.json",
        "exit_codes.everywhere.doctor",
    ]
    current["machine"]["processor"] = "another"
    elsewhere = behaviour.differences(current, recorded)
    assert [line.split(":")[0] for line in elsewhere] == [
        "demo.figures.NDS",
        "exit_codes.everywhere.doctor",
    ]


def test_a_missing_entry_is_found(recorded):
    current = copy.deepcopy(recorded)
    del current["parts"]["structure"]["everywhere"]["tiny_cpu"]["state_dict"]
    assert len(behaviour.differences(current, recorded)) == 1
