"""Benchmark of the encoder's attentions against the form of the released code.

    python -m benchmarks.run attention --json benchmarks/results/attention_cpu.json

Spatial cross-attention: packed (query, camera) pairs against rows padded, for every camera, to the
camera with most visible queries. It is measured for the current frame and for a frame taken far
behind, whose rig is projected into the current grid. It is also measured against packed rows with
stored locations and weights, which the operator of offsets and logits does without. Temporal
self-attention: one value projection and eight points against two queues of four points each, from
doubled queries. The benchmark checks that the outputs of both forms agree, and runs them
alternately in one process; a figure is the median.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import machine, medians
from bevstack.experiments.benchmark.drive import HEIGHT, WIDTH, nuscenes_rig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from bevstack.models.detection3d.visible_pairs import VisiblePairs, find_visible_pairs
from bevstack.ops import ms_deform_attn
from bevstack.ops.deformable_attention import locations_and_weights

SUMMARY = "packed cross-attention against padding; self-attention against two queues"
PADDED_SIZE = (HEIGHT, WIDTH)
STRIDES = (8, 16, 32, 64)
CHANNELS, HEADS = 256, 8
PAIR_STEP = 4_096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: sizes and duration."""
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of each row (default 10)"
    )
    parser.add_argument(
        "--cells", type=int, default=200, help="cells along a side of the grid (default 200)"
    )
    parser.add_argument(
        "--back", type=float, default=50.0, help="distance of the far frame in metres (default 50)"
    )


def located_cross_attention(
    module: SpatialCrossAttention,
    rows: Tensor,  # (M, C)
    value: Tensor,  # (N, S, C)
    shapes: list[tuple[int, int]],
    pairs: VisiblePairs,
) -> tuple[Tensor, int]:  # (M, C)
    """Attend with stored locations and weights; also return the bytes of the two."""
    samples = (module.num_heads, module.num_levels, module.cross_points)
    offsets = module.sampling_offsets(rows).unflatten(-1, (*samples, 2))
    logits = module.attention_weights(rows).unflatten(-1, samples)
    sides = [side for shape in shapes for side in shape]
    locations, weights = locations_and_weights(
        offsets, logits, pairs.anchors.to(offsets.dtype), spatial_shapes=sides, parts=1
    )
    projected = module.value_proj(value).unflatten(-1, (module.num_heads, -1))
    attended = ms_deform_attn(projected, shapes, locations, weights, value_index=pairs.camera)
    return attended, locations.nbytes + weights.nbytes


def measure_logits(cells: int, seconds: float, wall: bool) -> dict[str, Any]:
    """Return a row of results: offsets and logits against stored locations and weights."""
    module, value, shapes = random_module()
    grid = BEVGrid(shape=(cells, cells), frame="lidar")
    pairs = find_visible_pairs(
        nuscenes_rig(0.0), grid, num_heights=4, padded_size=PADDED_SIZE, capacity_step=PAIR_STEP
    )
    rows = torch.randn(pairs.camera.shape[0], CHANNELS)

    @torch.no_grad()
    def logits() -> Tensor:
        return module.attend(rows, value, shapes, pairs)

    @torch.no_grad()
    def located() -> tuple[Tensor, int]:
        return located_cross_attention(module, rows, value, shapes, pairs)

    wanted, stored_bytes = located()
    difference = (logits() - wanted).abs().max().item()
    ours, theirs = medians([logits, located], seconds, wall)
    return {
        "case": f"offsets and logits, {cells}x{cells}",
        "packed_rows": rows.shape[0],
        "max_difference": difference,
        "bevstack_ms": round(ours, 1),
        "located_ms": round(theirs, 1),
        "stored_bytes": stored_bytes,
        "speedup": round(theirs / ours, 2),
    }


