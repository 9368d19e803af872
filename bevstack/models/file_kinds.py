"""Kinds of files that users take for weights by mistake, recognised by their first bytes."""

from __future__ import annotations

from pathlib import Path

from bevstack.files import naming

NUM_BYTES = 512  # of a file's start that `describe_start` looks at

# First bytes of files written by torch.save: a zip archive, or a pickle of protocol 2 to 5.
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

_DOWNLOAD = "download the file itself again"
# (first bytes in lower case, kind, remedy) of texts, which hold no byte 0 as weights do
_TEXTS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, a text of a few lines in place of the weights",
        "fetch them with `git lfs pull`, or download the file from its web page",
    ),
    (b"<!doctype html", "a web page (HTML)", _DOWNLOAD),
    (b"<html", "a web page (HTML)", _DOWNLOAD),
    (b"<?xml", "an XML text, such as the error message of a server", _DOWNLOAD),
    (b"<", "a text with markup, such as a web page", _DOWNLOAD),
    (b'{"', "a JSON text, such as the error message of a server", _DOWNLOAD),
    (b"{\n", "a JSON text, such as the error message of a server", _DOWNLOAD),
)
# The same for other binary files.
_BINARIES = (
    (b"\x1f\x8b\x08", "a gzip archive", "unpack it first"),
    (b"bzh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zxz", "an xz archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"rar!", "a RAR archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it first"),
    (b"\x89hdf", "an HDF5 file", "convert it to safetensors with the framework that wrote it"),
    (b"\x93numpy", "a numpy file", "convert it to safetensors first"),
    (b"gguf", "a GGUF file", "use the original weights"),
)


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file, for the functions below."""
    with naming(path), path.open("rb") as file:
        return file.read(NUM_BYTES)


def describe_start(start: bytes) -> tuple[str, str] | None:
    """Return the kind of a file that holds no weights, with a remedy; None for any other file.

    Args:
        start: the first ``NUM_BYTES`` bytes of the file.
    """
    plain = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not plain:
        empty = "an empty file" if not start else "a file of spaces"
        return empty, _DOWNLOAD
    if start.count(0) == len(start):
        return "a file of zeros, as an interrupted download leaves it", _DOWNLOAD
    if start[257:262] == b"ustar":
        remedy = "unpack it, or load and save it again if it is a file of torch 0.1"
        return "a tar archive", remedy
    kinds = _BINARIES if 0 in start else (*_TEXTS, *_BINARIES)
    return next(((kind, fix) for first, kind, fix in kinds if plain.startswith(first)), None)
