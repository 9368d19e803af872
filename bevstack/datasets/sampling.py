"""Which samples an epoch visits, in which order, and which process scores what.

Each order is a function of what is given, seed and epoch among it, and of nothing else: a run that
was stopped goes on with the very samples it would have had, whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tables.names import CATEGORY_TO_CLASS

Item = TypeVar("Item")


def class_presence(dataset: NuScenesDataset) -> NDArray[np.bool_]:  # (samples, classes)
    """Which of the data set's classes each of its samples has a true box of.

    Boxes that no lidar or radar point fell into do not count: training leaves them out.
    """
    tables = dataset.tables
    label_of = {name: label for label, name in enumerate(dataset.class_names)}
    names = tables.annotations.category.names
    labels = np.array([label_of.get(CATEGORY_TO_CLASS.get(str(name), ""), -1) for name in names])
    label = labels[tables.annotations.category.codes]
    known = (label >= 0) & (tables.annotations.num_points > 0)
    present = np.zeros((len(tables.samples.token), len(label_of)), dtype=np.bool_)
    present[tables.annotations.sample[known], label[known]] = True
    rows = [tables.sample_row(dataset.sample_token(index)) for index in range(len(dataset))]
    return present[rows]


def shuffled_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:  # (n,)
    """Every sample once, in an order drawn from seed and epoch."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def class_balanced_order(
    presence: NDArray[np.bool_],  # (samples, classes), as of class_presence
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:  # (n,) indices of samples
    """Class-balanced sampling of CBGS (arXiv 1908.09492, section 3.1), shuffled.

    Every class is drawn equally often: of the pairs (sample, class that it has) each class gives
    as many as a class has that gives its equal share, with replacement. A sample with several
    classes may be drawn for each. The paper draws once before the training; here every epoch
    draws anew. Classes that no sample has are left out; on nuScenes an epoch grows 4.4-fold.

    Raises:
        ValueError: no sample has any class.
    """
    holders = [np.flatnonzero(column) for column in presence.T if column.any()]
    if not holders:
        raise ValueError(
            "class-balanced sampling must have a sample with a box of a known class; got none "
            f"among {len(presence)} samples"
        )
    rng = np.random.default_rng((seed, epoch))
    share = 1 / len(holders)
    total = sum(len(rows) for rows in holders)
    # A class with c samples of all `total` pairs is drawn c * (share / (c / total)) times.
    drawn = [rng.choice(rows, round(total * share)) for rows in holders]
    return rng.permutation(np.concatenate(drawn))


def scene_sequential_order(
    scenes: Sequence[Sequence[int]],  # each scene's samples in order of time
    streams: int,
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:  # (steps, streams)
    """For training with a memory: each stream goes through one scene after the other in time.

    Scenes are shuffled and dealt so that the streams are as equally long as they can be; at the
    end shorter streams go on with scenes of the others, so that every sample is visited at least
    once and a few twice. A stream's memory ends where the scene changes.

    Args:
        scenes: indices of samples, such as the values of ``NuScenesDataset.scene_indices``.
        streams: rows of the batch over all processes.
        seed: of the run.
        epoch: from 0.

    Raises:
        ValueError: no sample, or no stream.
    """
    whole = [scene for scene in scenes if len(scene)]
    if not whole or streams < 1:
        raise ValueError(
            f"scenes must hold a sample and streams be at least 1; got {len(whole)} scenes with "
            f"samples and {streams} streams"
        )
    order = np.random.default_rng((seed, epoch)).permutation(len(whole))
    # Longest first into the shortest stream; of equal length in the shuffled order.
    by_length = sorted(order, key=lambda scene: -len(whole[scene]))
    dealt: list[list[int]] = [[] for _ in range(streams)]
    lengths = np.zeros(streams, dtype=np.int64)
    for scene in by_length:
        stream = int(lengths.argmin())
        dealt[stream].append(int(scene))
        lengths[stream] += len(whole[scene])
    place = np.empty(len(whole), dtype=np.int64)
    place[order] = np.arange(len(whole))
    columns = []
    for stream, own in enumerate(dealt):
        queue = sorted(own, key=lambda scene: place[scene])
        more = [int(order[(stream + k) % len(order)]) for k in range(len(order))]
        samples = [index for scene in queue for index in whole[scene]]
        while len(samples) < lengths.max():
            samples += [index for scene in more for index in whole[scene]]
        columns.append(samples[: lengths.max()])
    return np.array(columns, dtype=np.int64).T


def shard_scenes(scenes: Sequence[Sequence[Item]], rank: int, world_size: int) -> list[list[Item]]:
    """The scenes that one of several processes evaluates, each whole.

    A memory runs through a scene undisturbed, so what is predicted for a sample does not depend
    on the number of processes. Longest scenes are dealt first, each to the process that has the
    fewest samples so far; the shares differ by less than one scene.

    Args:
        scenes: each scene's samples in order of time.
        rank: which process this is.
        world_size: number of processes; some get nothing where there are fewer scenes.

    Raises:
        ValueError: a rank that is not below the number of processes.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be at least 0 and below world_size {world_size}; got {rank}")
    owners = scene_owners([len(samples) for samples in scenes], world_size)
    return [list(samples) for samples, owner in zip(scenes, owners, strict=True) if owner == rank]


def scene_owners(lengths: Sequence[int], world_size: int) -> list[int]:
    """Which process each scene of so many samples goes to, by the rule of ``shard_scenes``."""
    load = [0] * world_size
    owners = [0] * len(lengths)
    for scene in sorted(range(len(lengths)), key=lambda scene: -lengths[scene]):
        owners[scene] = load.index(min(load))
        load[owners[scene]] += lengths[scene]
    return owners


def earlier_draws(order: NDArray[np.int64]) -> NDArray[np.int64]:  # both (n,)
    """How many times each sample of an order was drawn before."""
    by_sample = np.argsort(order, kind="stable")
    drawn = order[by_sample]
    first = np.searchsorted(drawn, drawn)  # where the run of the same sample begins
    earlier = np.empty_like(order)
    earlier[by_sample] = np.arange(len(order)) - first
    return earlier
