"""Training samples from labelled single pictures: pixels and labels, and what stays unlearned."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bevstack.config import ImageConfig, TrainingConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.datasets.traffic_view.augmentation import (
    TrafficAugmentation,
    draw_traffic_augmentation,
)
from bevstack.datasets.traffic_view.pictures import (
    PictureSamples,
    fold_numbers,
    open_pictures,
    split_fold,
)
from bevstack.datasets.traffic_view.samples import stack_samples
from bevstack.datasets.traffic_view.stream import TrafficStream
from bevstack.losses.traffic import traffic_losses
from bevstack.models.build_traffic import build_traffic_model
from bevstack.types.traffic_batch import LAMP_ONLY, LIGHT, UNKNOWN
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS
from tests.datasets.traffic_view.picture_sets import ARROW, COLORS, write_housings, write_lamps
from tests.small_world import CONFIG as DETECTOR

# Mean 0 and spread 1 leave the pixels' values as they are.
PLAIN = ImageConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channel_order="rgb")
SECTION = TrafficConfig(
    rows=(0.0, 1.0),
    channels=16,
    num_convs=1,
    roi_channels=24,
    max_candidates=6,
    window_px=72,
    scale=(0.7, 1.4),
    samples=2,
    min_height_px=4.0,
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    lamps, housings = write_lamps(root / "lamps"), write_housings(root / "housings")
    return [
        open_pictures("lamps", lamps, "yolo", box_convention="lamp", streets_by_day=False),
        open_pictures("housings", housings, "yolo", box_convention="housing", streets_by_day=False),
    ]


def samples(sets, section=SECTION):
    return PictureSamples(sets, config=section, images=PLAIN)


def painted(targets, row):
    """Return the colour that a label's light was painted in."""
    color = int(targets.color[row])
    return np.array(ARROW if color == UNKNOWN else COLORS[LIGHT_COLORS[color]])


