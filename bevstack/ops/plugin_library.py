"""The library of our operators for TensorRT: found in the user's cache, or built there."""

from __future__ import annotations

from pathlib import Path

from bevstack.ops.library_cache import builder, cached_library


def plugin_library(version: str, architecture: str, *, cache: Path | None = None) -> Path:
    """Return the library of plugins for TensorRT; the first call builds it.

    The build takes nvcc and TensorRT's headers. The result is kept for this version of TensorRT,
    this kind of GPU and these sources.

    Args:
        version: version of the installed TensorRT.
        architecture: compute capability of the GPU without a point, for example 90.
        cache: folder of the cache; None: beside torch's cached files.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
        OSError: the cache cannot be written.
        ValueError: it cannot be built, for example for want of headers.
    """
    program = builder("build_tensorrt")
    folder = f"tensorrt-{version}-sm{architecture}-{program.digest()[:12]}"

    def build(into: Path, work: Path) -> None:
        program.build(into, work, version=version, architecture=architecture)

    try:
        return cached_library(folder, "libbevstack_tensorrt.so", build, cache=cache)
    except program.BuildError as error:
        raise ValueError(
            f"the library of our operators for TensorRT {version} must be buildable; got: "
            f"{error}; models without --custom-ops need none"
        ) from error
