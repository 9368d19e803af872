from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bevstack.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    p for d in (".", "configs", "data", "docs", "visualize") for p in ROOT.glob(f"{d}/*.md")
)


def commands_of(text: str) -> list[list[str]]:
    """Return the arguments of each `bevstack ...` line in the code blocks of a page."""
    blocks = re.findall(r"```[^\n]*\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "bevstack " in line]
    return [line[1:] for line in words if line and line[0].endswith("bevstack")]


@pytest.mark.parametrize("page", PAGES, ids=[p.relative_to(ROOT).as_posix() for p in PAGES])
def test_commands_in_the_documentation_are_understood(page: Path) -> None:
    parser = build_parser()
    for arguments in commands_of(page.read_text(encoding="utf-8")):
        if "--help" in arguments:
            with pytest.raises(SystemExit, match="0"):
                parser.parse_args(arguments)
        else:
            assert parser.parse_args(arguments).verb == arguments[0]


def test_commands_are_found() -> None:
    text = "a\n```sh\nbevstack predict --out x \\\n  --rig r # why\nmake demo\n```\nbevstack no\n"
    assert commands_of(text) == [["predict", "--out", "x", "--rig", "r"]]
    assert len(commands_of((ROOT / "docs" / "commands.md").read_text(encoding="utf-8"))) >= 7
