"""The run as a person watches it: a line per stage, with a bar while it works."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.events import Event

# Small steps that are shown only if they fail, as part of the stage that waits for them.
_PART_OF = {"probe": "query"}
_MARKS = {
    "pending": "[dim]·[/]",
    "running": "[yellow]▸[/]",
    "succeeded": "[green]✓[/]",
    "cached": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "skipped": "[dim]–[/]",
}
_BAR = "━"
# The same where the terminal's encoding has none of them, as Latin-1 and cp1252.
_PLAIN = str.maketrans("·▸✓✗–━", ".>+x-=")


@dataclass
class Stage:
    """All tasks of one component: a single one, or one per shard."""

    name: str
    expected: int = 1
    running: int = 0
    ended: int = 0
    cached: int = 0
    failed: bool = False
    skipped: bool = False
    started: float = 0.0
    seconds: float = 0.0
    note: str = ""
    done: int = 0
    total: int = 0

    @property
    def status(self) -> str:
        """pending, running, succeeded, cached, failed or skipped."""
        if self.failed:
            return "failed"
        if self.skipped:
            return "skipped"
        if self.ended >= self.expected:
            return "cached" if self.cached == self.ended else "succeeded"
        return "running" if self.running or self.ended else "pending"


@dataclass
class Board:
    """The state of every stage, kept up to date by events."""

    stages: dict[str, Stage]
    errors: list[str] = field(default_factory=list)
    culprit: str = ""  # the stage that failed first, and why: those that were ended with it also say something
    reason: str = ""

    def apply(self, event: Event) -> Stage | None:
        """Takes in one event; returns the stage that it ended, if it ended one."""
        if event.kind == "error":
            self.errors.append(event.text)
            return None
        if event.kind == "progress":
            self._progress(event)
            return None
        failed = event.kind == "failed"
        stage = self.stages.get(_PART_OF.get(event.task, event.task) if failed else event.task)
        if stage is None:
            return None
        now = time.monotonic()
        if event.kind == "started":
            stage.running += 1
            stage.started = stage.started or now
            return None
        if failed and not self.culprit:
            self.culprit, self.reason = stage.name, self.errors[-1] if self.errors else ""
        stage.running -= event.kind != "cached"
        stage.ended += 1
        stage.cached += event.kind == "cached"
        stage.failed |= failed
        stage.seconds = now - (stage.started or now)
        return stage if stage.status != "running" else None

    def close(self, failed: bool) -> None:
        """The run is over: what was still running failed, what never started was skipped."""
        for stage in self.stages.values():
            if stage.status == "running":
                stage.failed, stage.seconds = True, time.monotonic() - stage.started
            elif stage.status == "pending" and not failed:
                stage.skipped = True

    def _progress(self, event: Event) -> None:
        running = [stage for stage in self.stages.values() if stage.running]
        if running:  # lines of parallel tasks do not say whose they are: the earliest stage is the one waited for
            running[0].done, running[0].total, running[0].note = event.done, event.total, event.text

    def tasks(self) -> list[dict]:
        """The stages for summary.json."""
        return [
            {"name": stage.name, "status": stage.status, "seconds": round(stage.seconds, 2), "count": stage.ended}
            for stage in self.stages.values()
        ]


class Display:
    """Draws a Board: live on a terminal, line by line elsewhere. A context manager."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._console = board, console
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=False)
        self._printed = time.monotonic()

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, event: Event, ended: Stage | None) -> None:
        """Draws what `event` changed; on a terminal the live table does that by itself."""
        if self._console.is_terminal:
            return
        if ended:
            self._console.print(f"{ended.name:<12}{ended.status:<11}{ended.seconds:6.1f} s", highlight=False)
        elif event.kind == "progress" and time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            self._console.print(f"  {event.done}/{event.total} {event.text}", highlight=False, markup=False)

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for stage in self._board.stages.values():
            running = stage.status == "running"
            seconds = time.monotonic() - stage.started if running and stage.started else stage.seconds
            clock = f"{seconds:.1f} s" if stage.status not in ("pending", "skipped", "cached") else ""
            table.add_row(*map(self._drawn, (_MARKS[stage.status], stage.name, clock, _detail(stage))))
        return table

    def _drawn(self, text: str) -> str:
        return text if self._console.encoding.lower().startswith("utf") else text.translate(_PLAIN)


def _detail(stage: Stage) -> str:
    if stage.status in ("cached", "skipped"):
        return f"[dim]{stage.status}[/]"
    if stage.status != "running":
        return ""
    parts = [f"{stage.ended}/{stage.expected} shards"] if stage.expected > 1 else []
    if stage.total:
        filled = round(20 * min(stage.done / stage.total, 1))
        bar = f"[yellow]{_BAR * filled}[/][dim]{_BAR * (20 - filled)}[/]"
        parts.append(f"{bar} {stage.done}/{stage.total} {escape(stage.note)}")
    return "  ".join(parts)
