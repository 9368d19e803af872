"""Evaluation during training: it scores the kept weights, like prediction and evaluation later."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.submission import read_submission
from bevstack.models.build import build_model
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.tasks import detection3d, held_out
from bevstack.training import Listeners
from bevstack.training.jsonl import read_jsonl
from bevstack.training.processes import Processes
from bevstack.training.run_logs import best_figure, last_evaluated
from bevstack.types import Detections
from tests.small_world import CONFIG, dataset, small_world, with_training
from tests.small_world import train_detector as train
from tests.training.two_ranks import RECIPE, all_stages


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def test_the_score_equals_that_of_the_kept_weights_predicted_scene_by_scene(root, tmp_path):
    """Compare for a model with history: clips in training, streams in prediction."""
    config = all_stages(dataclasses.replace(RECIPE, num_steps=3))
    evaluations = []
    result = train(
        config,
        dataset(root),
        tmp_path,
        held_out=dataset(root, "synth_val"),
        listeners=Listeners(evaluation=evaluations.append),
    )
    data = dataset(root, "synth_val")
    predict_dataset(load(result.weights), data, tmp_path / "results.json")
    truth = ground_truth(data.tables, samples_of_split(data.tables, "synth_val"))
    wanted = evaluate(read_submission(tmp_path / "results.json").boxes, truth)
    (found,) = evaluations
    assert (found.step, found.is_best) == (3, True)
    # Batches of another size: convolutions sum in another order.
    assert found.score.details.nds == pytest.approx(wanted.nds, abs=1e-4)
    assert found.score.details.errors.values == pytest.approx(wanted.errors.values, abs=1e-3)
    best = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(best[n], w) for n, w in load_file(result.weights).items())


def test_files_of_processes_of_a_killed_run_are_removed(tmp_path):
    left = [tmp_path / f".evaluation.rank{rank}.json" for rank in range(3)]
    for path in left:
        path.write_text("{}")
    held_out._remove_parts_of_killed_runs(tmp_path, 2)
    assert [path.exists() for path in left] == [True, True, False]
    assert held_out._merged({}, tmp_path, Processes()) == {}
    assert not any(path.exists() for path in left)


def test_true_boxes_get_the_highest_score(root, tmp_path, monkeypatch):
    """Replace ``detections_from`` by the true boxes to test all code after it."""
    samples = dataset(root, "synth_val")
    frames = [samples.frame(index, load_images=False) for index in range(len(samples))]
    queue = [f.annotations[f.annotations.num_points > 0] for f in frames]  # the evaluated ones

    def true_detections(output: DecoderOutput, *, max_detections, post_range_m, nms_iou):
        taken = [queue.pop(0) for _ in range(output.codes.shape[1])]
        return [Detections(a.boxes, torch.ones(len(a)), a.labels) for a in taken]

    monkeypatch.setattr(held_out, "detections_from", true_detections)
    torch.manual_seed(0)
    weights = build_model(CONFIG).state_dict()
    metrics = held_out.evaluate_held_out(weights, CONFIG, samples, tmp_path, Processes())
    present = [c for c in metrics.classes if c.average_precision > 0]
    assert present and all(c.average_precision > 0.99 for c in present)
    assert all(c.errors.translation_m < 1e-3 and c.errors.scale < 1e-3 for c in present)


def test_best_and_last_weights_are_both_kept(root, tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4])
    real = held_out.evaluate_held_out

    def pretend(weights, config, samples, folder, group):
        metrics = real(weights, config, samples.select([0]), folder, group)
        return dataclasses.replace(metrics, nds=next(scores))

    monkeypatch.setattr(detection3d, "evaluate_held_out", pretend)
    config = with_training(num_steps=6, evaluate_every=2, checkpoint_every=2)
    samples = dataset(root, "synth_val")
    result = train(config, dataset(root), tmp_path, held_out=samples)
    assert [entry["nds"] for entry in read_jsonl(result.evaluations)] == [0.2, 0.5, 0.4]
    best = load_file(result.best)
    at_step_4 = load_file(tmp_path / "checkpoint_0000004.safetensors")
    assert all(torch.equal(at_step_4[f"model.{name}"], value) for name, value in best.items())
    assert (best_figure(result.evaluations, "nds"), last_evaluated(result.evaluations)) == (0.5, 6)


def test_evaluation_does_not_affect_training(root, tmp_path):
    plain = train(CONFIG, dataset(root), tmp_path / "plain")
    scored = with_training(evaluate_every=2)
    samples = dataset(root, "synth_val").select([1])
    result = train(scored, dataset(root), tmp_path / "scored", held_out=samples)
    wanted = load_file(plain.weights)
    assert all(torch.equal(wanted[n], w) for n, w in load_file(result.weights).items())


def test_evaluations_need_held_out_samples(root, tmp_path):
    with pytest.raises(ValueError, match=r"held_out must be given .* got none"):
        train(with_training(evaluate_every=2), dataset(root), tmp_path)
