"""Conflicts with large stored events cost neither memory nor the others their turn."""

import asyncio
import json
import time

from events import event
from running import Service

MEBI = 2**20


def _peak(service: Service) -> int:
    with open(f"/proc/{service.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if "VmHWM" in line) // 1024


async def _publish(service: Service, *events: object) -> tuple[int, dict[str, int]]:
    body = json.dumps(events).encode()
    return await asyncio.to_thread(service.call, "/publish", body)


async def _longest_wait(service: Service, task: "asyncio.Task[object]") -> float:
    longest = 0.0
    while not task.done():
        began = time.monotonic()
        await asyncio.to_thread(service.call, "/healthz")
        longest = max(longest, time.monotonic() - began)
    return longest


async def test_many_conflicts_with_one_large_event(service: Service) -> None:
    service.start()
    await _publish(service, event("large", payload={"filler": "x" * 1_000_000}))
    before = _peak(service)
    conflicts = [event("large", payload={"n": number}) for number in range(1500)]
    status, answer = await _publish(service, *conflicts)
    assert (status, answer["conflicts"]) == (200, 1500)
    assert _peak(service) - before < 64  # measured: 11 MiB; each a copy: 1,450 MiB


async def test_others_publish_while_many_large_events_are_compared(service: Service) -> None:
    service.start()
    names = [str(number) for number in range(60)]
    for name in names:
        await _publish(service, event(name, payload={"filler": "x" * 1_000_000}))
    before = _peak(service)
    conflicts = [event(name, payload={"x": 1}) for name in names]
    task = asyncio.create_task(_publish(service, *conflicts))
    others = 0
    while not task.done():
        others += 1
        assert (await _publish(service, event(f"other {others}")))[1]["stored"] == 1
    assert (await task)[1]["conflicts"] == len(names)
    assert others > 3  # measured: 29 to 56
    assert _peak(service) - before < 64  # measured: 15 MiB

    more = [event(name, payload={"x": 2}) for name in (*names, *(f"{n}" for n in range(60, 70)))]
    for name in more[60:]:
        await _publish(service, {**name, "payload": {"filler": "x" * 1_000_000}})
    stored = service.call("/stats")[1]["unique_processed"]
    status, problem = await _publish(service, *more, event("new"))
    assert (status, problem["detail"]) == (
        503,
        "The request compares too much: send fewer events at a time.",
    )
    assert service.call("/stats")[1]["unique_processed"] == stored


async def test_many_conflicts_with_an_event_of_many_numbers(service: Service) -> None:
    service.start()
    await _publish(service, event("many", payload={"numbers": [n / 8 for n in range(9000)]}))
    conflicts = [event("many", payload={"n": number}) for number in range(10_000)]
    task = asyncio.create_task(_publish(service, *conflicts))
    assert await _longest_wait(service, task) < 2
    status, answer = await task
    assert (status, answer["conflicts"]) == (200, 10_000)


async def test_many_conflicts_with_an_event_of_many_members(service: Service) -> None:
    service.start()
    await _publish(service, event("1", payload={f"member {n}": n for n in range(40_000)}))
    conflicts = [event("1", payload={"n": number}) for number in range(10_000)]
    status, answer = await _publish(service, *conflicts)
    assert (status, answer["conflicts"]) == (200, 10_000)


async def test_differences_of_many_conflicts_are_bounded(service: Service) -> None:
    service.start()
    names = [f"{number} {'x' * 90}" for number in range(20)]
    await _publish(service, event("1", payload=dict.fromkeys(names, 0)))
    conflicts = [event("1", payload={"n": number}) for number in range(5_000)]
    _, answer = await _publish(service, *conflicts)
    told = [len(result["differences"]) for result in answer["results"]]  # type: ignore[attr-defined]
    assert (told[0], told[-1]) == (20, 1)
    assert sum(told) < 10_020


async def test_many_spellings_of_a_large_event_with_booleans(service: Service) -> None:
    service.start()
    blanks = " " * 500_000
    large = '{"a":true,"n":0,' + blanks + '"b":1}'
    spellings = [f'{{"a":true,"n":0e{number},"b":1}}' for number in range(5000)]
    written = json.dumps(event("1", payload=None))

    async def publish(*payloads: str) -> tuple[int, dict[str, int]]:
        body = "[" + ",".join(written.replace("null", payload) for payload in payloads) + "]"
        return await asyncio.to_thread(service.call, "/publish", body.encode())

    assert (await publish(large))[1]["stored"] == 1
    status, answer = await publish(*spellings)
    assert (status, answer["duplicates"]) == (200, 5000)
