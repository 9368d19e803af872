"""Overrides of single fields as text, such as ``training.learning_rate=3e-4``.

A field is addressed by the path of its sections. Its type decides how the text is read, so a value
needs no quotes: ``decoder.nms_iou=null``, ``images.size=128,320``, ``training.tensorboard=true``.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bevstack.config.detector import Config
from bevstack.config.serialization import KIND, Whole, section_types, sections_of_type

NULLS = ("null", "none")
BOOLEANS: Mapping[str, bool] = types.MappingProxyType({"true": True, "false": False})
MAX_DEPTH = 10  # dots of a key; the deepest field has two
MAX_SHOWN = 80  # characters of a value in a message
BRACKETS = {"[": "]", "(": ")"}

# Text of each overridden field, by name; a section holds the overrides of its own fields.
Tree = dict[str, "str | Tree"]


def with_overrides(config: Whole, overrides: Sequence[str]) -> Whole:
    """Return the configuration with fields replaced by ``key=value`` texts.

    All fields are replaced together, so two fields that depend on each other may both change. A
    section that is None starts from its defaults. ``<section>.kind`` takes another class for a
    section that may have one of several, such as ``backbone.kind=ResNetConfig``; its further
    fields then start from that class's defaults.

    Raises:
        ValueError: a text is not of the form ``key=value``, a key occurs twice or names no field
            (the message suggests the nearest one), a value is not of the field's type, or the
            fields contradict each other.
    """
    tree: Tree = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(
                f"an override must be of the form section.field=value; got {_shown(text)}: write "
                "e.g. training.learning_rate=3e-4"
            )
        if key.count(".") > MAX_DEPTH:
            raise ValueError(f"configuration has no field {_shown(key)}")
        _insert(tree, key.strip(), value.strip())
    return typing.cast(Whole, _replaced(type(config), config, tree, "")) if tree else config


def flat_fields(config: object) -> dict[str, str]:
    """Return every field as the text that ``with_overrides`` reads, by its path."""
    return dict(_flat(type(config), config, ""))


def _insert(tree: Tree, key: str, value: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if isinstance(inner, str):
            raise ValueError(f"{key!r} must not be set together with its section {section!r}")
        tree = inner
    if isinstance(tree.get(name), dict):
        raise ValueError(
            f"{key!r} must not be set together with its own fields; got {_shown(value)}"
        )
    if name in tree:
        raise ValueError(
            f"{key!r} must be set once; got {_shown(str(tree[name]))} and {_shown(value)}"
        )
    tree[name] = value


def _replaced(hint: Any, section: Any, tree: Tree, path: str) -> Any:
    """Return a section with the overrides of its fields; None starts from the defaults."""
    section = _starting_point(hint, section, tree, path)
    hints = typing.get_type_hints(type(section))
    values = {}
    for name, value in tree.items():
        inner = f"{path}.{name}" if path else name
        if name not in _field_names(type(section)):
            raise ValueError(_unknown(_first_key(inner, value), type(section), path))
        kinds = sections_of_type(hints[name])
        if isinstance(value, dict):
            if not kinds:
                key = _first_key(inner, value)
                raise ValueError(f"{key!r} must be a field; got {inner!r}, which has no sections")
            values[name] = _replaced(hints[name], getattr(section, name), value, inner)
        elif kinds and not (_is_null(value) and type(None) in _options(hints[name])):
            raise ValueError(_section_without_field(inner, kinds, value))
        else:
            values[name] = _parse(hints[name], value, inner)
    return dataclasses.replace(section, **values)


def _starting_point(hint: Any, section: Any, tree: Tree, path: str) -> Any:
    """Return the section to change: the present one, or defaults of the class under ``KIND``."""
    kinds = {kind.__name__: kind for kind in sections_of_type(hint)}
    if len(kinds) > 1 and KIND in tree:
        name = tree.pop(KIND)
        if not isinstance(name, str) or name not in kinds:
            raise ValueError(f"{path}.{KIND} must be one of {', '.join(kinds)}; got {name!r}")
        return section if type(section).__name__ == name else kinds[name]()
    return next(iter(kinds.values()))() if section is None else section


def _parse(hint: Any, text: str, path: str) -> Any:
    """Read the text of one field by the field's type."""
    options = _options(hint)
    if type(None) in options and _is_null(text):
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            if typing.get_origin(option) is tuple:
                return _parse_tuple(typing.get_args(option), text, path)
            return _parse_single(option, text, path)
        except ValueError as error:
            errors.append(str(error))
    optional = " or null" if type(None) in options and len(errors) == 1 else ""
    raise ValueError("; ".join(errors).replace("; got ", f"{optional}; got ", 1))


def _parse_single(kind: Any, text: str, path: str) -> Any:
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise ValueError(f"{path} must be true or false; got {_shown(text)}")
        return BOOLEANS[text.lower()]
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{path} must be a whole number; got {_shown(text)}") from None
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{path} must be a finite number; got {_shown(text)}")
        return number
    return _unquoted(text)


