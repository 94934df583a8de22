"""How far a run is: a bar on a terminal, a line a second elsewhere."""

import time
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, line: str) -> None: ...

    def begin(self, title: str, total: int) -> None:
        """A new phase, of so many events."""

    def advance(self, events: int) -> None: ...


def progress_on(console: Console) -> Progress:
    return Bar(console) if console.is_terminal else Lines(console)


class Bar:
    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Bars(*columns, console=console)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        self._bars.console.print(line, markup=False)

    def begin(self, title: str, total: int) -> None:
        self._phase = self._bars.add_task(title, total=total)

    def advance(self, events: int) -> None:
        self._bars.advance(self._phase, events)


class Lines:
    def __init__(self, console: Console, interval: float = 1.0) -> None:
        self._console = console
        self._interval = interval

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def begin(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._due = time.monotonic() + self._interval

    def advance(self, events: int) -> None:
        self._done += events
        now = time.monotonic()
        if now >= self._due or (events and self._done == self._total):
            self._due = now + self._interval
            self.say(f"{self._title}: {self._done:,} of {self._total:,} events")
