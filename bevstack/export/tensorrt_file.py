"""Exported models in TensorRT, on a GPU."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.export.onnx.graph_info import has_custom_ops
from bevstack.export.onnx.relative import absolute_outputs, relative_inputs
from bevstack.export.tensorrt_engine import (
    MOST_BATCH,
    EngineKey,
    EngineLog,
    build_engine,
    engine_path,
    stored_engine,
)

_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
}


class TensorRtFile:
    """ONNX file that runs in TensorRT; float64 inputs and outputs become float32.

    The first call builds an engine, which takes minutes, and stores it beside the model.

    Args:
        path: the file.
        half: compute convolutions and linear maps in float16.
        device: the GPU; None: the current one.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: TensorRT or onnx is not installed.
        OSError: the engine cannot be stored.
        ValueError: TensorRT cannot build or load the engine, the stored engine was made for
            something else, or the library of our operators cannot be built.
    """

    def __init__(
        self, path: Path, *, half: bool = False, device: torch.device | None = None
    ) -> None:
        import onnx
        import tensorrt as trt

        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}: check the path")
        self.device = torch.device("cuda") if device is None else device
        self._trt, self._log = trt, EngineLog()
        gpu, architecture = gpu_names(self.device)
        plugins = ""
        if has_custom_ops(path):
            plugins = _load_plugins(trt, architecture)
        model = onnx.load(path)
        self.metadata: Mapping[str, str] = {p.key: p.value for p in model.metadata_props}
        key = EngineKey(
            tensorrt=trt.__version__,
            gpu=gpu,
            model_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            half=half,
            plugins=plugins,
        )

        plan = stored_engine(
            engine_path(path, half=half), key, lambda: _built(trt, path, half=half)
        )
        self._runtime = trt.Runtime(self._log.logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ValueError(
                f"engine must load in TensorRT {trt.__version__}; got that of {path}: "
                f"{self._log.reason('no reason')}"
            )
        self._context = self._engine.create_execution_context()
        self.backend = f"tensorrt {trt.__version__}{' fp16' if half else ''}"
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        inputs = {name for name in names if self._is_input(name)}
        self._outputs = [name for name in names if name not in inputs]
        # In the order of the file, with -1 for an axis of any size.
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(self._engine.get_tensor_shape(name)) for name in names if name in inputs
        }
        on_gpu = self.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(self.device) if on_gpu else None  # type: ignore[no-untyped-call]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name.

        Raises:
            RuntimeError: TensorRT fails, for example for want of memory.
            ValueError: more samples than the engine takes.
        """
        absolute = {name: inputs[name] for name in self.shapes}
        feed = relative_inputs(absolute)
        with contextlib.ExitStack() as stack:
            if self._stream is not None:
                stack.enter_context(torch.cuda.stream(self._stream))
            kept = [self._give(name, np.ascontiguousarray(feed[name])) for name in self.shapes]
            outputs = {name: self._take(name) for name in self._outputs}
            handle = 0 if self._stream is None else self._stream.cuda_stream
            if not self._context.execute_async_v3(handle):
                raise RuntimeError(f"{self.backend} failed: {self._log.reason('no reason')}")
            arrays = {name: tensor.cpu().numpy() for name, tensor in outputs.items()}
        del kept  # inputs must live until the outputs have arrived
        return absolute_outputs(arrays, absolute)

    def _is_input(self, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT)

    def _type(self, name: str) -> torch.dtype:
        found = self._engine.get_tensor_dtype(name)
        for known, dtype in _TYPES.items():
            if found == getattr(self._trt.DataType, known):
                return dtype
        raise ValueError(f"tensors must be of {', '.join(_TYPES)}; got {found} for {name}")

    def _give(self, name: str, array: NDArray[Any]) -> Tensor:
        """Copy an input to the device; the result must live until the outputs are read."""
        shape = self.shapes[name]
        fits = len(shape) == array.ndim and all(
            side in (-1, size) for side, size in zip(shape, array.shape, strict=True)
        )
        if not fits or not self._context.set_input_shape(name, array.shape):
            raise ValueError(
                f"{name} must have shape {shape}, -1 for 1 to {MOST_BATCH}; got {array.shape}"
            )
        tensor = torch.from_numpy(array).to(self._type(name)).to(self.device)
        self._place(name, tensor)
        return tensor

    def _take(self, name: str) -> Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise RuntimeError(f"{self.backend} does not know the shape of {name}: {shape}")
        tensor = torch.empty(shape, dtype=self._type(name), device=self.device)
        self._place(name, tensor)
        return tensor

    def _place(self, name: str, tensor: Tensor) -> None:
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise RuntimeError(f"{self.backend} takes no memory for {name}")


def gpu_names(device: torch.device) -> tuple[str, str]:
    """Return the name of a device with its compute capability, and that without a point."""
    if device.type != "cuda":
        return device.type, "00"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} {major}.{minor}", f"{major}{minor}"


def _built(trt: Any, path: Path, *, half: bool) -> bytes:
    """Build an engine of a model, or of its form in half precision."""
    if not half:
        return build_engine(trt, path)
    from bevstack.export.onnx.half import write_half

    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        write_half(path, rounded)
        return build_engine(trt, rounded)


def _load_plugins(trt: Any, architecture: str) -> str:
    """Load the library of our operators, built where it is first needed; return its SHA-256."""
    from bevstack.ops.plugin_library import plugin_library

    library = plugin_library(trt.__version__, architecture)
    registry = trt.get_plugin_registry()
    if registry.get_creator("Dcnv3", "1", "") is None:
        registry.load_library(str(library))
    if registry.get_creator("Dcnv3", "1", "") is None:
        raise ValueError(f"TensorRT {trt.__version__} must load {library}; got no plugin from it")
    return hashlib.sha256(library.read_bytes()).hexdigest()
