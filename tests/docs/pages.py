"""The pages of the project and their code blocks."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.sources import ROOT

# Records of commands of earlier revisions; their code blocks are `console`, not `sh`.
HISTORY = ROOT / "docs" / "history"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "*/README.md")
    for page in ROOT.glob(pattern)
    if not page.relative_to(ROOT).parts[0].startswith((".", "build", "out"))
)


class Block(NamedTuple):
    """A fenced code block of a page."""

    language: str  # "sh", "python", "json", "" ...
    mark: str  # second word after the fence: "", "slow" or "elsewhere"
    code: str
    line: int  # of the fence


def blocks_of(text: str) -> list[Block]:
    """Return the fenced code blocks of a page, in order."""
    blocks = []
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        language, _, mark = found.group(1).strip().partition(" ")
        line = text.count("\n", 0, found.start()) + 1
        blocks.append(Block(language, mark, found.group(2), line))
    return blocks


def prose_of(text: str) -> str:
    """Return a page without its code blocks; line numbers stay."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found.group(0).count("\n")

    return re.sub(r"^```[^\n]*\n.*?^```$", blank, text, flags=re.DOTALL | re.MULTILINE)
