"""Reading of YAML whose values are plain texts, lists and mappings.

The loader of PyYAML follows YAML 1.1: a bare ``off`` becomes False and ``1:30`` becomes 90. Here
every scalar stays the text that the file holds, and the caller turns it into what it expects, so
that ``off``, ``'off'`` and ``"off"`` are one. Tags, anchors and aliases are refused: no data set
needs them, and a few of them expand to gigabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevstack.file_bytes import read_bytes
from bevstack.json_files import shorten

MAX_BYTES = 1 << 26
_MAX_DEPTH = 16

Yaml = Any  # str, list[Yaml] or dict[str, Yaml]


def read_yaml(path: Path | str, subject: str) -> Yaml:
    """Read a YAML file; see ``parse_yaml``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file, too large, or refused by ``parse_yaml``.
    """
    return parse_yaml(read_bytes(path, subject, max_bytes=MAX_BYTES), subject)


def parse_yaml(data: bytes | str, subject: str) -> Yaml:
    """Return the value of a YAML text; an empty text gives "".

    Args:
        data: the text, or its bytes in UTF-8.
        subject: what the text is, for messages.

    Raises:
        ValueError: the text is not YAML, holds a tag, an anchor, an alias or a second document,
            has a key twice or a key that is no text, or is nested too deeply.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(subject)
    try:
        for event in yaml.parse(data, Loader=loader):
            builder.take(yaml, event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        reason = shorten(problem) if problem else type(error).__name__
        raise ValueError(f"{subject} must be YAML; got {reason}{place}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{subject} must be UTF-8 text; got {error.reason} at byte {error.start}"
        ) from None
    return builder.root


class _Builder:
    """The value that a stream of events describes."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._open: list[list[Yaml] | dict[str, Yaml]] = []
        self._keys: list[str | None] = []  # of each open mapping: the key that waits for a value
        self._documents = 0
        self.root: Yaml = ""

    def take(self, yaml: Any, event: Any) -> None:
        """Add one event of the parser."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._refuse("an anchor or alias", line, "write its value out")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._refuse("a second document", line, "split the file")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            if event.tag is not None and event.tag != "!":
                self._refuse(f"the tag {shorten(event.tag)}", line, "remove it")
            self._add(event.value if isinstance(event, yaml.ScalarEvent) else None, event, line)
            if isinstance(event, yaml.CollectionStartEvent) and len(self._open) > _MAX_DEPTH:
                self._refuse(f"more than {_MAX_DEPTH} nested values", line, "check the file")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()

    def _add(self, text: str | None, event: Any, line: int) -> None:
        is_mapping = type(event).__name__ == "MappingStartEvent"
        value: Yaml = text if text is not None else {} if is_mapping else []
        if not self._open:
            self.root = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        elif self._keys[-1] is None:
            if text is None:
                self._refuse("a key that is no text", line, "check the file")
            elif text in self._open[-1]:
                self._refuse(f"the key {shorten(text)} twice", line, "remove one")
            self._keys[-1] = text
            return
        else:
            self._open[-1][self._keys[-1]] = value
            self._keys[-1] = None
        if text is None:
            self._open.append(value)
            self._keys.append(None)

    def _refuse(self, found: str, line: int, remedy: str) -> None:
        raise ValueError(
            f"{self._subject} must be plain YAML; got {found} in line {line}: {remedy}"
        )
