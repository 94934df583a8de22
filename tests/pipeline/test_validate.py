"""The quick check of an event passes what marshmallow accepts, and nothing else."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.core import timestamp
from aggregator.event import Event
from aggregator.outcome import Invalid
from aggregator_stages.schemas import EventSchema, OneLine
from aggregator_stages.validate import Validate

_character = st.sampled_from("aZ 0é€😀\u00a0\u00ad\u200b\ue000\n\r\t\0\x1f\x7f\x85\x9f\u2028\u2029")
_names = st.sampled_from(["a", "x" * 255, "x" * 256, "", "x" * 1024, "x" * 1025]) | st.text(
    _character, max_size=3
)
_good = "2026-01-31T12:00:00Z"
_times = st.sampled_from(
    [_good, "2026-01-31T12:00:00.5Z", "2026-01-31 12:00+01:00", "2026-02-30T12:00:00Z", ""]
) | st.text("0123456789-+:.TZ", max_size=27)
_schema = EventSchema()

Members = tuple[str, str, str, str]


def _is_accepted(members: Members) -> bool:
    names = ("topic", "event_id", "timestamp", "source")
    return not _schema.validate({**dict(zip(names, members, strict=True)), "payload": {}})


def _event(index: int, members: Members) -> Event:
    """As the decoder makes it."""
    return Event(index, "0", 0, *members, known_timestamp_us=timestamp.try_parse(members[2]))


_events = st.tuples(_names, _names, _times, _names) | st.just(("t", "1", _good, "s"))
_stage = Validate()
"""One for all, since it knows what it has accepted before."""


@settings(deadline=None, max_examples=500)
@given(st.lists(_events, min_size=1, max_size=20))
@example([("t", "1", _good, "s")] * 19 + [("t", "\u2028", _good, "s")])
@example([("t", "1", _good, "s"), ("t\n", "1", _good, "s"), ("t", "1", _good[:-1], "s")])
async def test_quick_check_agrees_with_marshmallow(given_: list[Members]) -> None:
    events = [_event(index, members) for index, members in enumerate(given_)]
    going = await _stage.process(events)
    assert going == [event for event in events if event.outcome is None]
    for event, members in zip(events, given_, strict=True):
        assert (event.outcome is None) == _is_accepted(members), members
        assert event.outcome is None or isinstance(event.outcome, Invalid)


async def test_no_validator_runs_where_topic_and_source_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Validate()
    await stage.process([_event(0, ("t", "1", _good, "s"))])
    monkeypatch.setattr(OneLine, "__call__", None)
    events = [_event(index, ("t", str(index), _good, "s")) for index in range(3)]
    assert await stage.process(events) == events
