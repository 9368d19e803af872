"""Writing of a model as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from bevstack.export.onnx.formulations import decompositions
from bevstack.export.onnx.graph_info import MODULE, OPSET
from bevstack.files import naming


def write_onnx(
    path: Path,
    module: nn.Module,
    inputs: Mapping[str, NDArray[Any]],
    *,
    output_names: tuple[str, ...],
    metadata: Mapping[str, str],
    dynamic_batch: bool = False,
    custom_ops: bool = False,
    whole_attention: bool = True,
) -> None:
    """Trace a module for inputs of these shapes and write it.

    Args:
        path: the file.
        module: takes the inputs in their order as tensors; in evaluation mode.
        inputs: an example by name.
        output_names: names of the outputs in their order.
        metadata: texts by key that the file carries.
        dynamic_batch: let the first axis of every input have any size; False: fixed shapes.
        custom_ops: write deformable operators as nodes of our own domain.
        whole_attention: among these, deformable attention as one node; False: as locations, weights
            and the node that samples.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        OSError: the file cannot be written.
    """
    import onnx_ir
    import onnxscript.optimizer

    tensors = tuple(torch.from_numpy(array) for array in inputs.values())
    with torch.no_grad(), _quiet():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(
            module.eval(),
            tensors,
            dynamic_shapes=tuple({0: batch} for _ in tensors) if dynamic_batch else None,
            strict=False,
        )
        chosen = decompositions(custom_ops=custom_ops, whole_attention=whole_attention)
        program = program.run_decompositions(chosen)
        exported = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(output_names),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            # The exporter's own set of rewrites makes an invalid graph of nested minima
            # (onnxscript 0.7.2), so that only constants are folded below.
            optimize=False,
        )
        assert exported is not None  # None only without dynamo
        model = exported.model
        onnxscript.optimizer.inline(model)
        onnxscript.optimizer.fold_constants(model)
        onnxscript.optimizer.remove_unused_nodes(model)
    model.producer_name = "bevstack"
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    for node in model.graph:
        name = _module_path(node.metadata_props.get("namespace", ""))
        node.metadata_props.clear()  # stack traces with paths of this machine
        node.metadata_props[MODULE] = name
        node.doc_string = None
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    with naming(path, always=True):
        onnx_ir.save(model, path)


def _module_path(namespace: str) -> str:
    """Return the dotted name of the module that a node is of, such as "model.backbone.levels.0".

    Args:
        namespace: the exporter's "name: class/name: class/.../operator: target".
    """
    names = [part.partition(":")[0].strip() for part in namespace.split("/")[:-1]]
    return names[-1] if names else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the notes of torch's exporter, which name no fault of the model."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