def test_labels_lie_on_their_pixels_whatever_the_augmentation(sets):
    section = dataclasses.replace(SECTION, photometric=False)
    own = samples(sets, section)
    rng = np.random.default_rng(5)
    checked = mirrored = 0
    for draw in range(40):
        augmentation = draw_traffic_augmentation(section, rng)
        found = own.prepare(draw % len(own), augmentation)
        pixels = found.images[0].numpy().transpose(1, 2, 0)  # (H, W, 3)
        assert max(pixels.shape[:2]) <= 72 and found.labelled.shape == (1, 3)
        strong = np.ptp(pixels, axis=2) > 90
        covered = np.zeros(strong.shape, bool)
        for row, box in enumerate(found.targets.boxes_px.numpy()):
            left, top, right, bottom = np.rint(box).astype(int)
            # a resized border blends over two pixels
            covered[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = True
            inside = pixels[top + 2 : bottom - 2, left + 2 : right - 2]
            if inside.size:
                # resizing of a plain colour only rounds
                assert np.abs(inside - painted(found.targets, row)).max() < 2
                checked += 1
        assert not (strong & ~covered).any()
        mirrored += augmentation.mirror
    assert checked > 30 and mirrored > 10


def test_the_whole_picture_is_seen_without_augmentation(sets):
    found = samples(sets).prepare(0)
    assert found.images[0].shape == (3, 96, 128)
    expected = [[20, 16, 32, 28], [70, 20, 84, 34]]
    # numbers of the label files have eight decimals
    assert found.targets.boxes_px.numpy() == pytest.approx(np.array(expected), abs=1e-4)


def test_colours_shapes_and_kinds_are_those_of_the_set(sets):
    own = samples(sets)
    arrow = own.prepare(0).targets
    assert arrow.kind.tolist() == [LAMP_ONLY] * 2
    assert arrow.color.tolist() == [LIGHT_COLORS.index("red"), UNKNOWN]
    assert arrow.shape.tolist() == [LAMP_SHAPES.index("circle"), LAMP_SHAPES.index("left")]
    assert own.prepare(4).labelled.tolist() == [[False, True, False]]  # without any light
    housing = own.prepare(5)
    assert housing.targets.kind.tolist() == [LIGHT]
    assert housing.targets.shape.tolist() == [UNKNOWN]  # no class of the set names a shape
    assert housing.labelled.tolist() == [[True, False, False]]
    for targets in (arrow, housing.targets):
        assert (targets.pedestrian == UNKNOWN).all() and (targets.relevance == UNKNOWN).all()
        assert targets.depth_m.isnan().all() and targets.aspect_rad.isnan().all()


def test_a_mirrored_arrow_points_to_the_other_side(sets):
    found = samples(sets, dataclasses.replace(SECTION, window_px=0)).prepare(
        3, TrafficAugmentation(mirror=True)
    )
    assert found.targets.shape.tolist() == [LAMP_SHAPES.index("right")]
    assert found.targets.boxes_px[0].tolist() == pytest.approx([64, 50, 78, 64], abs=1e-4)


def test_unknown_labels_give_no_gradient(sets):
    config = dataclasses.replace(DETECTOR, traffic=SECTION)
    own = samples(sets)
    batch = stack_samples([own.prepare(row) for row in (0, 5)])  # lamps, then housings
    torch.manual_seed(2)
    model = build_traffic_model(config)
    output = model(batch.views, batch.targets)
    leaves = (output.dense.logits, output.region.score, output.region.color, output.region.shape)
    unlearned = (output.region.depth, output.region.aspect, output.region.pedestrian)
    total = traffic_losses(output, batch, SECTION).total
    gradients = torch.autograd.grad(
        total, (*leaves, *unlearned, output.region.meaning, output.relevance), allow_unused=True
    )
    dense, score, color, shape, *rest = gradients
    assert all(gradient is None or not gradient.any() for gradient in rest)
    # dense logits: (image, kind); signs are unlabelled in both
    learned = dense.abs().sum((2, 3)) > 0
    assert learned.tolist() == [[False, True, False], [True, False, False]]
    regions = output.regions
    foreign = ~batch.labelled[regions.image, regions.kind]
    assert foreign.any() and not score[foreign].any() and score[~foreign].any()
    # the regions of the true boxes come last: red lamp, left arrow, red housing
    assert color[-3].any() and not color[-2].any() and color[-1].any()
    assert shape[-3].any() and shape[-2].any() and not shape[-1].any()


def test_a_stream_is_seeded_and_continues_where_it_stopped(sets):
    own = samples(sets)
    recipe = TrainingConfig(num_steps=4, batch_size=3, num_workers=0, seed=7)
    first = iter(TrafficStream(own, recipe))
    batches = [next(first) for _ in range(3)]
    resumed = next(iter(TrafficStream(own, recipe, start=6)))
    assert resumed.sample_tokens == batches[2].sample_tokens
    assert torch.equal(resumed.views.images, batches[2].views.images)
    assert torch.equal(resumed.targets.boxes_px, batches[2].targets.boxes_px)
    other = next(iter(TrafficStream(own, dataclasses.replace(recipe, seed=8))))
    assert other.sample_tokens != batches[0].sample_tokens or not torch.equal(
        other.views.images, batches[0].views.images
    )


def test_every_picture_is_in_one_fold_and_no_group_in_two():
    groups = [name for name, size in (("a", 5), ("b", 3), ("c", 3), ("d", 1)) for _ in range(size)]
    folds = fold_numbers(groups, 3)
    assert {
        group: len({f for f, g in zip(folds, groups, strict=True) if g == group})
        for group in groups
    } == dict.fromkeys("abcd", 1)
    assert sorted(folds.count(number) for number in range(3)) == [3, 4, 5]
    with pytest.raises(ValueError, match="number of folds must be from 2 to 4"):
        fold_numbers(groups, 5)


def test_a_fold_is_kept_apart(sets):
    whole = dataclasses.replace(sets[0], groups=("p", "p", "q", "q", "r"))
    trained, judged = split_fold(whole, 1, 2)
    assert not set(trained.groups) & set(judged.groups)
    assert {*trained.images, *judged.images} == set(whole.images)
    with pytest.raises(ValueError, match=r"must be from 0 to 1; got 2"):
        split_fold(whole, 2, 2)


def test_labels_of_another_size_and_equal_names_are_refused(sets):
    image = dataclasses.replace(sets[0].images[0], size=(10, 10))
    wrong = dataclasses.replace(sets[0], images=(image,), groups=("p",))
    with pytest.raises(ValueError, match=r"lamps/valid/images/a.png must have the size \(10, 10\)"):
        samples([wrong]).prepare(0)
    with pytest.raises(ValueError, match="names of picture sets must be distinct"):
        samples([sets[0], sets[0]])
