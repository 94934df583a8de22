"""The bodies that the measurement sends: valid, and no event twice unless that is the point."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.bench.body import (
    POOL,
    RECENT,
    Shape,
    all_again,
    array,
    blanks,
    cloudevents,
    fifth_again,
    lines,
    one,
    read_bodies,
    write_bodies,
)

EVENTS = 1000
SHAPES = (
    Shape(1, one),
    Shape(100, array),
    Shape(100, lines, "application/x-ndjson"),
    Shape(100, array, is_ordered=True),
)


def events(body: bytes) -> list[dict[str, Any]]:
    if body.startswith(b"["):
        return list(json.loads(body))
    return [json.loads(line) for line in body.splitlines()]


def sent(folder: Path, shape: Shape, count: int = EVENTS, start: int = 0) -> list[dict[str, Any]]:
    bodies = list(read_bodies(write_bodies(folder / "bodies", shape, count, start)))
    assert all(len(events(body)) == shape.size for body in bodies)
    return [event for body in bodies for event in events(body)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_event_is_whole_and_sent_once(tmp_path: Path, shape: Shape) -> None:
    found = sent(tmp_path, shape)
    assert len({(event["topic"], event["event_id"]) for event in found}) == EVENTS
    for event in found:
        assert set(event) == {"topic", "event_id", "timestamp", "source", "payload"}
        assert len(event["event_id"]) == 36
        assert 200 <= len(json.dumps(event, separators=(",", ":"))) <= 250


def test_everybody_is_sent_the_same_events(tmp_path: Path) -> None:
    assert sent(tmp_path, SHAPES[0]) == sent(tmp_path, SHAPES[1]) == sent(tmp_path, SHAPES[2])


def test_ordered_ids_are_in_order(tmp_path: Path) -> None:
    ids = [event["event_id"] for event in sent(tmp_path, SHAPES[3], 5000)]
    assert ids == sorted(ids)


def test_what_is_sent_again_was_sent_before_and_is_counted(tmp_path: Path) -> None:
    shape = Shape(10, choice=fifth_again)
    seen: list[dict[str, Any]] = []
    for number, event in enumerate(sent(tmp_path, shape)):
        keys = [one["event_id"] for one in seen]
        if event["event_id"] in keys:
            assert event in seen
        else:
            seen.append(event)
        assert len(seen) == shape.unique(number + 1)


def test_many_events_come_again_and_all_of_them_soon() -> None:
    start, count = 1_000_000, 40_000
    first, again = {}, []
    for place, number in enumerate(fifth_again(range(start, start + count))):
        if number in first:
            again.append(number)
            assert place - first[number] <= RECENT + 1
        else:
            first[number] = place
    assert len(again) == count // 5
    assert len(set(again)) > count // 8


def test_all_that_is_sent_again_comes_as_often_but_not_in_order() -> None:
    numbers = list(all_again(range(500, 500 + 2 * POOL)))
    assert sorted(numbers) == sorted(2 * list(range(500, 500 + POOL)))
    assert numbers[:POOL] != numbers[POOL:]
    assert len(list(all_again(range(POOL + 10)))) == POOL + 10


def test_blanks_are_all_that_differs() -> None:
    rows = list(Shape(3).events(0, 3))
    assert json.loads(blanks(rows)) == json.loads(array(rows))
    assert len(blanks(rows)) > len(array(rows))


def test_cloudevents_are_the_same_events() -> None:
    rows = list(Shape(3).events(0, 3))
    for event, plain in zip(json.loads(cloudevents(rows)), json.loads(array(rows)), strict=True):
        assert event["specversion"] == "1.0"
        for name, other in {"type": "topic", "id": "event_id", "data": "payload"}.items():
            assert event[name] == plain[other]


def test_later_bodies_go_on_where_earlier_ones_ended(tmp_path: Path) -> None:
    first = sent(tmp_path, SHAPES[1], 300)
    assert first + sent(tmp_path, SHAPES[1], 700, start=300) == sent(tmp_path, SHAPES[1], 1000)
