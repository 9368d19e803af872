"""Exported detectors with convolutions and linear maps in float16.

The types are written into the graph: casts before and after each layer, and weights in float16.
Runtimes that follow the types of a file, as TensorRT 11 does, then compute these layers in half
precision. Everything else, coordinates among it, stays float32 or float64.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.export.onnx.layer_groups import layers_by_group

LARGEST = float(np.finfo(np.float16).max)


def write_half(source: Path, target: Path) -> int:
    """Write a detector with its layers in float16; return the number of these.

    Args:
        source: file of ``export_detector``.
        target: file to write.

    Raises:
        ValueError: the file has no such layer, or a weight that float16 cannot hold.
    """
    import onnx

    names = {name for layers in layers_by_group(source).values() for name in layers}
    if not names:
        raise ValueError(f"model must have convolutions or linear maps; got {source}")
    model = onnx.load(source)
    _convert(onnx, model.graph, names)
    onnx.save(model, target)
    return len(names)


def _convert(onnx: Any, graph: Any, names: Collection[str]) -> None:
    types = onnx.TensorProto
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halves: dict[str, str] = {}  # tensor -> its name in float16
    nodes = []
    for node in graph.node:
        if node.name not in names:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if not name:
                continue
            if name not in halves:
                halves[name] = f"{name}_half"
                if name in weights:
                    graph.initializer.append(_rounded(onnx, weights[name], halves[name]))
                else:
                    nodes.append(_cast(onnx, name, halves[name], types.FLOAT16))
            node.input[place] = halves[name]
        output = node.output[0]
        node.output[0] = f"{output}_unrounded"
        nodes += [node, _cast(onnx, node.output[0], output, types.FLOAT)]
    del graph.node[:]
    graph.node.extend(nodes)


def _cast(onnx: Any, source: str, target: str, to: int) -> Any:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _rounded(onnx: Any, tensor: Any, name: str) -> Any:
    array = onnx.numpy_helper.to_array(tensor)
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= LARGEST:
        raise ValueError(
            f"weights must be at most {LARGEST:g} in float16; got {largest:g}: {tensor.name}"
        )
    return onnx.numpy_helper.from_array(array.astype(np.float16), name)
