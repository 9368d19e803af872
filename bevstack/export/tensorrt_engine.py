"""Engines of TensorRT: built from exported models, and kept beside them.

An engine fits one model, one version of TensorRT and one kind of GPU. Its file starts with a line
of JSON that names these; an engine of another one is refused. Unmeasured: no engine was built yet
from these programs on a GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bevstack.files import write_atomically

FORMAT = "bevstack-tensorrt-1"
MOST_BATCH = 8  # of a model of any number of samples: the largest that its engine takes
REMEDY = "remove it to build it again"
# What an engine must fit: field of EngineKey -> words of a message.
_WORDS = {
    "tensorrt": "TensorRT",
    "gpu": "the GPU",
    "model_sha256": "the model of digest",
    "half": "half precision",
    "plugins": "the plugins of digest",
}


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Source and target of an engine, which it must fit."""

    tensorrt: str  # version
    gpu: str  # name and compute capability
    model_sha256: str
    half: bool  # convolutions and linear maps in float16
    plugins: str  # SHA-256 of the library of our operators; "": none


class EngineLog:
    """Errors that TensorRT reports, oldest first."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def logger(self, trt: Any) -> Any:
        """Return a logger of TensorRT that collects errors here."""
        severities = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
        errors = self.errors

        class Logger(trt.ILogger):  # type: ignore[misc]  # untyped
            """Collector of errors."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # a class of C++ without super()

            def log(self, severity: Any, msg: str) -> None:
                """Keep an error."""
                if severity in severities:
                    errors.append(msg)

        return Logger()

    def reason(self, default: str) -> str:
        """Return the first line of the first error, or the default."""
        return self.errors[0].strip().splitlines()[0][:300] if self.errors else default


def engine_path(model: Path, *, half: bool) -> Path:
    """Return the file of a model's engine, beside it."""
    return model.with_name(f"{model.name}{'.fp16' if half else ''}.engine")


def stored_engine(path: Path, key: EngineKey, build: Callable[[], bytes]) -> bytes:
    """Return a stored engine, or build and store it.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: the file is no engine, is damaged, or was made for something else.
    """
    if path.is_file():
        return _read(path, key)
    engine = build()
    header = {"format": FORMAT, **asdict(key), "engine_sha256": hashlib.sha256(engine).hexdigest()}
    write_atomically(path, json.dumps(header).encode() + b"\n" + engine)
    return engine


def _read(path: Path, key: EngineKey) -> bytes:
    first, _, engine = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(first)
        known = header["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"engine must be of the format {FORMAT}; got {path}: {REMEDY}")
    for name, wanted in asdict(key).items():
        if header.get(name) != wanted:
            got, want = (_short(value) for value in (header.get(name), wanted))
            raise ValueError(
                f"engine must be for {_WORDS[name]} {want}; got {path} for {got}: {REMEDY}"
            )
    if hashlib.sha256(engine).hexdigest() != header.get("engine_sha256"):
        raise ValueError(f"engine must be as it was written; got {path}, damaged: {REMEDY}")
    return engine


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text  # a digest


def build_engine(trt: Any, model: Path) -> bytes:
    """Build an engine that computes in the types of the file, float32 without TF32.

    Args:
        trt: the module tensorrt.
        model: file of ``bevstack export --onnx``, or one of ``write_half``.

    Raises:
        ValueError: TensorRT cannot read the model or build its engine.
    """
    log = EngineLog()
    logger = log.logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 11 always follows the types of the file; 10 needs the flag.
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strong)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        found = [parser.get_error(k).desc() for k in range(parser.num_errors)]
        reason = (found or [log.reason("no reason")])[0].strip().splitlines()[0][:300]
        raise ValueError(
            f"model must be readable by TensorRT {trt.__version__}; got {model}: {reason}"
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(builder, network, config)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError(
            f"engine must be buildable by TensorRT {trt.__version__}; got {model}: "
            f"{log.reason('no reason')}"
        )
    return bytes(engine)


def _add_profile(builder: Any, network: Any, config: Any) -> None:
    """Allow 1 to `MOST_BATCH` samples, if the model takes any number."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [given for given in inputs if -1 in tuple(given.shape)]
    if not dynamic:
        return
    profile = builder.create_optimization_profile()
    for given in dynamic:
        sizes = [
            tuple(count if side == -1 else side for side in given.shape)
            for count in (1, 1, MOST_BATCH)
        ]
        profile.set_shape(given.name, *sizes)
    config.add_optimization_profile(profile)
