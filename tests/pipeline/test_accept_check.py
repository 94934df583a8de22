"""Events looked at together are accepted when marshmallow accepts each of them, and only then."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.event import Event
from aggregator.outcome import Invalid
from aggregator_stages.schemas import EventSchema
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


_events = st.tuples(_names, _names, _times, _names) | st.just(("t", "1", _good, "s"))
_stage = Validate()
"""One for all, since it knows what it has accepted before."""


@settings(deadline=None, max_examples=500)
@given(st.lists(_events, min_size=1, max_size=20))
@example([("t", "1", _good, "s")] * 19 + [("t", "\u2028", _good, "s")])
@example([("t", "1", _good, "s"), ("t\n", "1", _good, "s"), ("t", "1", _good[:-1], "s")])
async def test_events_are_accepted_together_as_one_by_one(given_: list[Members]) -> None:
    events = [Event(index, "0", 0, *members) for index, members in enumerate(given_)]
    going = await _stage.process(events)
    assert going == [event for event in events if event.outcome is None]
    for event, members in zip(events, given_, strict=True):
        assert (event.outcome is None) == _is_accepted(members), members
        assert event.outcome is None or isinstance(event.outcome, Invalid)
