"""What a launch shows while it runs: one live display on a terminal, one line an event in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from harness.cli.times import describe_progress, duration, when
from harness.store import COMMON, DONE

if TYPE_CHECKING:
    from harness.engine.driver import Event, Running

LEAST_S = 60.0  # between two expected ends that are told
NARROW = 100  # columns, up to which bars are short
SHOWN = 2  # metrics of a finished cell, on its line
NEWS = ("retry", "waiting", "lost", "back")  # events after which a job is still to be done


class Display(AbstractContextManager):
    """Overall progress and a row a running job. `listen` and `tick` fit engine.driver.Driver."""

    def __init__(self, console: Console, total: int, label: str):
        self.console, self.total, self.ended = console, total, 0
        self.expected: float | None = None  # when all should be over, as it was told
        self.bars = Progress(
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            BarColumn(bar_width=24 if console.width > NARROW else 8),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),  # words go on in a next line,
            TimeElapsedColumn(table_column=Column(no_wrap=True)),  # numbers are not broken
            TextColumn("[dim]{task.fields[note]}", table_column=Column(overflow="fold")),
            console=console,
        )
        self.overall = self.bars.add_task(f"[bold]{escape(label)}", total=total, note="jobs")
        self.tasks: dict[str, Any] = {}
        self.live = Live(self.bars, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.live.stop()

    def listen(self, event: Event) -> None:
        if event.name not in NEWS:
            self.ended += 1
            self.bars.update(self.overall, completed=self.ended)
        self.console.print(self._line(event), highlight=False, soft_wrap=True)

    def _line(self, event: Event) -> str:
        count = f"[dim]{self.ended}/{self.total}[/dim]"
        title, record = escape(event.job.title) if event.job else "", event.record
        if event.name == DONE and record is not None:
            from harness.metrics import headlines
            from harness.metrics.shown import told

            common = record.protocols.get(COMMON, {}).get("metrics", {})  # as in the tables
            values = {name: (common or record.metrics).get(name) for name in headlines()[:SHOWN]}
            shown = [told(name, value) for name, value in values.items() if value is not None]
            shown.append(f"{record.timings['total_s']:.1f} s")
            return f"{count} [green]done[/green] {title} [dim]{', '.join(shown)}[/dim]"
        if event.job is None:
            return f"{count} [yellow]{event.name}[/yellow] {escape(event.reason)}"
        colour = "yellow" if event.name in NEWS else "red"
        word = event.name if record is None else record.status
        return f"{count} [{colour}]{word}[/{colour}] {title}: {escape(event.reason)}"

    def expect(self, seconds: float) -> None:
        """Say when all should be over: on a terminal all the time, in a log when it has moved by
        a quarter of what is left, and a minute at least.
        """
        if self.console.is_terminal:
            self.bars.update(self.overall, note=f"jobs, about {duration(seconds)} left")
            return
        ends = time.time() + seconds
        if self.expected is None or abs(ends - self.expected) > max(LEAST_S, seconds / 4):
            self.expected = ends
            self.console.print(f"expected end {when(ends)}, in about {duration(seconds)}")

    def tick(self, running: Mapping[str, Running]) -> None:
        for key in set(self.tasks) - {k for k, r in running.items() if r.progress}:
            self.bars.remove_task(self.tasks.pop(key))
        for key, r in running.items():
            if not r.progress:
                continue
            if key not in self.tasks:
                self.tasks[key] = self.bars.add_task(escape(r.job.title), note="")
            p = r.progress
            self.bars.update(
                self.tasks[key], completed=p["step"], total=p["total"], note=describe_progress(p)
            )
