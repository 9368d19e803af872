"""The benchmark of corrupted images on a small world, with the packaged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bevstack.cli.main import main
from bevstack.datasets.corruptions import CORRUPTIONS, LEVELS, lost_cameras
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.evaluation.scoring import rows_of_samples
from bevstack.experiments.corruptions import benchmark
from bevstack.experiments.corruptions.frames import (
    corrupted_frames,
    in_cameras_left,
    share_of_cameras,
)
from bevstack.runtime.shipped import weights_path
from tests.small_world import SPEC, dataset, small_world

NAMES = ("FrameLost", "Brightness")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


def make_options(root: Path, out: Path, **changes: Any) -> benchmark.CorruptionOptions:
    values: dict[str, Any] = {
        "model": weights_path("tiny_cpu_t4"),
        "nuscenes": root,
        "version": SPEC.version,
        "scenes": [dataset(root, "synth_val").scene_names[0]],
        "corruptions": tuple(CORRUPTIONS[name] for name in NAMES),
        "out": out,
    }
    return benchmark.CorruptionOptions(**values | changes)


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the benchmark once; the scene has three samples."""
    out = tmp_path_factory.mktemp("corruptions")
    lines: list[str] = []
    benchmark.score_corruptions(make_options(root, out), lines.append)
    names = ["clean", *(f"{name}_{level}" for name in NAMES for level in LEVELS)]
    assert [line.split()[0] for line in lines] == names
    assert not list((out / "results").iterdir())
    return out


def test_file_has_all_figures_rates_and_the_share_of_cameras(root: Path, finished: Path) -> None:
    content = json.loads((finished / "corruptions.json").read_text())
    clean = content["clean"]
    assert clean["NDS"] > 0.1 and list(content["corruptions"]) == list(NAMES)
    for name, row in content["corruptions"].items():
        scores = [row[level]["NDS"] for level in LEVELS]
        assert row["RR"] == pytest.approx(sum(scores) / (3 * clean["NDS"])) and row["CE"] is None
        assert scores[0] != clean["NDS"] and len(set(scores)) == 3, name
        assert all(len(row[level]["classes"]) == 10 for level in LEVELS)
    rates = [row["RR"] for row in content["corruptions"].values()]
    assert content["mRR"] == pytest.approx(sum(rates) / 2) and content["mCE"] is None
    lost = content["corruptions"]["FrameLost"]
    assert 0 <= lost["hard"]["cameras"] <= lost["easy"]["cameras"] < 1
    assert content["corruptions"]["Brightness"]["hard"]["cameras"] == 1
    assert content["corruptions"]["Brightness"]["hard"]["clean_mAP_left"] is None
    assert 0 <= lost["hard"]["clean_mAP_left"] <= lost["easy"]["clean_mAP_left"] <= clean["mAP"]
    assert lost["easy"]["clean_mAP_left"] > 0
    assert content["data"]["samples"] == 3 and len(content["model"]["sha256"]) == 64


def test_finished_runs_are_reused_and_missing_ones_give_the_same_figures(
    root: Path, finished: Path
) -> None:
    path = finished / "corruptions.json"
    before = json.loads(path.read_text())
    (finished / "runs" / "FrameLost_moderate.json").unlink()
    lines: list[str] = []
    after = benchmark.score_corruptions(make_options(root, finished), lines.append)
    assert [line.split()[0] for line in lines if "already" not in line] == ["FrameLost_moderate"]
    for content in (before, after):
        content["corruptions"]["FrameLost"]["moderate"]["seconds"] = 0
    assert json.loads(json.dumps(after)) == before


def test_reference_itself_has_an_mce_of_one(root: Path, finished: Path) -> None:
    path = finished / "corruptions.json"
    content = benchmark.score_corruptions(
        make_options(root, finished, reference=path), lambda line: None
    )
    assert content["mCE"] == 1 and content["reference"] == "tiny_cpu_t4.safetensors"
    assert {row["CE"] for row in content["corruptions"].values()} == {1.0}


def test_runs_of_other_options_and_other_references_are_refused(
    root: Path, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="must be of this model and these data; got differences"):
        benchmark.score_corruptions(make_options(root, finished, as_published=True), print)
    path = finished / "corruptions.json"
    with pytest.raises(ValueError, match="must have as_published True, as this run; got False"):
        options = make_options(root, tmp_path, as_published=True, reference=path)
        benchmark.score_corruptions(options, print)
    other = [dataset(root, "synth_val").scene_names[1]]
    with pytest.raises(ValueError, match="must have samples_sha256"):
        benchmark.score_corruptions(
            make_options(root, tmp_path, scenes=other, reference=path), print
        )
    with pytest.raises(ValueError, match="must have the field 'Fog'"):
        benchmark.score_corruptions(
            make_options(root, tmp_path, corruptions=(CORRUPTIONS["Fog"],), reference=path), print
        )


