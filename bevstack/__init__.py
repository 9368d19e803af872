"""Camera-only bird's-eye-view perception: 3D boxes from camera images and a calibrated rig.

This package exports the names that most programs need. Import everything else from its sub-package.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config import load_config
    from bevstack.runtime.loading import load_any as load
    from bevstack.runtime.loading import load_tasks
    from bevstack.types import Frame, Reset

__version__ = "0.1.0"
# A program that does not configure logging sees nothing of the library's records.
logging.getLogger(__name__).addHandler(logging.NullHandler())
__all__ = ["Frame", "Reset", "__version__", "load", "load_config", "load_tasks"]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import bevstack`` stays fast."""
    if name == "load":
        from bevstack.runtime.loading import load_any

        return load_any
    if name == "load_tasks":
        from bevstack.runtime.loading import load_tasks

        return load_tasks
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
