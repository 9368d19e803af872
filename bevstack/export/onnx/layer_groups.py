"""Layers of an exported detector that may compute in fewer bits, by the group of their module."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from bevstack.export.onnx.graph_info import MODULE

QUANTISED = ("Conv", "MatMul", "Gemm")
# Layers whose outputs are coordinates: float32 as in every precision of ours. They are known by the
# name of their module or, where a function applies them, by that of their weight.
COORDINATES = ("sampling_offsets", "sampling_offsets_pos", "reference_points")
DEPTH = 3  # parts of a module's name that name its group, such as model.backbone.levels


def layers_by_group(source: Path) -> dict[str, list[str]]:
    """Return the names of the layers with constant weights, by the group of their module.

    Those that compute coordinates are left out.
    """
    import onnx

    graph = onnx.load(source).graph
    constants = {tensor.name for tensor in graph.initializer}
    groups: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        if node.op_type not in QUANTISED or node.input[1] not in constants:
            continue
        module = {prop.key: prop.value for prop in node.metadata_props}.get(MODULE, "")
        if not {*module.split("."), *node.input[1].split(".")} & set(COORDINATES):
            groups[".".join(module.split(".")[:DEPTH])].append(node.name)
    return dict(groups)
