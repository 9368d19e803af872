"""The library of our operators for OpenVINO: found in the user's cache, or built there."""

from __future__ import annotations

from pathlib import Path

from bevstack.ops.library_cache import builder, cached_library


def extension_library(
    package: Path,
    version: str,
    *,
    cache: Path | None = None,
) -> Path:
    """Return the library for ``openvino.Core().add_extension``; the first call builds it.

    The build takes a minute or two, and a C++ compiler. The result is kept for this version of
    OpenVINO and these sources.

    Args:
        package: folder of the installed package ``openvino``.
        version: its version.
        cache: folder of the cache; None: beside torch's cached files.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
        OSError: the cache cannot be written.
        ValueError: it cannot be built, for example for want of a compiler.
    """
    program = builder("build_openvino")
    folder = f"openvino-{version}-{program.digest()[:12]}"

    def build(into: Path, work: Path) -> None:
        program.build(into, work, package)

    try:
        return cached_library(folder, "libbevstack_openvino.so", build, cache=cache)
    except program.BuildError as error:
        raise ValueError(
            f"the library of our operators for OpenVINO {version} must be buildable; got: "
            f"{error}; models without --custom-ops need none"
        ) from error
