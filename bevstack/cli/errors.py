"""Errors a caller can mend, told in one sentence without a traceback."""

from __future__ import annotations

import errno

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Modules that belong to an extra: (first part of the module's name, extra).
EXTRA_OF_MODULE = (
    ("nuscenes", "nuscenes"),
    ("viser", "view"),
    ("open3d", "view"),
    ("rosbags", "ros"),
    ("onnx", "export"),
    ("onnxruntime", "export"),
    ("mmdet3d", "mmdet3d"),
    ("mmdet", "mmdet3d"),
    ("mmengine", "mmdet3d"),
    ("mmcv", "mmdet3d"),
    ("tensorboard", "tensorboard"),
)

# What the operating system refused: errno -> (what the path must be, the remedy).
REFUSALS = {
    errno.ENOENT: ("exist", "check the path"),
    errno.EACCES: ("be accessible", "change its permissions or choose another path"),
    errno.EPERM: ("be accessible", "change its permissions or choose another path"),
    errno.EROFS: ("be writable", "choose a path on another file system"),
    errno.EEXIST: ("not exist yet", "choose another path or remove it"),
    errno.ENOTDIR: ("lie in a folder", "check which part of the path is a file"),
    errno.EISDIR: ("be a file", "name a file in that folder"),
    errno.ENOSPC: ("fit on the disk", "free some space or choose a path on another disk"),
    errno.EDQUOT: ("fit in the disk quota", "free some space or choose another path"),
}


def explain(error: Exception) -> str | None:
    """Puts an error into one sentence.

    Returns:
        The sentence, or None for an error that is the program's own fault, which should keep its
        traceback.
    """
    if isinstance(error, ModuleNotFoundError):
        return _explain_missing_module(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_refusal(error)
    # The import machinery names the module it failed on; an error raised with advice does not.
    if isinstance(error, ImportError) and error.name is not None:
        return None
    if isinstance(error, (ValueError, OSError, ImportError, FloatingPointError)):
        return " ".join(str(error).split())
    return None


def _explain_missing_module(error: ModuleNotFoundError) -> str | None:
    if error.name is None:
        return " ".join(str(error).split())
    extra = dict(EXTRA_OF_MODULE).get(error.name.partition(".")[0])
    if extra is None:
        return None
    sentence = (
        f"{error.name} must be installed; got no such module; pip install 'bevstack[{extra}]'"
    )
    if extra == "nuscenes":
        sentence += " (Python 3.12 or older: the devkit needs numpy 1, which has no newer build)"
    return sentence


def _explain_refusal(error: OSError) -> str | None:
    if error.errno not in REFUSALS:
        return None
    wanted, remedy = REFUSALS[error.errno]
    thing = str(error.filename) if error.filename is not None else "the file being written"
    return f"{thing} must {wanted}; got {error.strerror or type(error).__name__}; {remedy}"
