"""Orders of the samples of an epoch, and the distribution of scenes over processes.

Each order is a function of the arguments alone, seed and epoch included. A run that was stopped
continues with exactly the samples that would have followed, for any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tables.annotation_checks import points_inside

Item = TypeVar("Item")


def class_presence(dataset: NuScenesDataset) -> NDArray[np.bool_]:  # (samples, classes)
    """Return a mask of the classes of which each sample has a true box.

    Boxes without any lidar or radar point do not count, because training leaves them out; boxes
    whose points were not counted do.
    """
    tables = dataset.tables
    table = tables.annotations
    label_by_name = {name: label for label, name in enumerate(dataset.class_names)}
    class_by_category = tables.class_by_category
    labels = np.array(
        [label_by_name.get(class_by_category.get(str(c), ""), -1) for c in table.category.names],
        dtype=np.int64,
    )
    label = labels[table.category.codes]
    known = (label >= 0) & (points_inside(tables, np.arange(len(label))) != 0)
    present = np.zeros((len(tables.samples.token), len(label_by_name)), dtype=np.bool_)
    present[table.sample[known], label[known]] = True
    rows = [tables.sample_row(dataset.sample_token(index)) for index in range(len(dataset))]
    return present[rows]


def shuffled_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:  # (n,)
    """Return every sample once, in an order drawn from seed and epoch."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def class_balanced_order(
    presence: NDArray[np.bool_],  # (samples, classes), from class_presence
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:  # (n,) indices of samples
    """Draw a shuffled, class-balanced order of samples (CBGS, arXiv 1908.09492, section 3.1).

    Every class is drawn equally often, with replacement. The length of the epoch is the number of
    pairs of a sample and a class that it contains; every class gets an equal share of it. A sample
    with several classes may be drawn for each of them. Classes without a sample are left out. On
    nuScenes an epoch grows 4.4-fold. The paper draws once before the training; here every epoch
    draws again.

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
    scenes: Sequence[Sequence[int]],  # samples of each scene in order of time
    streams: int,
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:  # (steps, streams)
    """Return an order for training with a memory: each stream visits whole scenes in time order.

    Scenes are shuffled and distributed so that the lengths of the streams differ as little as
    possible. Shorter streams are filled up with further scenes, so that every sample is visited at
    least once and a few twice. A stream's memory is reset between scenes.

    Args:
        scenes: indices of samples, such as the values of ``NuScenesDataset.scene_indices``.
        streams: number of rows of the batch over all processes.
        seed: of the run.
        epoch: from 0.

    Raises:
        ValueError: there is no sample or no stream.
    """
    nonempty = [scene for scene in scenes if len(scene)]
    if not nonempty or streams < 1:
        raise ValueError(
            f"scenes must hold a sample and streams be at least 1; got {len(nonempty)} scenes with "
            f"samples and {streams} streams"
        )
    order = np.random.default_rng((seed, epoch)).permutation(len(nonempty))
    # Longest scene first, into the shortest stream; scenes of equal length in the shuffled order.
    by_length = sorted(order, key=lambda scene: -len(nonempty[scene]))
    assigned: list[list[int]] = [[] for _ in range(streams)]
    lengths = np.zeros(streams, dtype=np.int64)
    for scene in by_length:
        stream = int(lengths.argmin())
        assigned[stream].append(int(scene))
        lengths[stream] += len(nonempty[scene])
    position = np.empty(len(nonempty), dtype=np.int64)
    position[order] = np.arange(len(nonempty))
    columns = []
    for stream, stream_scenes in enumerate(assigned):
        queue = sorted(stream_scenes, key=lambda scene: position[scene])
        more = [int(order[(stream + k) % len(order)]) for k in range(len(order))]
        samples = [index for scene in queue for index in nonempty[scene]]
        while len(samples) < lengths.max():
            samples += [index for scene in more for index in nonempty[scene]]
        columns.append(samples[: lengths.max()])
    return np.array(columns, dtype=np.int64).T


def shard_scenes(scenes: Sequence[Sequence[Item]], rank: int, world_size: int) -> list[list[Item]]:
    """Return the whole scenes that one of several processes evaluates.

    A scene is never divided, so a memory passes through all of it, and predictions do not depend on
    the number of processes. The longest scenes are assigned first, each to the process with the
    fewest samples so far. The shares differ by less than one scene.

    Args:
        scenes: samples of each scene in order of time.
        rank: index of this process.
        world_size: number of processes; with fewer scenes than processes, some get none.

    Raises:
        ValueError: the rank is not below the number of processes.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be at least 0 and below world_size {world_size}; got {rank}")
    owners = scene_owners([len(samples) for samples in scenes], world_size)
    return [list(samples) for samples, owner in zip(scenes, owners, strict=True) if owner == rank]


def scene_owners(lengths: Sequence[int], world_size: int) -> list[int]:
    """Return the process of each scene by the rule of ``shard_scenes``, from their lengths."""
    load = [0] * world_size
    owners = [0] * len(lengths)
    for scene in sorted(range(len(lengths)), key=lambda scene: -lengths[scene]):
        owners[scene] = load.index(min(load))
        load[owners[scene]] += lengths[scene]
    return owners


def earlier_draws(order: NDArray[np.int64]) -> NDArray[np.int64]:  # both (n,)
    """Count, for each entry of an order, the earlier entries of the same sample."""
    by_sample = np.argsort(order, kind="stable")
    drawn = order[by_sample]
    first = np.searchsorted(drawn, drawn)  # start of each run of equal samples
    earlier = np.empty_like(order)
    earlier[by_sample] = np.arange(len(order)) - first
    return earlier
