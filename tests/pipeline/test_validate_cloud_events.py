"""The quick check of a CloudEvent passes what marshmallow accepts, and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.core import timestamp
from aggregator.event import Event
from aggregator_stages import schemas, validate
from aggregator_stages.schemas import CloudEventSchema
from aggregator_stages.validate import Validate

_GOOD = "2026-01-31T12:00:00Z"
_TIMES = [
    *(_GOOD, "", "2026-01-31T12:00:00.123456Z", "2026-01-31t12:00:00z", "2026-01-31 12:00:00Z"),
    *("20260131T120000Z", "2026-W05-6T12Z", "2026-01-31T24:00:00Z", "2026-01-31T12:00:00,5Z"),
    *("2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00+01", f"{_GOOD[:-1]}.{'0' * 60}Z"),
]
_NAMES = ["subject", "datacontenttype", "dataschema", "ext", "other", "A", "a_b", ""]
_VALUES = [
    *("a", "b", "", "a\n", "a\u2028", "a\u00a0", "text/plain", "urn:a", "1.0"),
    *(0, 1, 2**31, True, False, 1.0, 0.0, 1.5, [], [1], {}, {"a": 1}),
]
_times, _names, _values = map(st.sampled_from, (_TIMES, _NAMES, _VALUES))
_schema = CloudEventSchema()


def _event(index: int, source: str, time: str, attributes: dict[str, Any]) -> Event:
    """As the decoder makes it."""
    spelled = json.dumps({"specversion": "1.0"} | attributes).encode()
    members = ("t", str(index), time, source)
    known = timestamp.try_parse(time)
    return Event(index, "0", 0, *members, attributes=spelled, known_timestamp_us=known)


def _is_accepted(event: Event) -> bool:
    members = {"type": event.topic, "id": event.event_id, "source": event.source}
    if event.timestamp:
        members["time"] = event.timestamp
    return not _schema.validate(members | msgspec.json.decode(event.attributes))


_stage = Validate()
"""One for all, since it knows what it has accepted before."""

_versions = st.just({}) | st.fixed_dictionaries(
    {"specversion": st.sampled_from(["1.0", "0.3", "a"])}
)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["s", "s\n"]), _times, st.dictionaries(_names, _values), _versions
        ),
        min_size=1,
        max_size=20,
    )
)
@example([("s", _GOOD, {"ext": value}, {}) for value in (1, 1.0, True, 1.5, 0, 0.0, False, [1])])
@example([("s", _GOOD, {"ext": value}, {}) for value in ("a", "a\n", "\u2028", "")])
@example([("s", _GOOD, {"subject": value}, {}) for value in ("a", "", "a\n", 1, "b")])
@example(
    [("s", _GOOD, {"subject": "a", "datacontenttype": value}, {}) for value in ("a/b", "b", 1)]
)
async def test_quick_check_agrees_with_marshmallow(
    given_: list[tuple[str, str, dict[str, Any], dict[str, Any]]],
) -> None:
    events = [
        _event(index, source, time, attributes | version)
        for index, (source, time, attributes, version) in enumerate(given_)
    ]
    going = await _stage.process(events)
    assert going == [event for event in events if event.outcome is None]
    for event in events:
        assert (event.outcome is None) == _is_accepted(event), event


async def test_no_validator_runs_on_attributes_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attributes(number: int) -> dict[str, Any]:
        recurring = {"datacontenttype": "application/json", "dataschema": "urn:a", "shard": 7}
        return recurring | {"subject": f"user {number}", "traceparent": f"00-{number}-01"}

    stage = Validate()
    await stage.process([_event(0, "s", _GOOD, attributes(0))])
    monkeypatch.setattr(validate, "_fault", None)
    monkeypatch.setattr(validate, "extension_faults", None)
    monkeypatch.setattr(schemas.OneLine, "__call__", None)
    events = [_event(number, "s", _GOOD, attributes(number)) for number in range(3)]
    events.append(_event(3, "s", "", attributes(3)))
    assert await stage.process(events) == events


async def test_little_is_remembered_whatever_is_sent() -> None:
    contract = validate.Contract(CloudEventSchema())
    for number in range(validate._MOST_KNOWN + 10):
        event = _event(number, "s", _GOOD, {"dataschema": f"urn:{number}", f"ext{number}": "a"})
        assert contract.first_fault(event) is None
    long = "urn:" + "a" * validate._LONGEST_KNOWN
    assert contract.first_fault(_event(0, "s", _GOOD, {"dataschema": long})) is None
    assert len(contract._known_attributes) <= validate._MOST_KNOWN
    assert len(contract._known_lines) <= validate._MOST_KNOWN
    assert ("dataschema", long) not in contract._known_attributes
    assert "subject" in contract._known_lines
