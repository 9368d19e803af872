"""Explanation of errors that a user can fix: one sentence instead of a traceback."""

from __future__ import annotations

import errno

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Modules that an extra installs: (first part of the module's name, extra).
MODULE_EXTRAS = (
    ("nuscenes", "nuscenes"),
    ("tensorboard", "tensorboard"),
    ("lanelet2", "maps"),
    ("rosbags", "ros"),
    ("mcap", "ros"),
    ("cyclonedds", "ros"),
    ("osi3", "export"),
    ("onnx", "export"),
    ("onnx_ir", "export"),
    ("onnxruntime", "export"),
    ("onnxscript", "export"),
    ("openvino", "openvino"),
    ("tensorrt", "tensorrt"),
    ("pycocotools", "coco"),
    ("viser", "view"),
    ("open3d", "open3d"),
    ("rerun", "rerun"),
)

# Errors of the operating system: errno -> (requirement on the path, remedy).
OS_ERRORS = {
    errno.ENOENT: ("exist", "check the path"),
    errno.EACCES: ("be accessible", "change its permissions or choose another path"),
    errno.EPERM: ("be accessible", "change its permissions or choose another path"),
    errno.EROFS: ("be writable", "choose a path on another file system"),
    errno.EEXIST: ("not exist yet", "choose another path or remove it"),
    errno.ENOTDIR: ("be in a folder", "check which part of the path is a file"),
    errno.EISDIR: ("be a file", "give a file in that folder"),
    errno.ENOSPC: ("fit on the disk", "free some space or choose a path on another disk"),
    errno.ELOOP: ("be a file or folder", "remove the links that lead in a circle"),
    errno.ENAMETOOLONG: ("have shorter names", "choose a shorter path"),
    errno.EIO: ("be readable and writable", "check the disk"),
    errno.EDQUOT: ("fit in the disk quota", "free some space or choose another path"),
}

_LONGEST = 4000  # characters of a sentence

_OTHER_OS_ERROR = ("be readable and writable", "check the path and the device that holds it")


def explain(error: Exception) -> str | None:
    """Return an error as one sentence, or None for an error that needs its traceback.

    An error needs its traceback if the program is the cause, not the user's input.
    """
    if isinstance(error, ModuleNotFoundError):
        return _explain_missing_module(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_os_error(error)
    # Python's import system sets ``name``; an ImportError of bevstack, with a remedy, does not.
    if isinstance(error, ImportError) and error.name is not None:
        return None
    if isinstance(error, (ValueError, OSError, ImportError, FloatingPointError)):
        return _bounded(" ".join(str(error).split()))
    return None


def _bounded(sentence: str) -> str:
    """Return a sentence without its middle if a quoted value makes it too long to read."""
    if len(sentence) <= _LONGEST:
        return sentence
    return f"{sentence[: _LONGEST // 2]} ... {sentence[-_LONGEST // 2 :]}"


def _explain_missing_module(error: ModuleNotFoundError) -> str | None:
    if error.name is None:
        return " ".join(str(error).split())
    extra = dict(MODULE_EXTRAS).get(error.name.partition(".")[0])
    if extra is None:
        return None
    sentence = (
        f"{error.name} must be installed; got no such module; pip install 'bevstack[{extra}]'"
    )
    if extra == "nuscenes":
        sentence += " (with Python 3.12 or older, because the devkit needs numpy 1)"
    return sentence


def _explain_os_error(error: OSError) -> str:
    assert error.errno is not None  # checked by ``explain``
    requirement, remedy = OS_ERRORS.get(error.errno, _OTHER_OS_ERROR)
    path = str(error.filename) if error.filename is not None else "each file"
    return f"{path} must {requirement}; got {error.strerror or type(error).__name__}; {remedy}"
