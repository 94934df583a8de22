"""`GET /events/{topic}/{event_id}`: which of several is meant, and who has it already."""

import json

import pytest
from bodies import JSON, PROBLEM, get, publish, spelled
from multidict import CIMultiDict
from stored import cloud_event, store
from yarl import URL

from conftest import Client, Start
from events import event

CLOUD_EVENT = "application/cloudevents+json"
PATH = "/events/readings/1"


async def test_several_events_of_one_id_are_told_apart_by_links(client: Client) -> None:
    sources = ["/a", "/b?c=d&e", '/"<é>']
    await store(client, *(cloud_event("1", source=source) for source in sources))
    async with client.get(PATH) as response:
        assert (response.status, response.content_type) == (300, JSON)
        assert response.headers["Cache-Control"] == "no-cache"
        assert "Accept" in response.headers["Vary"]
        choices = (await response.json())["choices"]
        links = response.headers["Link"].split(", ")
    assert [(choice["seq"], choice["source"]) for choice in choices] == [*enumerate(sources, 1)]
    for choice, link in zip(choices, links, strict=True):
        assert link == f'<?seq={choice["seq"]}>; rel="alternate"'
        async with client.get(URL(choice["href"], encoded=True)) as response:
            assert response.status == 200
            assert (await response.json())["source"] == choice["source"]


async def test_links_to_events_of_long_names_are_a_header_that_clients_take(client: Client) -> None:
    name = "é" * 255
    events = (cloud_event(name, source=f"/{number}") for number in range(25))
    await store(client, *events)
    async with client.get(f"/events/readings/{name}") as response:
        assert response.status == 300
        assert len(response.headers["Link"]) < 1000


@pytest.mark.parametrize(("topic", "event_id"), [("..", "1"), ("readings", "."), (".", "..")])
async def test_names_that_paths_cannot_hold_are_linked_all_the_same(
    client: Client, topic: str, event_id: str
) -> None:
    for source in ("/a", "/b"):
        cloud = {"specversion": "1.0", "type": topic, "id": event_id, "source": source}
        await client.post("/publish", data=json.dumps(cloud), headers={"Content-Type": CLOUD_EVENT})
    path = f"/events/{topic.replace('.', '%2E')}/{event_id.replace('.', '%2E')}"
    async with client.get(URL(path, encoded=True)) as response:
        assert response.status == 300
        choices = (await response.json())["choices"]
    for choice in choices:
        (found,) = (await get(client, choice["href"]))["events"]
        assert (found["seq"], found["source"]) == (choice["seq"], choice["source"])


async def test_source_picks_one_of_several(client: Client) -> None:
    await store(client, cloud_event("1", source="/a"), cloud_event("1", source="/b"))
    assert (await get(client, f"{PATH}?source=/b"))["seq"] == 2
    for nothing in ("source=/c", "seq=3", "seq=2&source=/a"):
        async with client.get(f"{PATH}?{nothing}") as response:
            assert response.status == 404


async def test_source_picks_one_of_more_than_are_listed(client: Client) -> None:
    await store(client, *(cloud_event("1", source=f"/{number}") for number in range(50)))
    async with client.get(PATH) as response:
        told = await response.json()
    assert (len(told["choices"]), told["cut"]) == (20, True)
    assert (await get(client, f"{PATH}?source=/49"))["seq"] == 50
    assert (await get(client, f"{PATH}?seq=49"))["source"] == "/48"


async def test_source_picks_whatever_keys_are_made_of(start: Start) -> None:
    client = await start(key="topic,event_id,timestamp")
    times = [f"2026-01-31T12:{minute:02}:00Z" for minute in range(25)]
    events = [event(timestamp=time, source=time) for time in times]
    await client.post("/publish", json=events)
    assert (await get(client, f"/events/logins/1?source={times[24]}"))["timestamp"] == times[24]
    assert (await get(client, f"/events/logins/1/explain?source={times[24]}"))["times"] == 1


