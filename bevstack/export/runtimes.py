"""Runtimes of exported models behind one interface: arrays by name in, arrays by name out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.export.onnx.graph import DetectorGraph
from bevstack.export.onnx.graph_info import (
    GraphInfo,
    check_opset,
    first_line,
    has_custom_ops,
    read_graph_info,
)

TORCH, ONNXRUNTIME, OPENVINO = "torch", "onnxruntime", "openvino"
TENSORRT, TENSORRT_HALF = "tensorrt", "tensorrt-fp16"
ON_GPU = (TENSORRT, TENSORRT_HALF)
BACKENDS = (ONNXRUNTIME, OPENVINO, *ON_GPU)  # that run exported files
# Backend -> its module and the extra that installs it.
_MODULES = {
    ONNXRUNTIME: (ONNXRUNTIME, "export"),
    OPENVINO: (OPENVINO, "openvino"),
    TENSORRT: (TENSORRT, "tensorrt"),
    TENSORRT_HALF: (TENSORRT, "tensorrt"),
}


class Session(Protocol):
    """Loaded detector that runs in one backend."""

    @property
    def backend(self) -> str:
        """Return the name and version of the backend."""
        ...

    @property
    def info(self) -> GraphInfo:
        """Return the facts about the detector."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the inputs by name, in order."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        ...


class TorchSession:
    """Detector that runs in torch itself, on our operators.

    Args:
        graph: the detector; one without bounds computes exact sizes.
        info: its facts.
        shapes: shapes of its inputs by name.
    """

    def __init__(
        self, graph: DetectorGraph, info: GraphInfo, *, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.graph = graph.eval()
        self.info = info
        self.shapes = shapes
        self.backend = f"{TORCH} {torch.__version__}"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        tensors = [torch.from_numpy(inputs[name]) for name in self.graph.input_names]
        with torch.inference_mode():
            outputs = self.graph(*tensors)
        arrays = (output.numpy() for output in outputs)
        return dict(zip(self.graph.output_names, arrays, strict=True))


class LoadedFile(Protocol):
    """Model in an ONNX file that a backend has loaded."""

    @property
    def backend(self) -> str:
        """Return the name and version of the backend."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the texts by key that the file carries."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the inputs by name, in order; -1 is an axis of any size."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        ...


class OnnxRuntimeFile:
    """ONNX file that runs in ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: threads of the computation; None: one for each core.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: ONNX Runtime is not installed.
        ValueError: ONNX Runtime cannot load the file.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}: check the path")
        if has_custom_ops(path):
            raise ValueError(
                f"a model of --custom-ops must run in {OPENVINO} or {TENSORRT}, which our kernels "
                f"are built for; got {ONNXRUNTIME} for {path}: add --backend {OPENVINO}"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; what constants it could not fold does not matter
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exceptions share no other class
            raise ValueError(
                f"model must load in ONNX Runtime {onnxruntime.__version__}; got {path}: "
                f"{first_line(error)}: export it again, or install a newer onnxruntime"
            ) from error
        self.backend = f"{ONNXRUNTIME} {onnxruntime.__version__}"
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.shapes: Mapping[str, tuple[int, ...]] = {
            value.name: tuple(side if isinstance(side, int) else -1 for side in value.shape)
            for value in self._session.get_inputs()
        }
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name.

        Raises:
            RuntimeError: ONNX Runtime fails, for example for want of memory.
        """
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self.shapes}
        try:
            arrays = self._session.run(self._outputs, feed)
        except Exception as error:  # its exceptions share no other class
            raise RuntimeError(f"{self.backend} failed: {first_line(error)}") from error
        return dict(zip(self._outputs, arrays, strict=True))


class FileSession:
    """Detector in a loaded file.

    Args:
        file: the file.
        path: its name in messages.

    Raises:
        ValueError: the file is no exported detector.
    """

    def __init__(self, file: LoadedFile, path: Path) -> None:
        self._file = file
        self.info = read_graph_info(file.metadata, str(path))
        check_opset(self.info.opset, str(path))
        self.backend, self.shapes = file.backend, file.shapes

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        return self._file.run(inputs)


def open_session(path: Path, backend: str = ONNXRUNTIME, *, threads: int | None = None) -> Session:
    """Load an exported detector in a backend.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: the backend is not installed.
        ValueError: the backend runs no exported files, or the file does not fit.
    """
    return FileSession(open_file(path, backend, threads=threads), path)


def open_file(path: Path, backend: str = ONNXRUNTIME, *, threads: int | None = None) -> LoadedFile:
    """Load an exported model of any kind in a backend.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: the backend is not installed.
        ValueError: the backend runs no exported files, or cannot load this one.
    """
    check_backend(backend)
    if backend == OPENVINO:
        from bevstack.export.openvino_file import OpenVinoFile

        return OpenVinoFile(path, threads=threads)
    if backend in ON_GPU:
        from bevstack.export.tensorrt_file import TensorRtFile

        return TensorRtFile(path, half=backend == TENSORRT_HALF)
    return OnnxRuntimeFile(path, threads=threads)


def check_backend(backend: str) -> None:
    """Check that a backend runs exported files, is installed and has its hardware.

    Raises:
        ModuleNotFoundError: it is not installed.
        ValueError: it runs none, or it needs a GPU and there is none.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {', '.join(BACKENDS)}, which exported models run in; "
            f"got {backend!r}"
        )
    module, extra = _MODULES[backend]
    if find_spec(module) is None:
        raise ModuleNotFoundError(
            f"{module} must be installed; got no such module; pip install 'bevstack[{extra}]'"
        )
    if backend in ON_GPU and not has_gpu():
        raise ValueError(
            f"{backend} must run on an NVIDIA GPU; got none that torch {torch.__version__} can use"
        )


def has_gpu() -> bool:
    """Return True if torch can use an NVIDIA GPU."""
    return torch.cuda.is_available()


def installed_backends() -> list[str]:
    """Return the backends that can run exported files here in full precision."""
    found = [name for name in (ONNXRUNTIME, OPENVINO) if find_spec(name) is not None]
    if find_spec(TENSORRT) is not None and has_gpu():
        found.append(TENSORRT)
    return found


def checking_backends(*, custom_ops: bool, whole_attention: bool = True) -> list[str]:
    """Return the backends that a new file is checked in: all that can run it here.

    Raises:
        ModuleNotFoundError: no backend of files with our own operators is installed.
    """
    installed = installed_backends()
    if not custom_ops:
        return installed
    runs = (OPENVINO,) if whole_attention else (OPENVINO, TENSORRT)
    found = [backend for backend in installed if backend in runs]
    if not found:
        check_backend(OPENVINO)
    return found


def require_exporter() -> None:
    """Check that the packages that write ONNX files are installed.

    Raises:
        ModuleNotFoundError: one is not.
    """
    for name in ("onnx", "onnxscript", "onnx_ir", ONNXRUNTIME):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"{name} must be installed; got no such module; pip install 'bevstack[export]'"
            )
