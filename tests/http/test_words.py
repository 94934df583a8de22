"""Answers speak of JSON and HTTP, not of Python's types."""

import json

import pytest
from bad_events import BREACHES
from bodies import array, publish, spelled
from clouds import ONE, cloud

from conftest import Client, Start

_PYTHON = (
    "mapping",
    "Not a valid",
    "Invalid input",
    "`str`",
    "`int`",
    "`float`",
    "`bool`",
    "data for required field",
)


def _says_no_python(text: str) -> None:
    assert not [word for word in _PYTHON if word in text], text


@pytest.mark.parametrize("pipeline", ["validate | dedup persist", "| dedup persist"])
async def test_faults_of_events_are_told_in_words_of_json(start: Start, pipeline: str) -> None:
    client = await start(pipeline=pipeline)
    _, answer = await publish(client, array(bad.raw for bad in BREACHES.values()))
    _says_no_python(json.dumps(answer))


async def test_faults_that_are_told_briefly_are_told_in_words_of_json(client: Client) -> None:
    others = [spelled(topic="5"), spelled(timestamp="true"), spelled(source="1.5")]
    _, answer = await publish(client, array([spelled(topic="5")] * 1000 + others))
    assert [result["errors"][0]["detail"] for result in answer["results"][-3:]] == [
        "Expected `string`, got `number` - at `$.topic`",
        "Expected `string`, got `boolean` - at `$.timestamp`",
        "Expected `string`, got `number` - at `$.source`",
    ]


@pytest.mark.parametrize("payload", ["[1]", "5", "null", '"text"'])
async def test_payload_should_be_an_object(client: Client, payload: str) -> None:
    _, answer = await publish(client, spelled(payload=payload))
    fault = {"pointer": "/payload", "detail": "Should be a JSON object."}
    assert answer["results"][0]["errors"] == [fault]


@pytest.mark.parametrize("name", ["specversion", "type", "subject", "data_base64"])
async def test_faults_of_cloud_events_are_told_in_words_of_json(client: Client, name: str) -> None:
    for text in ("5", "[]", "null"):
        _, answer = await publish(client, cloud(**{name: text}), ONE)
        _says_no_python(json.dumps(answer))


@pytest.mark.parametrize(
    "arguments",
    ["events?limit=x", "events?after=1.5", "events?colour=red", "topics?x=1", "quarantine?x=1",
     "quarantine?reason=x", "events?order=up", "events/a/b?seq=x", "events?field=a&equals=1"],
)  # fmt: skip
async def test_faults_of_arguments_are_told_in_words_of_http(
    client: Client, arguments: str
) -> None:
    async with client.get(f"/{arguments}") as response:
        assert response.status == 400
        _says_no_python((await response.json(content_type=None))["detail"])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/%s", {}, 404),
        ("/events/a/%s", {}, 404),
        ("/docs/%s", {}, 404),
        ("/events?%s=1", {}, 400),
        ("/events?%s=1&%s=1", {}, 400),
        ("/events?field=%s&equals=1", {}, 400),
        ("/events", {"Accept": "a/%s"}, 406),
        ("/publish", {"Origin": "http://%s"}, 403),
        ("/publish", {"Content-Encoding": "%s", "Content-Type": "application/json"}, 415),
        ("/publish", {"Content-Type": "application/json; charset=%s"}, 415),
    ],
)
async def test_problem_cuts_what_it_repeats(
    client: Client, path: str, headers: dict[str, str], status: int
) -> None:
    method = "POST" if path == "/publish" else "GET"
    sent = {name: text.replace("%s", "x" * 450) for name, text in headers.items()}
    path = path.replace("%s", "x" * 450)
    async with client.request(method, path, headers=sent, data=b"{}") as response:
        assert response.status == status
        detail = (await response.json(content_type=None))["detail"]
        assert "x" * 80 in detail
        assert "x" * 110 not in detail
