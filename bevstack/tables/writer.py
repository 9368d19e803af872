"""Writer of the 13 tables of the nuScenes format: checked, and each file replaced atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bevstack.files import write_atomically
from bevstack.tables.names import TABLES

Row = Mapping[str, object]

# table -> (field, table that it refers to); the fields in _MAY_BE_EMPTY may be "".
_REFERENCES: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "instance": (
            ("category_token", "category"),
            ("first_annotation_token", "sample_annotation"),
            ("last_annotation_token", "sample_annotation"),
        ),
        "calibrated_sensor": (("sensor_token", "sensor"),),
        "scene": (
            ("log_token", "log"),
            ("first_sample_token", "sample"),
            ("last_sample_token", "sample"),
        ),
        "sample": (("scene_token", "scene"), ("prev", "sample"), ("next", "sample")),
        "sample_data": (
            ("sample_token", "sample"),
            ("ego_pose_token", "ego_pose"),
            ("calibrated_sensor_token", "calibrated_sensor"),
            ("prev", "sample_data"),
            ("next", "sample_data"),
        ),
        "sample_annotation": (
            ("sample_token", "sample"),
            ("instance_token", "instance"),
            ("visibility_token", "visibility"),
            ("attribute_tokens", "attribute"),
            ("prev", "sample_annotation"),
            ("next", "sample_annotation"),
        ),
        "map": (("log_tokens", "log"),),
    }
)
_MAY_BE_EMPTY = frozenset({"prev", "next", "visibility_token"})


def make_token(*parts: object) -> str:
    """Return a token of 32 hexadecimal digits, the MD5 of the parts joined by slashes."""
    path = "/".join(str(part) for part in parts)
    return hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write compact JSON atomically.

    Raises:
        ValueError: a number is NaN or infinite.
        OSError: the file cannot be written; the error names it.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    write_atomically(path, text.encode())


def check_tables(tables: Mapping[str, Sequence[Row]]) -> None:
    """Check that all 13 tables exist, tokens are unique and every reference resolves.

    Raises:
        ValueError: one of these does not hold; the message names the table, field and token.
    """
    if set(tables) != set(TABLES):
        missing, extra = sorted(set(TABLES) - set(tables)), sorted(set(tables) - set(TABLES))
        raise ValueError(f"tables must be the 13 of nuScenes; got {missing=}, {extra=}")
    tokens: dict[str, set[object]] = {}
    for name, rows in tables.items():
        tokens[name] = {row["token"] for row in rows}
        if len(tokens[name]) != len(rows):
            raise ValueError(
                f"tokens of table {name} must be unique; got {len(rows)} rows "
                f"with {len(tokens[name])} tokens"
            )
    for name, references in _REFERENCES.items():
        for field, target in references:
            for row in tables[name]:
                _check_reference(name, field, row[field], target, tokens[target])


def _check_reference(
    table: str, field: str, value: object, target: str, known: set[object]
) -> None:
    tokens = value if isinstance(value, list) else [value]
    for token in tokens:
        if token not in known and not (token == "" and field in _MAY_BE_EMPTY):
            raise ValueError(
                f"{table}.{field} must be a token of table {target}; got {token!r}, "
                "which does not occur there"
            )


def write_tables(folder: Path, tables: Mapping[str, Sequence[Row]]) -> None:
    """Check the tables and write each as `<folder>/<table>.json`.

    Args:
        folder: the version's folder, e.g. `root/v1.0-synth`; created if it does not exist.
        tables: rows by table name, all 13.

    Raises:
        ValueError: `check_tables` fails; nothing is written then.
        OSError: a file cannot be written; the error names it.
    """
    check_tables(tables)
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        write_json(folder / f"{name}.json", list(tables[name]))
