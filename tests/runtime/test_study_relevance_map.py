"""The study of the BEV map in the relevance of lights, on cases whose map holds the answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bevstack.config.traffic import TrafficConfig
from bevstack.models.traffic.map_evidence import NUM_POINTS
from bevstack.models.traffic.relevance import RelevanceHead
from bevstack.vocabulary import MANOEUVRES
from tools import study_relevance_map as program

CHANNELS = 4
CONFIG = TrafficConfig(roi_channels=24)


def head() -> RelevanceHead:
    torch.manual_seed(0)
    return RelevanceHead(CONFIG, bev_channels=CHANNELS).requires_grad_(False).eval()


def cases(count: int, scenes: int) -> list[program.Case]:
    """Return samples of three elements; the map's first channel tells which of them governs."""
    width, found = head().element[0].in_features, []
    generator = torch.Generator().manual_seed(1)
    for number in range(count):
        wanted = torch.randint(0, 2, (3, len(MANOEUVRES)), generator=generator)
        sampled = torch.zeros(3, len(MANOEUVRES), NUM_POINTS, CHANNELS + 1)
        sampled[..., 0] = (2.0 * wanted - 1)[..., None]
        sampled[..., -1] = 1
        inputs = torch.randn(3, width, generator=generator)
        frame = SimpleNamespace(scene_token=f"scene {number % scenes}")
        found.append(program.Case(frame, None, None, inputs, sampled.half(), wanted))
    return found


def test_the_evidence_of_the_map_learns_beside_a_head_that_keeps_its_bits() -> None:
    given, some = head(), cases(40, 5)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    start = program.with_map(given, 0)
    assert torch.equal(program.judge(start, some), program.judge(given, some))
    trained = program.train(start, some, 150, 0, whole=False)
    for name, value in before.items():
        assert torch.equal(trained.state_dict()[name], value), name
        assert torch.equal(given.state_dict()[name], value), name
    assert program.loss_of(trained, some) < 0.5 * program.loss_of(given, some)


@pytest.mark.parametrize(("arm", "learns"), [("map alone", True), ("whole head, no map", False)])
def test_scenes_are_judged_by_heads_that_have_not_seen_them(arm: str, learns: bool) -> None:
    some, given = cases(40, 5), head()
    heads = program.cross_fitted(arm, given, some, 150)
    start = program.mean_loss(dict.fromkeys(heads, given), some)
    # without the map the answers are drawn at random, so other scenes tell nothing of them
    assert (program.mean_loss(heads, some) < 0.6 * start) == learns
    assert len({id(own) for own in heads.values()}) == 5
    changed = [
        case._replace(wanted=1 - case.wanted) if case.frame.scene_token == "scene 0" else case
        for case in some
    ]
    again = program.cross_fitted(arm, given, changed, 150)
    for scene, same in (("scene 0", True), ("scene 1", False)):
        pairs = zip(heads[scene].parameters(), again[scene].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same


def test_differences_are_of_the_same_moments_with_intervals_over_scenes() -> None:
    first = {"a": [(True, 0.5), (False, 1.0)], "b": [(True, 1.0)], "c": [(False, 0.0)]}
    second = {**first, "c": [(True, 1.0)]}
    result = program.compared(first, second)
    assert result["moments"] == 4 and result["scenes"] == 3
    assert result["choice"]["accuracy"] == 0.75
    assert result["choice"]["minus_given_weights"] == 0.25
    assert result["decision"]["minus_given_weights"] == 0.25
    low, high = result["choice"]["interval"]
    assert low == 0.0 and high == 1.0  # draws without scene "c", and of it alone
    assert program.compared(first, first)["choice"]["interval"] == [0.0, 0.0]


def test_a_sample_without_regions_can_be_judged() -> None:
    (case,) = cases(1, 1)
    empty = case._replace(inputs=case.inputs[:0], sampled=case.sampled[:0], wanted=case.wanted[:0])
    assert program.judge(program.with_map(head(), 0), [empty]).shape == (0, len(MANOEUVRES))
