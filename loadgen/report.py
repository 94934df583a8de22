"""What a run prints: its progress, and at its end a page for people or JSON for programs."""

import time
from collections.abc import Iterator
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from aggregator.client import Stats
from loadgen.run import Progress, Run


def progress_on(console: Console) -> Progress:
    """A bar on a terminal, a line a second elsewhere."""
    return Bar(console) if console.is_terminal else Lines(console)


class Bar:
    """A progress bar."""

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
    """A line of progress now and then."""

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


COUNTERS = ("received_total", "unique_processed", "duplicate_dropped", "queue_size_current")
STATISTICS = (*COUNTERS, "processed_topics", "uptime_seconds")


def print_page(run: Run, console: Console) -> None:
    """The report for people, the verdict last."""
    for line in (*_summary(run), *_statistics(run)):
        console.print(line, markup=False, soft_wrap=True)
    style = "bold green" if run.verdict.good else "bold red"
    console.print(str(run.verdict), style=style, markup=False, soft_wrap=True)


def run_as_json(run: Run) -> str:
    """The report for programs."""
    return msgspec.json.encode(_report(run)).decode()


def failure_as_json(error: Exception) -> str:
    """The same for a run that never began."""
    report = {"ok": False, "verdict": f"FAILED: {error}", "reasons": [str(error)]}
    return msgspec.json.encode(report).decode()


def rates(run: Run) -> dict[str, float]:
    """Events and requests a second."""
    seconds = run.answers.seconds or float("inf")
    return {
        "events_per_second": round(run.answers.events / seconds, 1),
        "requests_per_second": round(run.answers.requests.total() / seconds, 1),
    }


def _chosen(stats: Stats | None) -> dict[str, Any] | None:
    return {name: getattr(stats, name) for name in STATISTICS} if stats else None


def _summary(run: Run) -> Iterator[str]:
    answers, rate = run.answers, rates(run)
    requests = ", ".join(f"{what} ({count:,})" for what, count in sorted(answers.requests.items()))
    latency = ", ".join(f"{name} {ms:,.1f}" for name, ms in answers.latency.milliseconds().items())
    yield ""
    yield f"Answered  {answers.events:,} events in {answers.seconds:.1f} s"
    yield (
        f"Rate      {rate['events_per_second']:,.0f} events/s, "
        f"{rate['requests_per_second']:,.0f} requests/s"
    )
    yield f"Latency   {latency + ' ms' if latency else 'none measured'}"
    yield f"Answers   {requests or 'none'}"
    yield f"Retries   {answers.retries:,} ({answers.resent:,} events sent again)"
    yield ""


def _statistics(run: Run) -> Iterator[str]:
    if run.before is None or run.after is None:
        return
    yield f"{'Statistics':<20}{'before':>12}{'after':>12}{'change':>12}"
    for name in COUNTERS:
        before, after = getattr(run.before, name), getattr(run.after, name)
        yield f"{name:<20}{before:>12,}{after:>12,}{after - before:>+12,}"
    yield ""


def _report(run: Run) -> dict[str, Any]:
    plan, answers, verdict = run.plan, run.answers, run.verdict
    return {
        "ok": verdict.good,
        "verdict": str(verdict),
        "reasons": verdict.reasons,
        "plan": {
            "seed": plan.seed,
            "events": plan.events,
            "unique": len(plan.unique),
            "duplicates": plan.duplicates,
            "topics": plan.topics,
            "batches": len(plan.batches),
        },
        "seconds": round(answers.seconds, 3),
        **rates(run),
        "latency_ms": answers.latency.milliseconds(),
        "requests": answers.requests,
        "statuses": answers.statuses,
        "retries": answers.retries,
        "events_sent_again": answers.resent,
        "before": _chosen(run.before),
        "after": _chosen(run.after),
    }