async def test_source_picks_no_event_of_another_topic(start: Start) -> None:
    client = await start(key="source,event_id")
    await client.post("/publish", json=event(topic="a"))
    assert (await get(client, "/events/a/1?source=tests"))["topic"] == "a"
    for path in ("/events/b/1?source=tests", "/events/b/1?seq=1", "/events/b/1"):
        async with client.get(path) as response:
            assert response.status == 404


async def test_source_leaves_the_choice_between_a_plain_event_and_a_cloud_event(
    client: Client,
) -> None:
    await store(client, cloud_event("1", source="/s"))
    await client.post("/publish", json=event(topic="readings", source="/s"))
    for arguments in ("", "?source=/s"):
        async with client.get(f"{PATH}{arguments}") as response:
            assert response.status == 300
            told = await response.json()
        assert ([choice["seq"] for choice in told["choices"]], told["cut"]) == ([1, 2], False)


async def test_seq_picks_where_even_the_source_is_the_same(start: Start) -> None:
    client = await start(key="topic,event_id,timestamp")
    for minute in (1, 2):
        await client.post("/publish", json=event(timestamp=f"2026-01-31T12:0{minute}:00Z"))
    async with client.get("/events/logins/1?source=tests") as response:
        assert response.status == 300
    found = await get(client, "/events/logins/1?seq=2")
    assert found["timestamp"] == "2026-01-31T12:02:00Z"


async def test_seq_of_another_event_is_not_found(client: Client) -> None:
    await client.post("/publish", json=[event("1"), event("2")])
    async with client.get("/events/logins/1?seq=2") as response:
        assert response.status == 404


@pytest.mark.parametrize("arguments", ["colour=red", "seq=0", "seq=x", "source=a&source=b"])
async def test_bad_argument_is_refused(client: Client, arguments: str) -> None:
    await client.post("/publish", json=event())
    for path in ("/events/logins/1", "/events/logins/1/explain"):
        async with client.get(f"{path}?{arguments}") as response:
            assert (response.status, response.content_type) == (400, PROBLEM)


async def test_who_has_the_event_is_not_sent_it_again(client: Client) -> None:
    await client.post("/publish", json=event())
    async with client.get("/events/logins/1") as response:
        tag = response.headers["ETag"]
        assert response.headers["Cache-Control"] == "no-cache"
    for said in (tag, f"W/{tag}", "*", f'"other", {tag}', f'"a,b",W/{tag}'):
        for method in ("GET", "HEAD"):
            headers = {"If-None-Match": said}
            async with client.request(method, "/events/logins/1", headers=headers) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert (response.headers["ETag"], response.headers["Vary"]) == (tag, "Accept")
    several = CIMultiDict([("If-None-Match", '"other"'), ("If-None-Match", tag)])
    async with client.get("/events/logins/1", headers=several) as response:
        assert response.status == 304
    for said in ('"other"', '"*"', tag.strip('"'), '"', ""):
        async with client.get("/events/logins/1", headers={"If-None-Match": said}) as response:
            assert response.status == 200


async def test_tag_of_a_cloud_event_is_another_one(client: Client) -> None:
    await client.post("/publish", json=event())
    tags = set()
    for form in (JSON, CLOUD_EVENT):
        async with client.get("/events/logins/1", headers={"Accept": form}) as response:
            assert response.content_type == form
            tags.add(response.headers["ETag"])
    assert len(tags) == 2


async def test_plain_event_is_read_as_a_cloud_event(client: Client) -> None:
    await publish(client, spelled(payload='{"n":1.50}', timestamp='"20260131T120000,5Z"'))
    async with client.get("/events/logins/1", headers={"Accept": CLOUD_EVENT}) as response:
        body = await response.read()
    assert body.endswith(b'"data":{"n":1.50}}')
    assert json.loads(body) == {
        "specversion": "1.0",
        "type": "logins",
        "id": "1",
        "source": "tests",
        "time": "2026-01-31T12:00:00.500000Z",
        "datacontenttype": "application/json",
        "data": {"n": 1.5},
    }
