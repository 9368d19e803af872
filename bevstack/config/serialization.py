"""Configurations to JSON and back; unknown fields are refused by name, with a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from typing import Any

from bevstack.config.config import Config


def config_to_json(config: Config) -> str:
    """The configuration as JSON, every field written out."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


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
    return typing.cast(Config, _build(Config, values, ""))


def first_differences(ours: Config, theirs: Config, limit: int = 3) -> list[str]:
    """The first fields in which two configurations differ, as "path: ours != theirs"."""
    return list(_differences(dataclasses.asdict(ours), dataclasses.asdict(theirs), ""))[:limit]


def _differences(ours: Any, theirs: Any, path: str) -> typing.Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours:
            yield from _differences(ours[key], theirs.get(key), f"{path}.{key}" if path else key)
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
        return _union(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path)
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{path} must be {getattr(hint, '__name__', hint)}; got {value!r}")
    return value


def _union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _value(option, value, path)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; ".join(errors))


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
