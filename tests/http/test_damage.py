"""A flipped bit on the disk is said, and hides nothing around it."""

import json
from contextlib import closing
from sqlite3 import connect
from typing import Any
from urllib.request import Request, urlopen

import pytest

from events import event
from running import LIMIT, Service
from tampering import spoil


def store_with_damage(service: Service) -> None:
    """Three events, of which the second has another payload and the third a broken source."""
    service.start()
    service.publish([event(str(number)) for number in range(3)])
    assert service.stop() == 0
    path = service.folder / "data" / "aggregator.db"
    spoil(path, 2, b'"ada"', b'"bda"')
    spoil(path, 3, b'"tests"', b'"test\xf3"')
    service.start()


def check_told(events: list[dict[str, Any]]) -> None:
    one, two, three = events
    assert one["payload"] == {"user": "ada"}
    assert "damaged" not in one
    for damaged in (two, three):
        assert damaged["payload"] is None
        assert "does not match" in damaged["damaged"]


def test_damaged_event_is_told_and_its_neighbours_are_read(service: Service) -> None:
    store_with_damage(service)
    check_told(service.stored())
    check_told([service.call(f"/events/logins/{number}")[1] for number in range(3)])
    again = [event(str(number), payload={"user": "bob"}) for number in range(4)]
    status, answer = service.publish(again)
    statuses = [result["status"] for result in answer["results"]]
    assert (status, statuses) == (200, ["conflict", "conflict", "conflict", "stored"])
    assert "event 2 is damaged" in service.said()
    assert service.call("/readyz")[0] == 200


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"logins"', b'"loginr"'),
        (b'"1"', b'"3"'),
        (b'"2026-', b'"2027-'),
        (b'"tests"', b'"texts"'),
        (b"[1", b"[3"),  # when it was received
    ],
)
def test_no_member_of_an_event_changes_in_silence(
    service: Service, before: bytes, after: bytes
) -> None:
    service.start()
    service.publish([event(str(number)) for number in range(3)])
    assert service.stop() == 0
    spoil(service.folder / "data" / "aggregator.db", 2, before, after)
    service.start()
    one, two, three = service.stored()
    assert not {"damaged"} & (one.keys() | three.keys())
    assert (two["payload"], "does not match" in two["damaged"]) == (None, True)


def test_damaged_entry_in_quarantine_is_told_and_not_released(service: Service) -> None:
    service.start("--on-invalid", "quarantine")
    service.publish([event("1", payload="bad")])
    assert service.stop() == 0
    with closing(connect(service.folder / "data" / "aggregator.db")) as db, db:
        db.execute("""UPDATE quarantine SET body = replace(body, '"bad"', '{"a":1}')""")
    service.start("--on-invalid", "quarantine")
    assert "does not match" in service.call("/quarantine/1")[1]["damaged"]
    status, answer = service.call("/quarantine/1/release", b"")
    assert (status, answer["results"][0]["status"]) == (422, "invalid")
    assert "does not match" in answer["results"][0]["errors"][0]["detail"]
    assert service.stored() == []
    assert service.call("/quarantine/1")[0] == 200


def test_damaged_event_breaks_neither_an_export_nor_a_stream(service: Service) -> None:
    store_with_damage(service)
    asked = Request(f"{service.url}/events", headers={"Accept": "application/x-ndjson"})
    with urlopen(asked, timeout=LIMIT) as export:
        check_told([json.loads(line) for line in export])
    with urlopen(f"{service.url}/events/stream?after=0", timeout=LIMIT) as stream:
        check_told(messages(stream, 3))
        service.publish(event("new"))
        (new,) = messages(stream, 1)
    assert (new["event_id"], new["payload"]) == ("new", {"user": "ada"})


def messages(stream: Any, count: int) -> list[dict[str, Any]]:
    """The next ones that carry an event."""
    lines = (line for line in stream if line.startswith(b"data: "))
    return [json.loads(next(lines).removeprefix(b"data: ")) for _ in range(count)]
