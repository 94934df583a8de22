"""Five minutes of more events than a slow disk takes, drawn: `make overload`.

The disk is fast, then slow for most of the time, then fast again; publishers go on all the while.
"""

import asyncio
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from curve import Line, Panel, draw
from flood import Flood, memory

from running import Service
from tracing import syncs

FAST, SLOW, AGAIN = 40.0, 200.0, 60.0  # seconds
FSYNC = "delay_enter=2000000"  # microseconds
PUBLISHERS, EVENTS, EVERY, FILLER = 600, 100, 20.0, 100
QUEUE_EVENTS = 50_000  # the default
SAMPLE = 2.0  # seconds
SMOOTHED = 6  # samples


class Sample(NamedTuple):
    """What was seen at one moment."""

    second: float
    mebibytes: int
    queued: int
    stored: int
    refused: int


async def main(drawing: Path) -> None:
    """Run it, say what was seen in one line, and draw it."""
    with (
        tempfile.TemporaryDirectory(prefix="aggregator-overload-") as folder,
        Service(Path(folder)) as service,
    ):
        service.start()
        samples, flood = await run(service)
        peak = memory(service, "VmHWM")
        assert service.stop() == 0
        flood.check_kept(Path(folder) / "data" / "aggregator.db")
    drawing.write_text(as_svg(samples))
    queued = max(sample.queued for sample in samples)
    print(
        f"{len(flood.seqs):,} events answered and stored, each once; answers: "
        f"{flood.answers[200]:,} of 200, {flood.answers[503]:,} of 503, {flood.answers[0]:,} lost; "
        f"at most {queued:,} events queued and {peak} MiB of memory: {drawing}"
    )


async def run(service: Service) -> tuple[list[Sample], Flood]:
    """The samples of all three phases."""
    samples: list[Sample] = []
    began = time.monotonic()
    async with Flood(service, PUBLISHERS, EVENTS, FILLER, EVERY) as flood:
        for until, disk in (
            (FAST, nullcontext()),
            (FAST + SLOW, syncs(service, FSYNC)),
            (FAST + SLOW + AGAIN, nullcontext()),
        ):
            with disk:
                while (second := time.monotonic() - began) < until:
                    samples.append(await look(service, flood, second))
                    await asyncio.sleep(SAMPLE)
    return samples, flood


async def look(service: Service, flood: Flood, second: float) -> Sample:
    """What is seen at this moment."""
    _, stats = await asyncio.to_thread(service.call, "/stats")
    answered = flood.answers
    queued = stats["queue_size_current"]
    return Sample(second, memory(service), queued, answered[200], answered[503])


def as_svg(samples: list[Sample]) -> str:
    """Memory, queue and answers over time."""
    times = [sample.second for sample in samples]
    queued = Line("queued", [s.queued for s in samples])
    panels = [
        Panel("Memory of the process, in MiB", [Line("resident", [s.mebibytes for s in samples])]),
        Panel("Events accepted and not yet committed", [queued], QUEUE_EVENTS, "queue_events"),
        Panel(
            f"Answers to publishers, a second (of {EVENTS} events each)",
            [
                Line("200, stored", rates(times, [s.stored for s in samples])),
                Line("503, try again", rates(times, [s.refused for s in samples])),
            ],
        ),
    ]
    title = f"{PUBLISHERS * EVENTS / EVERY:,.0f} events a second, and a disk that cannot keep up"
    return draw(title, times, panels, (FAST, FAST + SLOW, "each fsync takes 2 s longer"))


def rates(times: list[float], counts: list[int]) -> list[float]:
    """How fast each count grew, over the last few samples."""
    found = [0.0]
    for here in range(1, len(times)):
        before = max(0, here - SMOOTHED)
        found.append((counts[here] - counts[before]) / (times[here] - times[before]))
    return found


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