def test_share_of_cameras_is_that_of_the_corrupted_frames(root: Path) -> None:
    samples = dataset(root, "synth_val")
    for name in ("CameraCrash", "FrameLost", "Snow"):
        corruption = CORRUPTIONS[name]
        corrupted = corrupted_frames(samples, corruption, level="easy")
        images = [i for n in range(len(samples)) for i in corrupted.frame(n).images]
        share = sum(image is not None for image in images) / len(images)
        assert share_of_cameras(samples, corruption, "easy") == pytest.approx(share)


def seen(root: Path, token: str, point: np.ndarray, lost: frozenset[str]) -> bool:
    """Project a point into the key frames' pictures by the tables alone."""
    names = ("ego_pose", "sensor", "calibrated_sensor", "sample_data")
    tables = {n: json.loads((root / SPEC.version / f"{n}.json").read_text()) for n in names}
    rows = {name: {row["token"]: row for row in tables[name]} for name in names}
    for picture in tables["sample_data"]:
        if picture["sample_token"] != token or not picture["is_key_frame"]:
            continue
        camera = rows["calibrated_sensor"][picture["calibrated_sensor_token"]]
        channel = rows["sensor"][camera["sensor_token"]]["channel"]
        if not channel.startswith("CAM") or channel in lost:
            continue
        where = point
        for pose in (rows["ego_pose"][picture["ego_pose_token"]], camera):
            turn = Rotation.from_quat(pose["rotation"], scalar_first=True)
            where = turn.inv().apply(where - np.array(pose["translation"]))
        u, v, depth = np.array(camera["camera_intrinsic"]) @ where
        inside = 0 < u / depth < picture["width"] and 0 < v / depth < picture["height"]
        if depth > 0.1 and inside:
            return True
    return False


def test_boxes_of_the_cameras_left_are_those_that_their_pictures_show(root: Path) -> None:
    samples, corruption = dataset(root, "synth_val"), CORRUPTIONS["CameraCrash"]
    tokens = [samples.sample_token(n) for n in range(2)]
    truth = ground_truth(samples.tables, rows_of_samples(samples.tables, "synth_val")).boxes
    boxes = truth.select_samples(np.array(tokens))
    got = in_cameras_left(samples, boxes, corruption, "moderate")
    names = samples.frame(0).camera_labels()
    wanted = [
        seen(root, token, point, lost_cameras(corruption, "moderate", token, names))
        for row, point in zip(boxes.sample, boxes.translation, strict=True)
        for token in [tokens[row]]
    ]
    assert got.tolist() == wanted and 0 < got.sum() < len(got)


def test_command_prints_the_table_of_finished_runs(
    root: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = dataset(root, "synth_val").scene_names[0]
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--scene", scene]
    command = ["evaluate", "--corruptions", "brightness,FrameLost", "--weights", "tiny_cpu_t4"]
    command += [*where, "--device", "cpu", "--out", str(finished)]
    assert main(command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    starts = [line[0] for line in lines if line]
    assert starts.count("Brightness") == 1 and starts.count("FrameLost") == 4  # costs of levels
    assert ["note:", "CE", "needs", "--reference,"] in [line[:4] for line in lines]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "bevstack-corruptions-1"


def test_unfit_options_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_val"]
    weights = ["--weights", "tiny_cpu_t4", "--out", "x"]
    for options, wanted in (
        (["--corruptions", "all", *where], "--weights must be given with --corruptions"),
        (["--corruptions", "all", *weights, *where[:4]], "--split or --scene must be given"),
        (["--corruptions", "Snou", *weights, *where], "did you mean Snow"),
        (["--corruptions", "all", *weights, *where, "r.json"], "without a results file"),
        (["--corruptions", "all", *weights, *where, "--groups"], "must be given without --groups"),
        (["r.json", *where, "--health"], "--health must be given with --corruptions"),
        (["r.json", *where, "--weights", "w"], "--weights must be given with --corruptions"),
    ):
        assert main(["evaluate", *options]) == 2, options
        assert wanted in capsys.readouterr().err, options


def test_runs_of_another_precision_are_not_those_of_float32(root: Path, tmp_path: Path) -> None:
    options = make_options(root, tmp_path, corruptions=(), precision="bfloat16")
    exact = benchmark.open_detector(make_options(root, tmp_path))
    assert "Detector(bfloat16)" in benchmark.open_detector(options).mode
    assert "bfloat16" not in exact.mode
    inputs = benchmark.describe_inputs(options, dataset(root, "synth_val"))
    assert inputs["mode"]["precision"] == "bfloat16"
    plain = benchmark.describe_inputs(make_options(root, tmp_path), dataset(root, "synth_val"))
    assert "precision" not in plain["mode"]  # so that runs of earlier versions are reused
    with pytest.raises(ValueError, match=r"precision must be one of .*; got 'half'"):
        benchmark.open_detector(make_options(root, tmp_path, precision="half"))


def test_precision_without_corruptions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--results", "r.json", "--nuscenes", str(tmp_path), "--version", "v", "--split", "s"]
    assert main(["evaluate", *given, "--precision", "bfloat16"]) == 2
    assert "--precision must be given with --corruptions" in capsys.readouterr().err
