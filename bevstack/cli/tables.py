"""The one style of tables that verbs print: framed on a terminal, plain columns in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

FILE_WIDTH = 160  # characters of a line in a file or pipe, wider than the assumed terminal


def print_table(
    console: Console,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: int = 1,
) -> None:
    """Print rows of plain text below titles.

    Args:
        console: the console to print on.
        titles: one for each column.
        rows: the cells, without markup.
        text_columns: number of first columns that hold text, on the left; the remaining columns
            hold numbers, on the right.
    """
    from rich.markup import escape

    table = make_table(console, titles, text_columns=text_columns)
    for row in rows:
        table.add_row(*map(escape, row))
    show_table(console, table)


def print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Print a table whose first line holds the titles."""
    from bevstack.training.progress_bar import make_console

    print_table(make_console(), lines[0], lines[1:])


def make_table(
    console: Console, titles: Sequence[str], *, text_columns: int = 1, title: str = ""
) -> Table:
    """Make an empty table with columns for text and then columns for numbers."""
    from rich import box
    from rich.table import Table

    framed = console.is_terminal
    table = Table(
        box=box.ROUNDED if framed else None,
        padding=(0, 1) if framed else (0, 2, 0, 0),
        pad_edge=framed,
        title=title or None,
    )
    for index, name in enumerate(titles):
        is_text = index < text_columns
        justify: JustifyMethod = "left" if is_text else "right"
        table.add_column(name, justify=justify, no_wrap=index == 0 or not is_text)
    return table


def show_table(console: Console, table: Table) -> None:
    """Print a table; into a file or pipe with whole lines."""
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    console.print(table)
