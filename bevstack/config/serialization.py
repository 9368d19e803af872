"""Configurations to JSON and back; unknown fields are refused by name, with a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from typing import Any

from bevstack.config.detector import Config
from bevstack.config.old_files import upgraded

# Where a section may be of several kinds (a backbone), the name of its class stands under this key.
KIND = "kind"


def config_to_json(config: Config) -> str:
    """The configuration as JSON, every field written out."""
    return json.dumps(_plain(Config, config), sort_keys=True)


def config_from_json(text: str) -> Config:
    """The configuration a JSON text describes; missing fields take their defaults.

    Raises:
        ValueError: not JSON, an unknown field (with the nearest known name), a value of the wrong
            type, or a contradiction between fields.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"configuration must be JSON; got {error}") from None
    return typing.cast(Config, _build(Config, upgraded(values), ""))


def first_differences(ours: Config, theirs: Config, limit: int = 3) -> list[str]:
    """The first fields in which two configurations differ, as "path: ours != theirs"."""
    return list(_differences(_plain(Config, ours), _plain(Config, theirs), ""))[:limit]


def section_types(kind: type) -> list[type]:
    """Return a dataclass and all dataclasses that its fields may hold, at any depth."""
    hints = typing.get_type_hints(kind)
    inner = [section for hint in hints.values() for section in _sections(hint)]
    return [kind, *(found for section in inner for found in section_types(section))]


def _plain(hint: Any, value: Any) -> Any:
    """A section as a dictionary; one of several kinds also says which, under ``KIND``."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    hints = typing.get_type_hints(type(value))
    plain = {
        field.name: _plain(hints[field.name], getattr(value, field.name))
        for field in dataclasses.fields(value)
    }
    return {KIND: type(value).__name__, **plain} if len(_sections(hint)) > 1 else plain


def _sections(hint: Any) -> list[type]:
    """The dataclasses among the alternatives of a type."""
    united = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if united else (hint,)
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
        raise ValueError(f"{path or 'configuration'} must be an object; got {values!r}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
            raise ValueError(
                f"configuration has no field {(path + '.' if path else '') + name!r}; {remedy}"
            )
    prefix = f"{path}." if path else ""
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
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{path} must be {getattr(hint, '__name__', hint)}; got {value!r}")
    return value


def _union(hint: Any, value: Any, path: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    sections = _sections(hint)
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
    """A section of the kind it says it is; of the first one where it does not."""
    if len(sections) == 1 or not isinstance(value, dict) or KIND not in value:
        return _build(sections[0], value, path)
    kinds = {section.__name__: section for section in sections}
    if value[KIND] not in kinds:
        raise ValueError(f"{path}.{KIND} must be one of {sorted(kinds)}; got {value[KIND]!r}")
    rest = {name: part for name, part in value.items() if name != KIND}
    return _build(kinds[value[KIND]], rest, path)


def _tuple(options: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{path} must be a list; got {value!r}")
    if len(options) == 2 and options[1] is Ellipsis:
        options = (options[0],) * len(value)
    if len(options) != len(value):
        raise ValueError(f"{path} must hold {len(options)} values; got {value!r}")
    return tuple(
        _value(o, v, f"{path}[{i}]") for i, (o, v) in enumerate(zip(options, value, strict=True))
    )
