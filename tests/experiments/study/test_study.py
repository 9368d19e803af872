"""The study on a small world: variants, budgets, and finished variants that are not made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bevstack.cli import study as verb
from bevstack.cli.main import build_parser
from bevstack.config import config_to_json
from bevstack.experiments.study import study
from bevstack.experiments.study.budget import Plan, plan_budget, time_step
from bevstack.experiments.study.variants import list_variants, select_variants
from bevstack.files import write_text_atomically
from tests.small_world import SPEC, dataset, small_world
from tests.training.two_ranks import RECIPE, all_stages

CONFIG = all_stages(replace(RECIPE, num_steps=12, perspective_steps=4, accumulate=1))


def run(arguments: list[str]) -> int:
    return verb.run(build_parser().parse_args(["study", *arguments]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


def test_each_variant_leaves_out_the_part_in_its_name() -> None:
    named = {variant.name: variant for variant in list_variants(CONFIG, 2)}
    assert list(named)[:2] == ["seed_0", "seed_1"]
    assert named["seed_1"].config == replace(CONFIG, training=replace(CONFIG.training, seed=1))
    assert named["no_memory"].config.frames == (0,) and named["no_memory"].config.temporal is None
    assert named["no_proposals"].config == replace(CONFIG, proposals=None)
    bare = named["no_perspective"].config
    assert bare.perspective is None and bare.proposals is None
    assert bare.training.perspective_steps == 0
    assert named["camera_dropout"].config.augmentation.camera_dropout > 0
    assert named["shuffled_labels"].shuffled_labels and named["shuffled_labels"].config == CONFIG
    assert [v.shuffled_labels for v in named.values()].count(True) == 1
    single = replace(bare, frames=(0,), temporal=None)
    names = [variant.name for variant in list_variants(single, 1)]
    assert names == ["seed_0", "camera_dropout", "shuffled_labels"]


def test_variants_are_selected_by_name_or_beginning() -> None:
    variants = list_variants(CONFIG, 3)
    assert [v.name for v in select_variants(variants, ["seed_"])] == ["seed_0", "seed_1", "seed_2"]
    assert [v.name for v in select_variants(variants, ["no_memory"])] == ["no_memory"]
    assert select_variants(variants, []) == variants
    with pytest.raises(ValueError, match=r"--only must name variants among seed_0.*got 'memory'"):
        select_variants(variants, ["memory"])


def test_a_plan_fills_the_budget_in_the_stages_shares(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(*_: object, partial: bool) -> float:
        return 0.5 if partial else 2.0

    monkeypatch.setattr("bevstack.experiments.study.budget.time_step", timed)
    plan = plan_budget(CONFIG, dataset(root), 90.0)  # 4 * 0.5 and 8 * 2 s: one ninth, eight ninths
    assert plan == Plan(20, 60, 0.5, 2.0)
    assert 0.5 * 20 + 2.0 * 40 == 90.0
    bare = list_variants(CONFIG, 1)[3].config
    assert plan_budget(bare, dataset(root), 90.0) == Plan(0, 45, 0.0, 2.0)
    first = replace(CONFIG, training=replace(CONFIG.training, perspective_steps=12))
    assert plan_budget(first, dataset(root), 90.0) == Plan(180, 180, 0.5, 0.0)
    with pytest.raises(ValueError, match=r"--minutes must pay for a step of each stage, 2\.5 s"):
        plan_budget(CONFIG, dataset(root), 1.0)


def test_the_first_stage_is_timed_without_the_rest_of_the_model(root: Path) -> None:
    assert time_step(CONFIG, dataset(root), partial=True) > 0


@pytest.fixture(scope="module")
def studied(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Run a study of two variants; return its command."""
    folder = tmp_path_factory.mktemp("study")
    config = folder / "small.py"
    text = config_to_json(CONFIG)
    config.write_text(
        f"from bevstack.config import config_from_json\nCONFIG = config_from_json({text!r})\n",
        encoding="utf-8",
    )
    out = folder / "out"
    for name in ("seed_0", "shuffled_labels"):
        (out / name).mkdir(parents=True)
        plan = Plan(2, 4, 0.1, 0.2)  # instead of timing
        write_text_atomically(out / name / "plan.json", json.dumps(plan.to_json()))
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_train"]
    command = ["--config", str(config), *where, "--held-out", "synth_val", "--out", str(out)]
    command += ["--seeds", "1"]
    assert run([*command, "--only", "seed_0"]) == 0
    assert run([*command, "--only", "shuffled_labels"]) == 0
    return command


def test_a_study_keeps_finished_variants_and_joins_them(
    studied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(studied[studied.index("--out") + 1])
    content = json.loads((out / "study.json").read_text())
    assert content["command"].startswith("bevstack ")
    assert set(content["variants"]) == {"seed_0", "shuffled_labels"}
    for row in content["variants"].values():
        assert row["cpu_seconds"] > 0 and row["plan"]["num_steps"] == 4
        assert 0 <= row["NDS"] <= 1 and len(row["classes"]) == 10
    steps = [json.loads(x) for x in (out / "seed_0/run/log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished variant was trained again")

    monkeypatch.setattr(study, "train", refuse)
    assert run([*studied, "--only", "seed_0,shuffled_labels"]) == 0
    with pytest.raises(ValueError, match="must be of this study; got differences in minutes"):
        run([*studied, "--minutes", "1", "--only", "seed_0"])
    # Figures of a mapping of categories are not those without it.
    path = out / "seed_0.json"
    stored = json.loads(path.read_text())
    stored["marks"]["classes"] = {"animal": None}
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="must be of this study; got differences in classes"):
        run([*studied, "--only", "seed_0"])


def test_variants_start_with_the_given_weights(
    studied: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_index = studied.index("--out") + 1
    weights = Path(studied[out_index]) / "seed_0" / "run" / "model.safetensors"
    command = [*studied, "--weights", str(weights), "--only", "seed_0"]
    message = "must be of this study; got differences in initial_weights"
    with pytest.raises(ValueError, match=message):
        run(command)
    command[out_index] = str(tmp_path / "started")
    folder = tmp_path / "started" / "seed_0"
    folder.mkdir(parents=True)
    write_text_atomically(folder / "plan.json", json.dumps(Plan(1, 2, 0.1, 0.2).to_json()))
    starts = []

    def recording(*args: object, start: Path | None, **kwargs: object) -> object:
        starts.append(start)
        return train(*args, start=start, **kwargs)  # type: ignore[arg-type]

    train = study.train
    monkeypatch.setattr(study, "train", recording)
    assert run(command) == 0
    assert starts == [weights]
    content = json.loads((tmp_path / "started" / "study.json").read_text())
    assert content["initial_weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    first_study = json.loads((Path(studied[out_index]) / "study.json").read_text())
    assert first_study["initial_weights"] is None


def test_statistics_are_those_of_the_seeds_alone() -> None:
    row = dict.fromkeys(study.COLUMNS, 0.5)
    rows = {"seed_0": {**row, "NDS": 0.2}, "seed_1": {**row, "NDS": 0.4}, "no_memory": row}
    mean, deviation = study.seed_statistics(rows)["NDS"]
    assert mean == pytest.approx(0.3) and deviation == pytest.approx(0.02**0.5)
    assert study.seed_statistics({"seed_0": row}) == {}
