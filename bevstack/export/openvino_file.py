"""Exported models in OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.export.onnx.graph_info import first_line, has_custom_ops
from bevstack.export.onnx.relative import absolute_outputs, relative_inputs
from bevstack.ops.openvino_library import extension_library


class OpenVinoFile:
    """ONNX file that runs in OpenVINO on the CPU, in float32.

    On a processor with instructions for bfloat16, OpenVINO computes in bfloat16 by default. Float32
    is set here, so that its results equal ours.

    Args:
        path: the file.
        threads: threads of the computation; None: one for each core.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: OpenVINO is not installed.
        ValueError: OpenVINO cannot load the file, or the library of our operators, which the file
            needs, cannot be built.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import openvino

        version = openvino.__version__.split("-")[0]
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}: check the path")
        options: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        if has_custom_ops(path):
            core.add_extension(str(custom_operators_library()))
        try:
            model = core.read_model(str(path))
            found = model.has_rt_info(["framework"])
            facts = model.get_rt_info()["framework"] if found else {}
            self._model = core.compile_model(model, "CPU", options)
        except RuntimeError as error:  # its exceptions are of this class alone
            raise ValueError(
                f"model must load in OpenVINO {version}; got {path}: {first_line(error)}: export "
                "it again, or install a newer openvino"
            ) from error
        self.metadata: Mapping[str, str] = {key: fact.value for key, fact in facts.items()}
        self.backend = f"openvino {version}"
        # Names before compilation, which gives some inputs further names. The order stays.
        self.shapes: Mapping[str, tuple[int, ...]] = {
            value.get_any_name(): tuple(
                -1 if side.is_dynamic else side.get_length() for side in value.partial_shape
            )
            for value in model.inputs
        }
        self._outputs = [value.get_any_name() for value in model.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        absolute = {name: inputs[name] for name in self.shapes}
        feed = relative_inputs(absolute)
        results = self._model([np.ascontiguousarray(feed[name]) for name in self.shapes])
        outputs = {name: results[index] for index, name in enumerate(self._outputs)}
        return absolute_outputs(outputs, absolute)


def custom_operators_library() -> Path:
    """Return the library of our operators for the installed OpenVINO; the first call builds it.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
        ModuleNotFoundError: OpenVINO is not installed.
        OSError: the user's cache cannot be written.
        ValueError: the library cannot be built, for example for want of a compiler.
    """
    import openvino

    version = openvino.__version__.split("-")[0]
    return extension_library(Path(openvino.__file__).parent, version)