def random_module() -> tuple[SpatialCrossAttention, Tensor, list[tuple[int, int]]]:
    """Return a cross-attention with offsets, values of six cameras and the sizes of their maps."""
    module = SpatialCrossAttention(
        CHANNELS, num_levels=len(STRIDES), num_heads=HEADS, num_heights=4, cross_points=8
    )
    torch.nn.init.normal_(module.sampling_offsets.weight, std=0.05)
    torch.nn.init.normal_(module.attention_weights.weight, std=0.05)
    shapes = [(-(-PADDED_SIZE[0] // s), -(-PADDED_SIZE[1] // s)) for s in STRIDES]
    cameras = nuscenes_rig(0.0).num_cameras
    return module, torch.randn(cameras, sum(h * w for h, w in shapes), CHANNELS), shapes


def padded_cross_attention(
    module: SpatialCrossAttention,
    query: Tensor,  # (1, Q, C)
    value: Tensor,  # (N, S, C)
    shapes: list[tuple[int, int]],
    pairs: VisiblePairs,  # without padding, ordered by camera
) -> Tensor:  # (1, Q, C)
    """Compute the cross-attention with one row of queries a camera, padded to the longest row."""
    cameras, channels = value.shape[0], query.shape[-1]
    counts = torch.bincount(pairs.camera, minlength=cameras).tolist()
    longest = max(counts)
    rows = query.new_zeros(cameras, longest, channels)
    anchors = query.new_zeros(cameras, longest, *pairs.anchors.shape[1:])
    indices = pairs.query.split(counts)
    for camera, (index, camera_anchors) in enumerate(
        zip(indices, pairs.anchors.split(counts), strict=True)
    ):
        rows[camera, : len(index)] = query[0, index]
        anchors[camera, : len(index)] = camera_anchors
    samples = (module.num_heads, module.num_levels, module.cross_points)
    offsets = module.sampling_offsets(rows).unflatten(-1, (*samples, 2))
    sizes = offsets.new_tensor([(w, h) for h, w in shapes])
    repeats = module.cross_points // module.num_heights
    locations = anchors.repeat(1, 1, repeats, 1)[:, :, None, None] + offsets / sizes[:, None]
    weights = module.attention_weights(rows).unflatten(-1, (module.num_heads, -1)).softmax(-1)
    projected = module.value_proj(value).unflatten(-1, (module.num_heads, -1))
    attended = ms_deform_attn(projected, shapes, locations, weights.unflatten(-1, samples[1:]))
    sums = torch.zeros_like(query[0])
    for camera, index in enumerate(indices):
        sums[index] += attended[camera, : len(index)]
    return module.output_proj(sums / pairs.num_cameras[0].clamp(min=1)[:, None])[None]


def measure_cross_attention(
    cells: int, back_m: float, seconds: float, wall: bool
) -> dict[str, Any]:
    """Return a row of results: packed against padded, for a rig ``back_m`` metres behind."""
    grid = BEVGrid(shape=(cells, cells), frame="lidar")
    module, value, shapes = random_module()
    rig = nuscenes_rig(back_m)
    exact = find_visible_pairs(rig, grid, num_heights=4, padded_size=PADDED_SIZE)
    pairs = find_visible_pairs(
        rig, grid, num_heights=4, padded_size=PADDED_SIZE, capacity_step=PAIR_STEP
    )
    query = torch.randn(1, cells * cells, CHANNELS)
    counts = torch.bincount(exact.camera, minlength=rig.num_cameras)

    @torch.no_grad()
    def packed() -> Tensor:
        return module(query, value, shapes, pairs)

    @torch.no_grad()
    def padded() -> Tensor:
        return padded_cross_attention(module, query, value, shapes, exact)

    difference = (packed() - padded()).abs().max().item()
    ours, theirs = medians([packed, padded], seconds, wall)
    return {
        "case": f"spatial cross-attention, {cells}x{cells}, {back_m:g} m back",
        "pairs": int(counts.sum()),
        "packed_rows": pairs.camera.shape[0],
        "padded_rows": rig.num_cameras * int(counts.max()),
        "max_difference": difference,
        "bevstack_ms": round(ours, 1),
        "padded_ms": round(theirs, 1),
        "speedup": round(theirs / ours, 2),
    }


def two_queue_self_attention(
    module: TemporalSelfAttention,
    query: Tensor,  # (1, Q, C)
    pos: Tensor,  # (Q, C)
    cell_centers: Tensor,  # (Q, 2)
    shape: tuple[int, int],
) -> Tensor:  # (1, Q, C)
    """Compute the self-attention of the released code.

    Offsets and weights come from [q, q + pos]. Each queue has a value map. The output is the mean
    of the two queues.
    """
    heads, queues, points = module.num_heads, module.self_queues, module.self_points
    both = torch.cat((query, query + pos), -1)
    joint = {}
    for name in ("sampling_offsets", "attention_weights"):
        first, second = getattr(module, name), getattr(module, f"{name}_pos").weight
        joint[name] = F.linear(both, torch.cat((first.weight - second, second), 1), first.bias)
    value = module.value_proj(query.repeat(queues, 1, 1)).unflatten(-1, (heads, -1))
    offsets = joint["sampling_offsets"].unflatten(-1, (heads, queues, 1, points, 2))
    weights = joint["attention_weights"].unflatten(-1, (heads, queues, 1, points)).softmax(-1)
    locations = cell_centers[:, None, None, None, None] + offsets / offsets.new_tensor(shape[::-1])
    sampled = ms_deform_attn(
        value,
        [shape],
        locations[0].permute(2, 0, 1, 3, 4, 5).contiguous(),
        weights[0].permute(2, 0, 1, 3, 4).contiguous(),
    )
    return module.output_proj(sampled.mean(0, keepdim=True))


def measure_self_attention(cells: int, seconds: float, wall: bool) -> dict[str, Any]:
    """Return a row of results: the simplified form against the two queues."""
    grid = BEVGrid(shape=(cells, cells), frame="lidar")
    module = TemporalSelfAttention(CHANNELS, num_heads=HEADS, self_points=4, self_queues=2)
    for name in ("sampling_offsets", "attention_weights"):
        torch.nn.init.normal_(getattr(module, name).weight, std=0.05)
        torch.nn.init.normal_(getattr(module, f"{name}_pos").weight, std=0.05)
    query, pos = torch.randn(1, cells * cells, CHANNELS), torch.randn(cells * cells, CHANNELS)
    inputs = (query, pos, grid.cell_centers(), grid.shape)

    @torch.no_grad()
    def simplified() -> Tensor:
        return module(*inputs)

    @torch.no_grad()
    def two_queues() -> Tensor:
        return two_queue_self_attention(module, *inputs)

    difference = (simplified() - two_queues()).abs().max().item()
    ours, theirs = medians([simplified, two_queues], seconds, wall)
    return {
        "case": f"temporal self-attention, {cells}x{cells}",
        "max_difference": difference,
        "bevstack_ms": round(ours, 1),
        "two_queues_ms": round(theirs, 1),
        "speedup": round(theirs / ours, 2),
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all rows, print each when it is ready, and return them.

    Raises:
        RuntimeError: The outputs of the two forms differ.
    """
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    wall = arguments.threads > 1
    rows = []
    for back_m in (0.0, arguments.back):
        rows.append(measure_cross_attention(arguments.cells, back_m, arguments.seconds, wall))
        print(rows[-1], flush=True)
    rows.append(measure_logits(arguments.cells, arguments.seconds, wall))
    print(rows[-1], flush=True)
    rows.append(measure_self_attention(arguments.cells, arguments.seconds, wall))
    print(rows[-1], flush=True)
    for row in rows:
        if row["max_difference"] > 1e-3:
            raise RuntimeError(
                f"{row['case']}: the two forms must agree to 1e-3; got a difference of "
                f"{row['max_difference']}"
            )
    return {
        **machine(),
        "threads": arguments.threads,
        "clock": "wall" if wall else "process CPU time",
        "rows": rows,
    }
