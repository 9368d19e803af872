"""Camera-only bird's-eye-view perception: camera images and a calibrated rig in, 3D boxes out.

The names most programs need are here; everything else is imported from its own package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config import load_config
    from bevstack.runtime.detector import load
    from bevstack.types import Frame, Reset

__version__ = "0.1.0"
__all__ = ["Frame", "Reset", "__version__", "load", "load_config"]


def __getattr__(name: str) -> object:
    """Imports the public names on first use, so that ``import bevstack`` itself stays light."""
    if name == "load":
        from bevstack.runtime.detector import load

        return load
    if name == "load_config":
        from bevstack.config import load_config

        return load_config
    if name == "Frame":
        from bevstack.types import Frame

        return Frame
    if name == "Reset":
        from bevstack.types import Reset

        return Reset
    raise AttributeError(f"module 'bevstack' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
