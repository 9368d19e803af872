"""Names from data as names of files.

Names that come out of tables, rig files or archives are never trusted. ``safe_name`` turns such a
name into the name of a file to write, ``path_inside`` into the path of a file to read, and
``file_bytes.read_bytes`` reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

MAX_NAME_BYTES = 255  # of one part of a path, on the file systems in use
MAX_PATH_BYTES = 4000
_PLAIN_NAME_BYTES = 150  # leaves room for an ending and for the name of a temporary file


def safe_name(name: str) -> str:
    """Return a name from a table, such as a scene's, as the name of a file.

    Letters, digits, "-", "_", "+", "=", "@" and inner spaces and points stay. A name with other
    characters, or a long one, is changed and gets a part of its SHA-256, so that different names
    stay different.
    """
    plain = re.sub(r"[^\w\-+=@. ]", "_", name).strip(". ")
    plain = plain.encode(errors="replace")[:_PLAIN_NAME_BYTES].decode(errors="ignore").strip(". ")
    if plain == name and plain:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain or 'unnamed'}-{digest}"


def path_inside(
    root: Path, name: str, *, what: str = "file name", allow_outside: bool = False
) -> Path:
    """Return the path of a file that a table, a rig file or a manifest names.

    The name must be relative and without "..", with either kind of separator. Links that the user
    made below ``root`` may lead to another disk: nothing but the user's own hand makes them.

    Args:
        root: the folder that the name is relative to.
        name: the untrusted name.
        what: subject of the error message.
        allow_outside: accept absolute names and "..", because the user trusts the file.

    Raises:
        ValueError: the name leads out of ``root`` or cannot be a name.
    """
    shown = ascii(name if len(name) <= 100 else name[:100] + "...")
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or "\0" in name or not _is_encodable(name):
        raise ValueError(f"{what} must be the name of a file below {root}; got {shown}")
    if len(name) > 60 and (
        len(os.fsencode(name)) > MAX_PATH_BYTES
        or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts)
    ):
        raise ValueError(
            f"{what} must have at most {MAX_NAME_BYTES} bytes a part and {MAX_PATH_BYTES} in all; "
            f"got {shown}"
        )
    if not allow_outside and (parts[0] == "" or parts[0][1:2] == ":" or ".." in parts):
        raise ValueError(
            f"{what} must lie inside {root}; got {shown}: correct it, or give --allow-outside "
            "(allow_outside=True) if you trust the file that holds it"
        )
    return root / name


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
