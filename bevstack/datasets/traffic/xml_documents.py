"""Reading of small XML files without document types, and so without entities of any kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from bevstack.file_bytes import read_bytes
from bevstack.json_files import shorten

MAX_BYTES = 1 << 22
_MAX_DEPTH = 16
# Python's float() also takes 1_0, digits of other scripts, and names such as "inf".
_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass
class Node:
    """An element of an XML file; attributes are not kept."""

    name: str
    text: str = ""  # of the element itself, without white space around it
    children: list[Node] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Node]:
        """Yield the children of a name."""
        return (child for child in self.children if child.name == name)

    def child(self, where: str, name: str) -> Node:
        """Return the only child of a name.

        Raises:
            ValueError: there is none, or there are several.
        """
        found = list(self.all(name))
        if len(found) != 1:
            raise ValueError(f"{where} must have one <{name}>; got {len(found)}")
        return found[0]

    def number(self, where: str, name: str) -> float:
        """Return the number in the only child of a name.

        Raises:
            ValueError: there is no such child, or its text is no finite number.
        """
        return parse_number(f"<{name}> of {where}", self.child(where, name).text)


def parse_number(where: str, text: object) -> float:
    """Return the finite number that a text holds.

    Raises:
        ValueError: the text is no finite number.
    """
    value = float("nan")
    if isinstance(text, str) and len(text) <= 64 and _DECIMAL.fullmatch(text):
        value = float(text)
    if not abs(value) < 1e12:
        raise ValueError(f"{where} must be a finite number; got {shorten(text)}")
    return value


def read_xml(path: Path | str, subject: str) -> Node:
    """Read an XML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file, too large, not XML, with a document type (entities), or
            nested too deeply.
    """
    data = read_bytes(path, subject, max_bytes=MAX_BYTES)
    root = Node("")
    open_nodes = [root]

    def start(name: str, attributes: Any) -> None:
        if len(open_nodes) > _MAX_DEPTH:
            raise ValueError(f"{subject} must have at most {_MAX_DEPTH} nested elements; got more")
        node = Node(name)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(name: str) -> None:
        node = open_nodes.pop()
        node.text = node.text.strip()

    def add(text: str) -> None:
        open_nodes[-1].text += text

    def refuse(*parts: Any) -> None:
        raise ValueError(
            f"{subject} must have no document type; got one in {path}: remove <!DOCTYPE ...>"
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = add
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise ValueError(
            f"{subject} must be XML; got {reason} in line {error.lineno} of {path}"
        ) from None
    except (LookupError, UnicodeError) as error:  # an encoding that Python does not know
        raise ValueError(f"{subject} must be XML; got {shorten(str(error))} in {path}") from None
    return root.children[0]
