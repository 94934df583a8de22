"""Publishes events to a JetStream, a message each, and waits for every acknowledgement."""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import nats

UNDER_WAY = 1000


def messages(path: str) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Each event with its id, from a file of bodies."""
    with open(path, "rb") as file:
        while length := file.readline():
            body = file.read(int(length))
            event = json.loads(body)
            yield body, {"Nats-Msg-Id": f"{event['topic']}/{event['event_id']}"}


async def publish(port: int, coming: list[tuple[bytes, dict[str, str]]], seconds: float) -> Any:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream(publish_async_max_pending=UNDER_WAY)
    await stream.add_stream(name="events", subjects=["events"])
    answers = []
    gc.disable()
    began = time.perf_counter()
    for body, headers in coming:
        answers.append(await stream.publish_async("events", body, headers=headers))
        if time.perf_counter() - began > seconds:
            break
    acknowledged = await asyncio.gather(*answers)
    took = time.perf_counter() - began
    assert not any(answer.duplicate for answer in acknowledged)
    info = await stream.stream_info("events")
    await client.close()
    return {"events": len(acknowledged), "seconds": took, "stored": info.state.messages}


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    coming = list(messages(plan["bodies"]))
    print(json.dumps(asyncio.run(publish(plan["port"], coming, plan["seconds"]))))  # noqa: T201
