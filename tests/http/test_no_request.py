"""What is no HTTP request that can be read is answered with a problem as well."""

import logging

import pytest
from bodies import JSON, PROBLEM, good, publish, stored_ids
from clouds import HEADERS
from wire import AS_JSON, PUBLISH, exchange, with_length

from aggregator.api import refusals
from aggregator.core.fault_log import Seldom
from conftest import Client

_LIMIT = 8190


def _attribute(size: int) -> bytes:
    """A CloudEvent whose subject, a header, has that many bytes."""
    lines = b"".join(f"{name}: {text}\r\n".encode() for name, text in HEADERS.items())
    return PUBLISH + lines + b"ce-subject: " + b"x" * size + b"\r\n" + with_length(0)


NO_REQUESTS = {
    "long header": (_attribute(_LIMIT + 1), "8,190 bytes"),
    "much too long header": (_attribute(100_000), "'xxx"),
    "long first line": (b"GET /" + b"y" * 9_000 + b" HTTP/1.1\r\n\r\n", "'/yyy"),
    "too many headers": (PUBLISH + b"a: b\r\n" * 200 + b"\r\n", "Too many"),
    "no method": (b"hello\r\n\r\n", "hello"),
    "control character": (PUBLISH + b"a: \x01\r\n\r\n", "header"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "no HTTP request"),
}


@pytest.mark.parametrize(("sent", "words"), NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_what_is_no_request_is_answered_with_a_problem(
    client: Client, sent: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await exchange(client.host, client.port, [sent])
    assert (answer.status, answer.content_type) == (400, PROBLEM)
    assert answer.told["title"] == "Bad Request"
    assert words in answer.told["detail"]
    assert len(answer.body) < 1_000
    assert "\\n" not in answer.body.decode()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert (await publish(client, good("next")))[0] == 200
    assert await stored_ids(client) == ["next"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /events HTTP/1.1\r\nAuthorization: Bearer agg_not-to-be-told\n\r\n\r\n",
        b"GET /events HTTP/1.1\r\nAuthorization: Basic not-to-be-told\n\r\n\r\n",
        PUBLISH + b"X: agg_not_to-be-told\n\r\n\r\n",
    ],
)
async def test_log_tells_no_credentials_of_what_is_no_request(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(refusals, "_seldom", Seldom())
    caplog.set_level(logging.INFO)
    assert (await exchange(client.host, client.port, [sent])).status == 400
    (told,) = (one for one in caplog.records if one.name == refusals.__name__)
    assert "refused with 400" in told.getMessage()
    assert "not-to" not in told.getMessage()
    assert "agg_" not in told.getMessage()


async def test_garbage_is_told_once_however_often_it_comes(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_seldom", Seldom())
    caplog.set_level(logging.INFO)
    for _ in range(50):
        assert (await exchange(client.host, client.port, [b"hello\r\n\r\n"])).status == 400
    (told,) = (one for one in caplog.records if one.name == refusals.__name__)
    assert told.levelno == logging.INFO
    assert "what is no request was refused with 400: This is no HTTP" in told.getMessage()


async def test_header_is_taken_up_to_its_limit(client: Client) -> None:
    answer = await exchange(
        client.host, client.port, [_attribute(_LIMIT - len(b"ce-subject: \r\n"))]
    )
    assert answer.status == 200


async def test_other_expectation_than_to_go_on_is_a_problem(client: Client) -> None:
    head = AS_JSON + b"Expect: " + b"z" * 500 + b"\r\n" + with_length(2)
    answer = await exchange(client.host, client.port, [head, b"{}"])
    assert (answer.status, answer.content_type) == (417, PROBLEM)
    assert len(answer.body) < 500


async def test_client_that_waits_to_be_asked_for_the_body_is_asked(client: Client) -> None:
    headers = {"Content-Type": JSON}
    async with client.post("/publish", data=good("1"), headers=headers, expect100=True) as response:
        assert response.status == 200
    assert await stored_ids(client) == ["1"]
