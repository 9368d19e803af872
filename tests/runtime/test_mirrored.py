"""Detection with a mirrored view: merging is symmetric and matches a plain loop."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from bevstack.cli.main import main
from bevstack.datasets.augmentation.mirror import mirror_boxes, mirror_clip, mirror_frame
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from bevstack.runtime.mirrored import MirroredDetector, merge_views
from bevstack.runtime.predict import predict_dataset
from bevstack.types import Boxes3D, Clip, Detections, Reset
from tests.runtime.test_streaming import temporal
from tests.small_world import CONFIG, SPEC, dataset


def draw(count, seed, *, spread_m=15.0):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=generator)

    boxes = Boxes3D(
        center=(uniform(count, 3) - 0.5) * 2 * spread_m,
        size=uniform(count, 3) + 1,
        yaw=(uniform(count) - 0.5) * 2 * math.pi,
        velocity=uniform(count, 2) * 4 - 2,
    )
    scores = uniform(count).sort(descending=True).values
    labels = torch.randint(0, 2, (count,), generator=generator)
    return Detections(boxes, scores, labels)


def merge_by_loop(first, second):
    """Merge as ``merge_views`` documents; rows are x, y, z, l, w, h, yaw, vx, vy, score, label."""

    def row(view, i):
        boxes = view.boxes
        numbers = [*boxes.center[i], *boxes.size[i], boxes.yaw[i], *boxes.velocity[i]]
        return [*map(float, numbers), float(view.scores[i]), int(view.labels[i])]

    ours = [row(first, i) for i in range(len(first))]
    theirs = [row(second, i) for i in range(len(second))]

    def distance_in_reach(a, b):
        if a[10] != b[10]:
            return math.inf
        distance = math.dist(a[:2], b[:2])
        reach = 1 + 0.1 * (math.hypot(*a[:2]) + math.hypot(*b[:2])) / 2
        return distance if distance <= reach else math.inf

    rows, paired, paired_theirs = [], set(), set()
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            if distance_in_reach(a, b) == math.inf:
                continue
            distance = distance_in_reach(a, b)
            nearest = all(distance <= distance_in_reach(a, c) for c in theirs)
            if nearest and all(distance <= distance_in_reach(c, b) for c in ours):
                paired.add(i)
                paired_theirs.add(j)
                share = b[9] / (a[9] + b[9])
                mean = [x + share * (y - x) for x, y in zip(a[:9], b[:9], strict=True)]
                turn = math.remainder(b[6] - a[6], 2 * math.pi)
                opposed = abs(turn) > math.pi / 2
                mean[6] = a[6] + turn * (round(share) if opposed else share)
                rows.append([*mean, (a[9] + b[9]) / 2, a[10]])
    for view, in_pair in ((ours, paired), (theirs, paired_theirs)):
        rows += [[*b[:9], 0.7 * b[9], b[10]] for i, b in enumerate(view) if i not in in_pair]
    return len(paired), sorted(rows, key=lambda r: -r[9])


def rows_of(found):
    boxes = found.boxes
    parts = (boxes.center, boxes.size, boxes.yaw[:, None], boxes.velocity, found.scores[:, None])
    return torch.cat((*parts, found.labels[:, None]), 1).double()


def assert_same_boxes(found, wanted, tolerance=1e-5):
    """Compare in any order, as scores that differ in the last bits may change places."""
    assert found.shape == wanted.shape
    found = found[linear_sum_assignment(torch.cdist(wanted, found).numpy())[1]]
    turned = torch.zeros_like(wanted)
    turned[:, 6] = torch.round((wanted[:, 6] - found[:, 6]) / (2 * math.pi)) * 2 * math.pi
    torch.testing.assert_close(found + turned, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(6))
def test_views_are_merged_as_by_a_loop(seed):
    first, second = draw(40, seed), draw(33, seed + 100)
    pairs, wanted = merge_by_loop(first, second)
    found = merge_views(first, second)
    assert 5 < pairs < 33 and len(found) == 73 - pairs
    assert_same_boxes(rows_of(found), torch.tensor(wanted, dtype=torch.float64))
    assert found.boxes.yaw.abs().max() <= math.pi
    assert_same_boxes(rows_of(merge_views(second, first)), rows_of(found))


def test_headings_that_differ_by_more_than_a_right_angle_are_not_averaged():
    first, second = draw(1, 0), draw(1, 0)
    for turn, wanted in ((1.0, 0.25), (math.pi, 0.0), (2.0, 0.0), (-2.0, 0.0)):
        other = Detections(
            replace(second.boxes, yaw=first.boxes.yaw + turn), first.scores / 3, first.labels
        )
        for merged in (merge_views(first, other), merge_views(other, first)):
            assert len(merged) == 1
            turned = (merged.boxes.yaw - first.boxes.yaw).item()
            assert math.remainder(turned - wanted, 2 * math.pi) == pytest.approx(0, abs=1e-5)
            assert merged.scores.item() == pytest.approx(first.scores.item() * 2 / 3)


def test_boxes_of_one_view_are_kept_if_the_other_view_has_none():
    some, none = draw(5, 3), draw(0, 3)
    for merged in (merge_views(some, none), merge_views(none, some)):
        torch.testing.assert_close(merged.scores, some.scores * 0.7)
        assert torch.equal(merged.boxes.center, some.boxes.center)
    assert len(merge_views(none, none)) == 0
    worthless = Detections(some.boxes, torch.zeros(5), some.labels)
    assert rows_of(merge_views(worthless, worthless)).isfinite().all()


def in_mirror(found):
    return Detections(mirror_boxes(found.boxes), found.scores, found.labels)


@pytest.mark.parametrize("indices", [(0,), (0, 3), (0, 3, 4)])
def test_each_frame_of_a_batch_is_merged_with_its_mirror_image(detector, frames, indices):
    chosen = [frames[index] for index in indices]
    found = MirroredDetector(detector).predict_batch(chosen)
    for merged, frame in zip(found, chosen, strict=True):
        views = detector.predict(frame), in_mirror(detector.predict(mirror_frame(frame)))
        wanted = merge_views(*views)[: detector.config.decoder.max_detections]
        assert_same_boxes(rows_of(merged), rows_of(wanted), 1e-4)  # batches of another size


def test_a_mirrored_stream_gives_mirrored_boxes(detector, frames):
    there, mirrored = (MirroredDetector(detector).stream() for _ in range(2))
    for frame in frames:
        wanted, found = there.step(frame), mirrored.step(mirror_frame(frame))
        assert len(wanted) > 0
        assert_same_boxes(rows_of(in_mirror(found)), rows_of(wanted), 1e-4)
        assert there.reset is mirrored.reset


def test_a_stream_keeps_the_history_of_both_views(detector, frames):
    stream = MirroredDetector(detector).stream()
    straight, mirrored = detector.stream(), detector.stream()
    resets = []
    for frame in frames:
        merged = stream.step(frame)
        views = straight.step(frame), in_mirror(mirrored.step(mirror_frame(frame)))
        wanted = merge_views(*views)[: detector.config.decoder.max_detections]
        assert_same_boxes(rows_of(merged), rows_of(wanted), 1e-4)
        resets.append(stream.reset)
    assert resets == [Reset.START, Reset.NONE, Reset.NONE, Reset.SCENE, Reset.NONE, Reset.NONE]
    assert stream.uses_history and not MirroredDetector(build(CONFIG)).stream().uses_history


def test_a_clip_is_merged_with_its_mirror_image(frames):
    detector = build(temporal((-1, 0, 1)))
    clip = Clip(tuple(frames[:3]), (-1, 0, 1))
    views = detector.predict_clip(clip), in_mirror(detector.predict_clip(mirror_clip(clip)))
    wanted = merge_views(*views)[: detector.config.decoder.max_detections]
    assert_same_boxes(rows_of(MirroredDetector(detector).predict_clip(clip)), rows_of(wanted), 1e-4)


def test_a_bev_frame_without_mirror_symmetry_is_refused(detector, frames):
    lidar = replace(CONFIG, grid=replace(CONFIG.grid, frame="lidar"))
    with pytest.raises(ValueError, match=r"grid\.frame must be 'ego'.*got 'lidar'"):
        MirroredDetector(build(lidar))
    turned = torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(
        ValueError, match="bev_from_ego must be symmetric about the ego frame's x axis"
    ):
        MirroredDetector(detector).predict(replace(frames[0], bev_from_ego=turned))


def test_unfinished_results_of_another_inference_mode_are_refused(root, tmp_path):
    detector, data, out = build(CONFIG), dataset(root, "synth_val"), tmp_path / "results.json"

    def kill(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_dataset(detector, data, out, progress=kill)
    with pytest.raises(ValueError, match="must hold scenes of the same model"):
        predict_dataset(MirroredDetector(detector), data, out)


def test_the_command_line_writes_the_merged_boxes(detector, root, frames, tmp_path):
    weights, out = tmp_path / "small.safetensors", tmp_path / "results.json"
    save_model(weights, detector.model, detector.config)
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_val"]
    for more in ([], ["--mirror"]):
        command = ["predict", "--weights", str(weights), *where, "--out", str(out), *more]
        assert main(command) == 0
        wrapped = MirroredDetector(detector) if more else detector
        wanted = tmp_path / "wanted.json"
        predict_dataset(wrapped, dataset(root, "synth_val"), wanted)
        assert out.read_bytes() == wanted.read_bytes()
