"""The two streams that all commands print to, and how tables come out on them.

Rich leaves out colours where NO_COLOR is set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

if not os.environ.get("COLUMNS", "").strip("0"):  # no width: rich would print nothing
    os.environ.pop("COLUMNS", None)

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
PIPED = 10_000  # columns of a pipe


def table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table that loses nothing in a narrow terminal: long texts go on in the next line.

    numbers: those of the columns that stand to the right
    """
    made = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in columns:
        made.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    return made


def room() -> int:
    """Columns of a table: those of the terminal; a pipe has many, unless COLUMNS says how many."""
    told = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console.width if told else PIPED


def show(what: RenderableType) -> None:
    """Print a table; in a pipe each row is one line, unless COLUMNS says how wide it may be."""
    if room() == console.width:
        console.print(what)
    else:
        Console(file=console.file, width=PIPED, highlight=False, quiet=console.quiet).print(what)


def say(sentence: str) -> None:
    """Print a long line: in a terminal whole words go on in the next one, a pipe gets one line."""
    console.print(sentence, soft_wrap=not console.is_terminal)


def quieted(arguments: Sequence[str]) -> list[str]:
    """The arguments without --quiet, which may stand anywhere and counts from now on."""
    console.quiet = "--quiet" in arguments
    return [argument for argument in arguments if argument != "--quiet"]
