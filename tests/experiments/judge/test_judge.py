"""The judge on a small world: its rows, finished rows, and the checks of the rows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bevstack.cli import judge as verb
from bevstack.cli.main import build_parser
from bevstack.evaluation.baselines.lifting import class_priors
from bevstack.experiments.judge import judge, rows, verdict
from bevstack.experiments.judge.detectors import FrameByFrame, LiftedPerspective, PerspectiveAlone
from bevstack.experiments.judge.rows import list_rows, select_rows, whole_scenes
from bevstack.geometry import invert_se3
from bevstack.models.build import save_model
from bevstack.models.perspective.decode import detect
from bevstack.runtime.detector import Detector, build
from tests.models.small_models import randomise
from tests.small_world import CONFIG, SPEC, dataset, small_world
from tests.training.two_ranks import RECIPE, all_stages

ALL_STAGES = all_stages(RECIPE)
SOME = (
    "model,tracked,mirrored,mirrored_tracked,random,prior,single_frame,other_samples,lost_CAM_BACK"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Build a detector with random weights whose output depends on the history."""
    detector = build(ALL_STAGES)
    randomise(detector.model, scale=0.02)
    return detector


@pytest.fixture(scope="module")
def weights(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(path, detector.model, ALL_STAGES)
    return path


def run(arguments: list[str]) -> int:
    return verb.run(build_parser().parse_args(["judge", *arguments]))


def options(arguments: list[str]) -> judge.JudgeOptions:
    args = build_parser().parse_args(["judge", *arguments])
    values = {k: v for k, v in vars(args).items() if k in judge.JudgeOptions.__dataclass_fields__}
    return judge.JudgeOptions(**values)


def command(weights: Path, root: Path, out: Path, only: str = SOME) -> list[str]:
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_val"]
    return [str(weights), *where, "--only", only, "--out", str(out)]


@pytest.fixture(scope="module")
def judged(weights: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nuscenes")
    out = tmp_path_factory.mktemp("judged")
    run([*command(weights, root, out), "--official"])
    return out


def test_every_row_has_its_figures(judged: Path) -> None:
    content = json.loads((judged / "judge.json").read_text())
    assert list(content["rows"]) == SOME.split(",")
    for row in content["rows"].values():
        assert 0 <= row["NDS"] <= 1 and len(row["classes"]) == 10
        assert {"camera/CAM_BACK", "motion/moving"} <= row["groups"].keys()
        assert {"truth", "mAP", "recall", "mAVE"} <= row["groups"]["camera/CAM_BACK"].keys()
    assert content["data"]["samples"] == 6 and len(content["data"]["scenes"]) == 2
    assert content["data"]["digest"] and len(content["model"]["sha256"]) == 64
    assert content["versions"]["torch"] == torch.__version__
    names = [check["name"] for check in content["controls"]]
    assert "other_samples falls to the prior" in names
    official = [c for c in content["controls"] if c["name"].startswith("nuscenes-devkit")]
    assert [(c["name"].split()[-1], c["holds"]) for c in official] == [
        ("model", True),
        ("tracked", True),
        ("mirrored", True),
        ("mirrored_tracked", True),
    ]
    readings = [content["rows"][name] for name in verdict.READINGS]
    assert len({tuple(row["groups"]["all/all"].values()) for row in readings}) == 4


def test_classes_are_part_of_the_inputs(weights: Path, root: Path, tmp_path: Path) -> None:
    classes = tmp_path / "map.json"
    classes.write_text('{"animal": null}')
    arguments = [*command(weights, root, tmp_path), "--classes", str(classes)]
    inputs = [
        judge.describe_inputs(judge.open_case(options(given)), "synth_train")["data"]
        for given in (command(weights, root, tmp_path), arguments)
    ]
    assert "classes" not in inputs[0]
    assert inputs[1] == {**inputs[0], "classes": {"animal": None}}
    with pytest.raises(ValueError, match="--official must be given without --classes"):
        options([*arguments, "--official"])


def test_finished_rows_are_not_made_again(
    judged: Path, weights: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((judged / "judge.json").read_text())

    def refuse(*_: object) -> None:
        raise AssertionError("a finished row was made again")

    monkeypatch.setattr(rows, "predict_dataset", refuse)
    monkeypatch.setattr(rows, "write_submission", refuse)
    run([*command(weights, root, judged), "--official"])
    after = json.loads((judged / "judge.json").read_text())
    assert after == before
    with pytest.raises(AssertionError, match="made again"):
        run(command(weights, root, judged, "black_images"))


def test_rows_of_another_model_are_refused(
    judged: Path, detector: Detector, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_model(other, detector.model, ALL_STAGES, {"steps": "7"})
    with pytest.raises(ValueError, match=r"must be of this model and these data; .* in model"):
        run(command(other, root, judged))


def test_the_exit_code_is_1_if_a_control_fails(
    judged: Path, weights: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for holds in (True, False):
        check = verdict.Check("a", holds, "b")
        monkeypatch.setattr(verdict, "controls", lambda *_, found=check: [found])
        assert run(command(weights, root, judged)) == (0 if holds else 1)


def test_the_official_score_needs_the_models_row(weights: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--only must name the row model with --official"):
        run([*command(weights, root, tmp_path, "prior"), "--official"])


def test_weights_of_one_frame_get_a_row_and_weights_of_several_are_refused(
    weights: Path, root: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.safetensors"
    save_model(alone, build(CONFIG).model, CONFIG)
    only = command(weights, root, tmp_path, "single_frame_weights")
    run([*only, "--single-frame", str(alone), "--max-frames", "4"])
    content = json.loads((tmp_path / "judge.json").read_text())
    assert list(content["rows"]) == ["single_frame_weights"] and content["data"]["samples"] == 3
    with pytest.raises(ValueError, match=r"of a model with frames \(0,\); got \(-1, 0\)"):
        run([*only, "--single-frame", str(weights)])


def test_a_model_has_the_rows_that_fit_it(weights: Path, root: Path, tmp_path: Path) -> None:
    case = judge.open_case(options(command(weights, root, tmp_path)))
    everything = list_rows(case)
    names = [row.name for row in everything]
    assert len(set(names)) == len(names) == 26
    assert set(verdict.NEGATIVE_CONTROLS) < set(names)
    assert set(verdict.BASELINES) < set(names)
    alone = tmp_path / "alone.safetensors"
    save_model(alone, build(CONFIG).model, CONFIG)
    case = judge.open_case(options(command(alone, root, tmp_path)))
    fewer = [row.name for row in list_rows(case)]
    missing = {"lift_own", "lift_own_behind", "perspective_alone", "single_frame"}
    assert set(names) - set(fewer) == missing
    selected = [row.name for row in select_rows(everything, ["lost_", "prior"])]
    assert selected == ["prior", *names[-6:]]
    assert {row.kind for row in select_rows(everything, ["control"])} == {"control"}
    # the row, not the kind
    assert [row.name for row in select_rows(everything, ["model"])] == ["model"]
    with pytest.raises(ValueError, match=r"--only must name rows among model, .*; got 'piror'"):
        select_rows(everything, ["prior", "piror"])


def test_whole_scenes_are_selected_and_at_least_one() -> None:
    scenes = {"a": [0, 1, 2], "b": [3, 4], "c": [5]}
    first = {n: whole_scenes(scenes, n) for n in (1, 3, 4, 5, 6, None)}
    assert first[1] == first[3] == first[4] == ("a",)
    assert first[5] == ("a", "b") and first[6] == first[None] == ("a", "b", "c")


def test_without_history_every_frame_is_the_first(detector: Detector, root: Path) -> None:
    data = dataset(root, "synth_val")
    streams = detector.stream(), FrameByFrame(detector).stream()
    differ = []
    for index in range(3):
        frame = data.frame(index)
        with_history, detections = (stream.step(frame) for stream in streams)
        wanted = detector.predict(frame)
        assert torch.equal(detections.boxes.center, wanted.boxes.center)
        assert torch.equal(detections.scores, wanted.scores)
        differ.append(not torch.equal(with_history.scores, detections.scores))
    assert differ == [False, True, True]


def test_the_perspective_head_alone_gives_the_proposals_of_the_decoder(
    detector: Detector, root: Path
) -> None:
    frame = dataset(root, "synth_val").frame(0)
    proposals = []
    propose = detector.model.propose
    try:
        detector.model.propose = lambda *a, **k: proposals.append(propose(*a, **k)) or proposals[-1]
        detector.predict(frame)
    finally:
        detector.model.propose = propose
    detections = PerspectiveAlone(detector).stream().step(frame)
    valid = proposals[0].valid[0]
    assert len(detections) == int(valid.sum()) > 0
    assert torch.equal(detections.boxes.center, proposals[0].boxes.center[0][valid])
    assert torch.equal(detections.boxes.velocity, proposals[0].boxes.velocity[0][valid])
    assert torch.equal(detections.labels, proposals[0].labels[0][valid])


def test_image_boxes_are_lifted_to_the_intersection_of_ray_and_ground(
    detector: Detector, root: Path
) -> None:
    """Compute the best box that reaches the ground, one number at a time."""
    data = dataset(root, "synth_val")
    frame = data.frame(0)
    priors = class_priors(data.tables, "synth_train")
    lifted = LiftedPerspective(detector, priors=priors).stream().step(frame)
    views, _ = PerspectiveAlone(detector)._run_perspective_head(frame)
    image_detections = detect(views.output, views.intrinsics, ALL_STAGES.perspective)
    reference = invert_se3(frame.world_from_ego) @ frame.world_from_ego_at_camera
    best = (-1.0, 0.0, 0.0, 0)
    for camera in range(6):
        pose = (reference[camera] @ frame.ego_from_cam[camera]).tolist()
        k = views.intrinsics[camera].tolist()
        for row in range(int(image_detections.valid[camera].sum())):
            left, _, right, bottom = image_detections.boxes_px[camera, row].tolist()
            ray = (((left + right) / 2 - k[0][2]) / k[0][0], (bottom - k[1][2]) / k[1][1], 1.0)
            direction = [sum(pose[i][j] * ray[j] for j in range(3)) for i in range(3)]
            score = float(image_detections.image_scores[camera, row])
            if direction[2] < 0 and score > best[0]:
                scale = -pose[2][3] / direction[2]
                point = [pose[i][3] + scale * direction[i] for i in range(2)]
                best = (score, *point, int(image_detections.labels[camera, row]))
    assert float(lifted.scores[0]) == pytest.approx(best[0])
    assert lifted.boxes.center[0, :2].tolist() == pytest.approx(best[1:3], rel=1e-4)
    assert int(lifted.labels[0]) == best[3]
    assert not math.isnan(float(lifted.boxes.yaw[0])) and not lifted.boxes.velocity.any()


def _row(nds: float, mean_ap: float, mave: float = 1.0, **sectors: float) -> dict:
    groups = {f"camera/{name}": {"mAP": value} for name, value in sectors.items()}
    return {"NDS": nds, "mAP": mean_ap, "mAVE": mave, "groups": groups}


GOOD = {
    "model": _row(0.4, 0.3, 0.5, A=0.30, B=0.20, C=0.02),
    "prior": _row(0.03, 0.0),
    "grey_images": _row(0.049, 0.0),
    "turned_untold": _row(0.3, 0.2),
    "turned_told": _row(0.4, 0.3),
    "lost_A": _row(0.3, 0.2, A=0.1, B=0.18, C=0.011),
    "single_frame": _row(0.3, 0.25, 0.9),
}


RECOVERS = f"{verdict.CORRECT_CALIBRATION} recovers"


@pytest.mark.parametrize(
    ("name", "row", "fails"),
    [
        ("grey_images", _row(0.051, 0.0), "grey_images falls to the prior"),
        ("turned_untold", _row(0.3, 0.29), "turned_untold falls"),
        (verdict.CORRECT_CALIBRATION, _row(0.4, 0.24), RECOVERS),
        ("lost_A", _row(0.3, 0.2, A=0.19, B=0.2, C=0.02), "lost_A loses its sector"),
        ("lost_A", _row(0.3, 0.2, A=0.1, B=0.16, C=0.02), "lost_A keeps the remaining sectors"),
    ],
)
def test_each_control_can_fail(name: str, row: dict, fails: str) -> None:
    assert all(check.holds for check in verdict.controls(GOOD))
    assert [c.name for c in verdict.controls({**GOOD, name: row}) if not c.holds] == [fails]


def test_a_model_without_detections_fails_the_controls_that_compare_map() -> None:
    nothing = _row(0.0, 0.0, A=0.0, B=0.0)
    checks = verdict.controls({**dict.fromkeys(GOOD, nothing)})
    failing = {check.name for check in checks if not check.holds}
    assert failing == {"turned_untold falls", RECOVERS, "lost_A loses its sector"}


def test_another_official_score_fails_in_its_last_digit() -> None:
    same = {"NDS": 0.4, "mAP": 0.3}
    assert all(check.holds for check in verdict.controls(GOOD, {"model": same}))
    other = {"NDS": 0.4, "mAP": math.nextafter(0.3, 1)}
    assert [c.holds for c in verdict.controls(GOOD, {"model": other})].count(False) == 1


def test_goals_compare_nds_with_baselines_and_velocity_with_the_single_frame() -> None:
    assert [(c.name, c.holds) for c in verdict.goals(GOOD)] == [
        ("above prior", True),
        ("velocity better than single_frame", True),
    ]
    better = {**GOOD, "prior": _row(0.5, 0.4), "single_frame": _row(0.3, 0.2, 0.4)}
    assert [c.holds for c in verdict.goals(better)] == [False, False]


def test_every_reading_of_the_weights_is_compared_with_the_baselines() -> None:
    readings = {**GOOD, "tracked": _row(0.2, 0.1), "lift_true_tracked": _row(0.15, 0.1)}
    prior = GOOD["prior"]["NDS"]
    assert GOOD["model"]["NDS"] > 0.15 and prior < 0.2
    assert [(c.name, c.holds) for c in verdict.goals(readings)] == [
        ("above prior", True),
        ("above lift_true_tracked", True),
        ("tracked above prior", True),
        ("tracked above lift_true_tracked", True),
        ("velocity better than single_frame", True),
    ]
    readings["lift_true_tracked"] = _row(0.25, 0.1)
    failing = [check.name for check in verdict.goals(readings) if not check.holds]
    assert failing[-1] == "tracked above lift_true_tracked"


def test_precision_is_that_of_the_model_and_part_of_what_finished_rows_belong_to(
    root: Path, weights: Path, tmp_path: Path
) -> None:
    given = [str(weights), "--nuscenes", str(root), "--version", SPEC.version]
    given += ["--split", "synth_val", "--out", str(tmp_path)]
    plain = judge.open_case(options([*given]))
    case = judge.open_case(options([*given, "--precision", "bfloat16"]))
    assert (plain.detector.precision, case.detector.precision) == ("float32", "bfloat16")
    assert judge.describe_inputs(case, "synth_train")["precision"] == "bfloat16"
    assert "precision" not in judge.describe_inputs(plain, "synth_train")
