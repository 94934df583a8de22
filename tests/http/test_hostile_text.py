"""Text made to be slow to read is read at once: what would go back and forth in it never ended."""

from collections.abc import Callable

import pytest
import wire
from bodies import PROBLEM

from aggregator.api.publish import Preferences
from aggregator.api.request import strict_json
from aggregator.api.stored_event import uri_reference
from aggregator.core import json_pointer, timestamp
from aggregator_stages.schemas import CloudEventSchema
from conftest import Client

_MANY = 100_000
_PARTS = ("a", " ", '"', "\\", '\\"', '"a', 'a="', ";", "; ", ",", "/", "a/", "a:", ":", "@", "//",
          "%", "%4", "~", "[", "{", "0", "2026-", "=", "q=0.", "é")  # fmt: skip
_STARTS = ("", '"', "a=", "a/b;q=", "//", "a://", "2026-01-31T12:00:00.", "[", "/")


def _checked(text: str) -> None:
    CloudEventSchema().validate({"dataschema": text, "datacontenttype": text, "time": text})


def _parsed(text: str) -> None:
    timestamp.try_parse(text)
    timestamp.is_rfc_3339(text)


def _pointed(text: str) -> None:
    assert json_pointer.parse(json_pointer.to(text)) in ((text,), ())


READERS: dict[str, Callable[[str], object]] = {
    "preferences": lambda text: Preferences.of([text]),
    "URI references": uri_reference,
    "times": _parsed,
    "pointers": _pointed,
    "JSON": lambda text: strict_json.faults(text.encode()),
    "attributes": _checked,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_time_to_read_grows_with_the_length_only(read: Callable[[str], object]) -> None:
    for start in _STARTS:
        for part in _PARTS:
            read(start + part * (_MANY // len(part)))


@pytest.mark.parametrize(
    "said", ['return=minimal, a="', 'return=minimal, a="b\\', '"\\", return=minimal']
)
def test_quote_that_never_closes_hides_only_what_follows_it(said: str) -> None:
    assert Preferences.of([said]).is_minimal is said.startswith("return")


@pytest.mark.parametrize("parameter", [';"' * 4000, "; charset*0=" + "a;" * 3500])
async def test_content_type_without_end_is_refused(client: Client, parameter: str) -> None:
    headers = {"Content-Type": f"application/json{parameter}"}
    async with client.post("/publish", data=b"{}", headers=headers) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Accept: a/\xff", 406),
        (b"Accept: \xff", 200),
        (b"If-None-Match: \xff", 200),
        (b"Last-Event-ID: \xff", 200),
    ],
)
async def test_header_that_is_not_utf_8_is_answered(
    client: Client, header: bytes, status: int
) -> None:
    head = b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header
    answer = await wire.exchange(str(client.host), int(client.port or 0), [head + b"\r\n\r\n"])
    assert answer.status == status
    assert answer.content_type.startswith("application/")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Origin: \xff", 403),
        (b"Prefer: \xff", 400),
        (b"Content-Type: \xff", 415),
        (b"ce-id: \xff", 422),
        (b"Content-Encoding: \xff", 415),
    ],
)
async def test_header_of_a_publish_that_is_not_utf_8_is_answered(
    client: Client, header: bytes, status: int
) -> None:
    head = wire.PUBLISH + header + b"\r\nContent-Length: 1\r\n\r\n{"
    answer = await wire.exchange(str(client.host), int(client.port or 0), [head])
    assert (answer.status, answer.content_type.split(";")[0]) == (status, PROBLEM)
