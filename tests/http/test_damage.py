"""A flipped bit on the disk is said, and hides nothing around it."""

import sqlite3

from events import event
from running import Service


def test_damaged_event_is_told_and_its_neighbours_are_read(service: Service) -> None:
    service.start()
    service.publish([event(str(number)) for number in range(3)])
    assert service.stop() == 0
    with sqlite3.connect(service.folder / "data" / "aggregator.db") as db:
        db.execute('UPDATE events SET payload = CAST(\'{"user":"bda"}\' AS BLOB) WHERE seq = 2')
        db.execute("UPDATE events SET source = CAST(x'74ff' AS TEXT) WHERE seq = 3")
    db.close()
    service.start()
    one, two, three = service.stored()
    assert one["payload"] == {"user": "ada"}
    assert "damaged" not in one
    for damaged in (two, three):
        assert damaged["payload"] is None
        assert "does not match" in damaged["damaged"]
    assert service.call("/events/logins/1")[1]["damaged"]
    again = [event(str(number), payload={"user": "bob"}) for number in range(4)]
    status, answer = service.publish(again)
    statuses = [result["status"] for result in answer["results"]]
    assert (status, statuses) == (200, ["conflict", "conflict", "conflict", "stored"])
    assert "event 2 is damaged" in service.said()
    assert service.call("/readyz")[0] == 200
