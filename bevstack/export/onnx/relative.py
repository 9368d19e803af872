"""Times, scenes and poses of a stream in the number types of runtimes without 64 bits.

OpenVINO computes int64 as int32 and float64 as float32 on a CPU. A time in microseconds since 1970
or a position far from the map's origin does not fit, so both are given relative to the new frame.

Letters: B batch, S slots of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.export.onnx.arrays import Arrays
from bevstack.export.onnx.graph import MEMORY, NEXT

# Longer times count as this long: twice of it still fits into int32, and every memory is shorter.
LONGEST_US = 500_000_000

_POSE, _TIME, _SCENE = "world_from_bev", "timestamp_us", "sequence_id"


def relative_inputs(inputs: Arrays) -> Arrays:
    """Return the inputs of a step with times, scenes and positions relative to the new frame.

    The new frame gets the time 0, the scene 0 and the position 0. A slot of another scene gets the
    scene 1. Inputs of a single frame have none of these and stay as they are.
    """
    if _TIME not in inputs:
        return inputs
    poses, times, scenes = (inputs[MEMORY + name] for name in (_POSE, _TIME, _SCENE))
    elapsed = times - inputs[_TIME][:, None]  # (B, S)
    return inputs | {
        _POSE: _moved(inputs[_POSE], -_position(inputs)),
        _TIME: np.zeros_like(inputs[_TIME]),
        _SCENE: np.zeros_like(inputs[_SCENE]),
        MEMORY + _POSE: _moved(poses, -_position(inputs)[:, None]),
        MEMORY + _TIME: elapsed.clip(-LONGEST_US, LONGEST_US),
        MEMORY + _SCENE: (scenes != inputs[_SCENE]).astype(np.int64),
    }


def absolute_outputs(outputs: Arrays, inputs: Arrays) -> Arrays:
    """Return the outputs of ``relative_inputs(inputs)`` with the times, scenes and poses meant."""
    if _TIME not in inputs:
        return outputs
    pose, time, scene = (NEXT + MEMORY + name for name in (_POSE, _TIME, _SCENE))
    same_scene = outputs[scene] == 0
    return outputs | {
        pose: _moved(outputs[pose].astype(np.float64), _position(inputs)[:, None]),
        time: outputs[time].astype(np.int64) + inputs[_TIME][:, None],
        scene: np.where(same_scene, inputs[_SCENE], inputs[MEMORY + _SCENE]),
    }


def _position(inputs: Arrays) -> NDArray[np.float64]:  # (B, 3) metres
    position: NDArray[np.float64] = inputs[_POSE][:, :3, 3]
    return position


def _moved(poses: NDArray[Any], shift: NDArray[np.float64]) -> NDArray[Any]:  # (..., 4, 4)
    moved = poses.copy()
    moved[..., :3, 3] += shift
    return moved
