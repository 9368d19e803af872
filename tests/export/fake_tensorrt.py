"""Stand-in for the module tensorrt, for tests of our own code without a GPU.

It has the classes and calls of TensorRT that bevstack uses, refuses every other use, and computes
with ONNX Runtime on the memory that it is given: float64 becomes float32 at the inputs and outputs,
as TensorRT's parser does.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

VERSION = "11.4.0.106"
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64")
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1}
)
BuilderFlag = enum.IntEnum("BuilderFlag", {"DEBUG": 2, "TF32": 6})
TYPES = {
    onnx.TensorProto.FLOAT: (DataType.FLOAT, np.float32),
    onnx.TensorProto.DOUBLE: (DataType.FLOAT, np.float32),
    onnx.TensorProto.FLOAT16: (DataType.HALF, np.float16),
    onnx.TensorProto.INT32: (DataType.INT32, np.int32),
    onnx.TensorProto.INT64: (DataType.INT64, np.int64),
    onnx.TensorProto.BOOL: (DataType.BOOL, np.bool_),
    onnx.TensorProto.UINT8: (DataType.UINT8, np.uint8),
}


class ILogger:
    """Base class of loggers."""

    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class Tensor:
    """Input or output of a network or engine."""

    def __init__(self, value: Any, dynamic: bool) -> None:
        kind = value.type.tensor_type
        self.name = value.name
        self.dtype, self.array_type = TYPES[kind.elem_type]
        sides = (s.dim_value if s.HasField("dim_value") else -1 for s in kind.shape.dim)
        self.shape = tuple(sides)


class Network:
    """Network that a parser fills."""

    def __init__(self) -> None:
        self.model: bytes | None = None
        self._inputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    """Parser that knows ONNX's own operators alone."""

    def __init__(self, network: Network, logger: ILogger) -> None:
        assert isinstance(network, Network) and isinstance(logger, ILogger)
        self._network, self._errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._errors[index])

    def parse_from_file(self, model: str) -> bool:
        assert isinstance(model, str)
        try:
            proto = onnx.load(model)
            if not proto.graph.node:
                raise ValueError("no node")
        except (DecodeError, ValueError) as error:
            self._errors.append(f"Failed to parse ONNX model: {error}\nmore")
            return False
        unknown = [node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx")]
        if unknown:
            self._errors.append(f"Plugin not found: {unknown[0]}")
            return False
        self._network.model = Path(model).read_bytes()
        self._network._inputs = [Tensor(value, True) for value in proto.graph.input]
        return True


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (min, opt, max)


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[Profile] = []

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(BuilderFlag(flag))

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    """Builder that fails for a network without a profile that needs one, or with TF32."""

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def create_network(self, flags: int = 0) -> Network:
        assert flags == 1, "types must be those of the file"
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
        assert network.model is not None and BuilderFlag.TF32 not in config.flags
        wanted = {t.name for t in network._inputs if -1 in t.shape}
        given = config.profiles[0].shapes if config.profiles else {}
        if set(given) != wanted:
            self._logger.log(ILogger.Severity.WARNING, "a warning")
            self._logger.log(ILogger.Severity.ERROR, "no optimization profile\nmore")
            return None
        text = base64.b64encode(network.model).decode()
        return memoryview(json.dumps([VERSION, text, given]).encode())


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        assert isinstance(plan, bytes)
        try:
            version, model, profile = json.loads(plan)
        except ValueError:
            self._logger.log(ILogger.Severity.ERROR, "Magic tag does not match")
            return None
        assert version == VERSION
        return Engine(base64.b64decode(model), profile)


class Engine:
    def __init__(self, model: bytes, profile: dict[str, tuple[Any, ...]]) -> None:
        proto = onnx.load_from_string(model)
        self.profile = profile
        self.inputs = {v.name: Tensor(v, True) for v in proto.graph.input}
        self.outputs = {v.name: Tensor(v, False) for v in proto.graph.output}
        self.tensors = self.inputs | self.outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    """Context that reads and writes the memory at the addresses, in the engine's types."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert isinstance(shape, tuple)
        wanted = self._engine.inputs[name].shape
        if -1 not in wanted:
            fits = shape == wanted
        else:
            least, _, most = self._engine.profile[name]
            fits = all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True))
        if fits:
            self._shapes[name] = shape
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert set(self._shapes) == set(self._engine.inputs), "shapes of inputs come first"
        shape = self._engine.outputs[name].shape
        samples = next(iter(self._shapes.values()))[0]
        return tuple(samples if side == -1 else side for side in shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert isinstance(memory, int) and name in self._engine.tensors
        self._addresses[name] = memory
        return memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert isinstance(stream_handle, int)
        assert set(self._addresses) == set(self._engine.tensors), "each tensor needs memory"
        session = self._engine.session
        feed = {}
        for value in session.get_inputs():
            array = self._memory(value.name, self._shapes[value.name]).copy()
            feed[value.name] = array.astype(np.float64) if "double" in value.type else array
        for value, found in zip(session.get_outputs(), session.run(None, feed), strict=True):
            self._memory(value.name, found.shape)[...] = found
        return True

    def _memory(self, name: str, shape: tuple[int, ...]) -> Any:
        kind = np.dtype(self._engine.tensors[name].array_type)
        size = int(np.prod(shape)) * kind.itemsize
        raw = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype=kind).reshape(shape)


def module() -> ModuleType:
    """Return the module; a use of anything that is not here raises AttributeError."""
    made = ModuleType("tensorrt")
    made.__version__, made.__spec__ = VERSION, ModuleSpec("tensorrt", None)
    for thing in (ILogger, OnnxParser, Builder, Runtime, DataType, TensorIOMode):
        setattr(made, thing.__name__, thing)
    made.BuilderFlag = BuilderFlag
    made.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    return made
