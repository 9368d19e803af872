"""Conversion of configurations to JSON and back; an unknown field raises with a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bevstack.config.checks import check, shown
from bevstack.config.detector import Config
from bevstack.config.limits import MAX_VALUES
from bevstack.config.old_files import upgrade_fields
from bevstack.json_files import parse_json

# A whole configuration: that of the detector of 3D boxes, or of another task.
Whole = typing.TypeVar("Whole")
# Key of the class name of a section that may have one of several classes, such as the backbone.
KIND = "kind"


def config_to_json(config: object) -> str:
    """Return the configuration of any task as JSON with every field."""
    return json.dumps(_plain(type(config), config), sort_keys=True)


def config_from_json(text: str) -> Config:
    """Return the configuration of a JSON text; missing fields take their defaults.

    Raises:
        ValueError: the text is not JSON, or has an unknown field (the message names the nearest
            known field), a value of the wrong type, or fields that contradict each other.
    """
    values = parse_json(text, "configuration", allow_nan=True)  # refused by field below
    return typing.cast(Config, _build(Config, upgrade_fields(values), ""))


def union_to_json(hint: Any, config: object) -> Any:
    """Return a configuration of one of several classes as plain values, with its class name."""
    return _plain(hint, config)


def union_from_json(hint: Any, text: str) -> Any:
    """Return a configuration of one of several classes, of a JSON text with its class name.

    Raises:
        ValueError: see ``config_from_json``.
    """
    values = parse_json(text, "configuration", allow_nan=True)  # refused by field below
    return _section(sections_of_type(hint), values, "")


def first_differences(ours: object, theirs: object, limit: int = 3) -> list[str]:
    """Return the first fields in which two configurations differ, as "path: ours != theirs"."""
    first, second = (_plain(type(config), config) for config in (ours, theirs))
    return list(_differences(first, second, ""))[:limit]


def stored_differences(ours: Config, stored: str, free: Sequence[str]) -> list[str]:
    """Return the first fields in which a configuration differs from one stored as JSON.

    The training fields named in ``free`` may differ.
    """
    theirs = config_from_json(stored)
    # Replaced together, as one field may contradict another's old value.
    values = {name: getattr(ours.training, name) for name in free}
    return first_differences(ours, replace(theirs, training=replace(theirs.training, **values)))


def section_types(kind: type) -> list[type]:
    """Return a dataclass and all dataclasses that its fields may hold, at any depth."""
    hints = typing.get_type_hints(kind)
    inner = [section for hint in hints.values() for section in sections_of_type(hint)]
    return [kind, *(nested for section in inner for nested in section_types(section))]


def _plain(hint: Any, value: Any) -> Any:
    """Return a section as a dictionary, with its class name under ``KIND`` if there are several."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    hints = typing.get_type_hints(type(value))
    plain = {
        field.name: _plain(hints[field.name], getattr(value, field.name))
        for field in dataclasses.fields(value)
    }
    return {KIND: type(value).__name__, **plain} if len(sections_of_type(hint)) > 1 else plain


def sections_of_type(hint: Any) -> list[type]:
    """Return the dataclasses among the alternatives of a type."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    return typing.cast(
        list[type], [option for option in options if dataclasses.is_dataclass(option)]
    )


def _differences(ours: Any, theirs: Any, path: str) -> typing.Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {**ours, **theirs}:
            yield from _differences(
                ours.get(key), theirs.get(key), f"{path}.{key}" if path else key
            )
    elif ours != theirs:
        yield f"{path}: {ours!r} != {theirs!r}"


def _build(kind: type, values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{path or 'configuration'} must be a JSON object; got {shown(values)}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
            raise ValueError(
                f"configuration has no field {shown((path + '.' if path else '') + name)}; {remedy}"
            )
    prefix = f"{path}." if path else ""
    for field in dataclasses.fields(kind):
        required = dataclasses.MISSING is field.default is field.default_factory
        if required and field.name not in values:
            raise ValueError(f"configuration must have the field {prefix + field.name!r}; got none")
    return kind(
        **{name: _value(hints[name], value, prefix + name) for name, value in values.items()}
    )


def _value(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, value, path)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        check(path, abs(value) <= sys.float_info.max, "be finite", value)
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{path} must be {getattr(hint, '__name__', hint)}; got {shown(value)}")
    return value


def _union(hint: Any, value: Any, path: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    sections = sections_of_type(hint)
    if sections:
        return _section(sections, value, path)
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _value(option, value, path)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; ".join(errors))


def _section(sections: list[type], value: Any, path: str) -> Any:
    """Build a section of the class named under ``KIND``; without that key, of the first class."""
    if len(sections) == 1 or not isinstance(value, dict) or KIND not in value:
        return _build(sections[0], value, path)
    kinds = {section.__name__: section for section in sections}
    if not isinstance(value[KIND], str) or value[KIND] not in kinds:
        raise ValueError(f"{path}.{KIND} must be one of {sorted(kinds)}; got {shown(value[KIND])}")
    fields = {name: part for name, part in value.items() if name != KIND}
    return _build(kinds[value[KIND]], fields, path)


def _tuple(options: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{path} must be a list; got {shown(value)}")
    check(path, len(value) <= MAX_VALUES, f"hold at most {MAX_VALUES} values", len(value))
    if len(options) == 2 and options[1] is Ellipsis:
        options = (options[0],) * len(value)
    if len(options) != len(value):
        raise ValueError(f"{path} must hold {len(options)} values; got {shown(value)}")
    return tuple(
        _value(hint, item, f"{path}[{index}]")
        for index, (hint, item) in enumerate(zip(options, value, strict=True))
    )
