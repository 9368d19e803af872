"""Order of the metadata in safetensors files, so that equal content gives equal bytes."""

from __future__ import annotations

import json


def sort_safetensors_metadata(data: bytes) -> tuple[bytes, memoryview]:
    """Sort the metadata of a safetensors file by key.

    The safetensors library writes metadata in the random order of a hash table. The same tensors
    and metadata would give a file with a different digest each time.

    Args:
        data: the whole file. Format: 8 bytes of header size, a JSON header, padded with spaces to
            a multiple of 8 bytes, and the tensors (safetensors README, "Format").

    Returns:
        The new header with its size, and a view of the tensors, which are not copied.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]