def _parse_tuple(options: tuple[Any, ...], text: str, path: str) -> tuple[Any, ...]:
    if not text:
        raise ValueError(f"{path} must be a list such as 1,2; got no value: write [] for none")
    items = list(_split(text, path))
    if len(options) == 2 and options[1] is Ellipsis:
        options = (options[0],) * len(items)
    if len(options) != len(items):
        raise ValueError(f"{path} must hold {len(options)} values; got {_shown(text)}")
    return tuple(
        _parse(hint, item, f"{path}[{index}]")
        for index, (hint, item) in enumerate(zip(options, items, strict=True))
    )


def _split(text: str, path: str) -> Iterator[str]:
    """Yield the items of a list: parts between commas that no inner bracket holds."""
    if text[0] in BRACKETS and _closing(text, path) == len(text) - 1:
        text = text[1:-1].strip()
    while text:
        end = _item_end(text, path)
        yield text[:end].strip()
        text = text[end + 1 :].strip()


def _item_end(text: str, path: str) -> int:
    position = 0
    while position < len(text) and text[position] != ",":
        inner = text[position] in BRACKETS
        position += (_closing(text[position:], path) if inner else 0) + 1
    return position


def _closing(text: str, path: str) -> int:
    """Return the position of the bracket that closes the one at the start."""
    expected: list[str] = []
    for position, character in enumerate(text):
        if character in BRACKETS:
            expected.append(BRACKETS[character])
        elif expected and character == expected[-1]:
            expected.pop()
            if not expected:
                return position
    raise ValueError(f"{path} must close its brackets; got {_shown(text)}")


def _unquoted(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _shown(text: str) -> str:
    """Return a value for a message, cut if it is long."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def _is_null(text: str) -> bool:
    return text.lower() in NULLS


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _first_key(path: str, value: str | Tree) -> str:
    """Return the path of the first override in a part of the tree."""
    if isinstance(value, str):
        return path
    name, inner = next(iter(value.items()))
    return _first_key(f"{path}.{name}", inner)


def _section_without_field(path: str, kinds: Sequence[type], value: str) -> str:
    example = f"{path}.{_field_names(kinds[0])[0]}"
    return f"{path!r} must be set field by field, such as {example}=...; got {_shown(value)}"


def _unknown(path: str, kind: type, section: str) -> str:
    """Return the refusal of a path, with the fields of the same name or the nearest path."""
    own = [f"{section}.{name}" if section else name for name in _field_names(kind)]
    within = (Config, "") if kind in section_types(Config) else (kind, section)
    everywhere = list(dict.fromkeys(_paths(*within)))
    if path in everywhere:
        return f"{path!r} must be a field of {kind.__name__}; got one of another {section}.{KIND}"
    name = path.rpartition(".")[2]
    same_name = [known for known in everywhere if known.rpartition(".")[2] == name]
    short = [known for known in everywhere if _initials(known) == name]
    close = same_name or short or difflib.get_close_matches(path, own, n=1)
    if not close:
        by_name = {known.rpartition(".")[2]: known for known in everywhere}
        close = difflib.get_close_matches(path, everywhere, n=1)
        close = close or [by_name[n] for n in difflib.get_close_matches(name, by_name, n=1)]
    remedy = f"did you mean {' or '.join(map(repr, close))}?" if close else ""
    remedy = remedy or f"known fields of {section or 'the configuration'}: {', '.join(own)}"
    return f"configuration has no field {path!r}; {remedy}"


def _initials(path: str) -> str:
    """Return the first letters of the words of a field's name: "lr" of "learning_rate"."""
    return "".join(word[:1] for word in path.rpartition(".")[2].split("_"))


def _paths(hint: Any, path: str) -> Iterator[str]:
    """Yield the paths of all fields that are no sections, of every class of a section."""
    for kind in sections_of_type(hint):
        hints = typing.get_type_hints(kind)
        for name in _field_names(kind):
            inner = f"{path}.{name}" if path else name
            if sections_of_type(hints[name]):
                yield from _paths(hints[name], inner)
            else:
                yield inner


def _flat(hint: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        yield path, _text(value)
        return
    if len(sections_of_type(hint)) > 1:
        yield f"{path}.{KIND}", type(value).__name__
    hints = typing.get_type_hints(type(value))
    for name in _field_names(type(value)):
        inner = f"{path}.{name}" if path else name
        yield from _flat(hints[name], getattr(value, name), inner)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, tuple):
        return str(value)
    flat = bool(value) and not any(isinstance(item, tuple) for item in value)
    items = ",".join(f"[{_text(i)}]" if isinstance(i, tuple) else _text(i) for i in value)
    return items if flat else f"[{items}]"
