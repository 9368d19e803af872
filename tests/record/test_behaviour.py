"""Moving and renaming change nothing that a user sees: the record from before is made again."""

import copy
import json

import pytest

from tests.record import behaviour


@pytest.fixture
def wanted():
    return json.loads(behaviour.PATH.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("part", behaviour.PARTS)
def test_behaviour_is_the_recorded_one(part, wanted, tmp_path):
    found = behaviour.record(tmp_path, (part,))
    assert not behaviour.differences(found, wanted)


def test_a_changed_entry_is_found(wanted):
    """Every kind of entry: exact on the machine of the record, rounded on another."""
    assert behaviour.differences(wanted, wanted) == []
    found = copy.deepcopy(wanted)
    found["parts"]["exit_codes"]["everywhere"]["doctor"] = 3
    found["parts"]["demo"]["on_this_machine"]["results_nusc.json"] = "0" * 64
    found["parts"]["demo"]["figures"]["NDS"] += 0.02
    here = behaviour.differences(found, wanted)
    assert [line.split(":")[0] for line in here] == [
        "demo.on_this_machine.results_nusc.json",
        "exit_codes.everywhere.doctor",
    ]
    found["machine"]["processor"] = "another"
    elsewhere = behaviour.differences(found, wanted)
    assert [line.split(":")[0] for line in elsewhere] == [
        "demo.figures.NDS",
        "exit_codes.everywhere.doctor",
    ]


def test_a_missing_entry_is_found(wanted):
    found = copy.deepcopy(wanted)
    del found["parts"]["structure"]["everywhere"]["tiny_cpu"]["state_dict"]
    assert len(behaviour.differences(found, wanted)) == 1
