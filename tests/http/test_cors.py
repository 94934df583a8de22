"""Pages of other origins may use the service where the operator has said so, and nowhere else."""

import pytest
from bodies import PROBLEM, get

from aggregator.config import load
from aggregator.errors import SettingError
from conftest import Client, Start
from events import event

PAGE = "https://dash.example.org"
ASKS = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, prefer, ce-id",
}


def _cors(headers: object) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()  # type: ignore[attr-defined]
        if name.startswith("Access-Control")
    }


async def test_without_the_setting_no_page_may(client: Client) -> None:
    for method, path in (("GET", "/events"), ("OPTIONS", "/publish"), ("GET", "/none")):
        async with client.request(method, path, headers=ASKS) as response:
            assert _cors(response.headers) == {}
            assert "Origin" not in response.headers.get("Vary", "")


async def test_listed_origin_is_told_what_it_may_send(start: Start) -> None:
    client = await start(cors_origins=f"https://other.example, {PAGE}")
    async with client.options("/publish", headers=ASKS) as response:
        assert response.status == 204
        assert _cors(response.headers) == {
            "Access-Control-Allow-Origin": PAGE,
            "Access-Control-Allow-Methods": "OPTIONS, POST",
            "Access-Control-Allow-Headers": "content-type, prefer, ce-id",
            "Access-Control-Expose-Headers": (
                "Link, ETag, Location, Retry-After, Preference-Applied"
            ),
            "Access-Control-Max-Age": "600",
        }


async def test_listed_origin_may_read_every_answer(start: Start) -> None:
    client = await start(cors_origins=PAGE)
    large = event("large", payload={"filler": "x" * 100_000})
    async with client.post("/publish", json=large, headers={"Origin": PAGE}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
    paths = {
        "/events": 200,
        "/stats": 200,
        "/events/stream": 200,
        "/events?limit=0": 400,
        "/nothing": 404,
        "/publish": 405,
    }
    for path, status in paths.items():
        async with client.get(path, headers={"Origin": PAGE}) as response:
            assert response.status == status
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert "ETag" in response.headers["Access-Control-Expose-Headers"]
            assert response.headers["Vary"].split(", ")[-1] == "Origin"


async def test_other_origin_may_not(start: Start) -> None:
    client = await start(cors_origins=PAGE)
    for origin in ("https://dash.example.org:8443", "http://dash.example.org", "null"):
        async with client.options("/publish", headers={**ASKS, "Origin": origin}) as response:
            assert _cors(response.headers) == {}
        async with client.get("/events", headers={"Origin": origin}) as response:
            assert _cors(response.headers) == {}
            assert response.headers["Vary"] == "Accept, Origin"


async def test_star_lists_every_origin(start: Start) -> None:
    client = await start(cors_origins="*")
    async with client.get("/events", headers={"Origin": "null"}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Vary"] == "Accept"
    async with client.get("/events") as response:
        assert _cors(response.headers) == {}


FOREIGN = ("https://dash.example.org:8443", "http://dash.example.org", "null", "garbage", "")
CHANGES = (
    ("POST", "/publish"),
    ("POST", "/quarantine/release?after=0"),
    ("POST", "/quarantine/1/release"),
    ("DELETE", "/quarantine?after=0"),
    ("DELETE", "/quarantine/1"),
    ("PUT", "/publish"),
    ("PATCH", "/events"),
)


@pytest.mark.parametrize("listed", ["", PAGE])
async def test_page_of_another_origin_changes_nothing(start: Start, listed: str) -> None:
    client = await start(cors_origins=listed)
    for method, path in CHANGES:
        for origin in FOREIGN:
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            async with client.request(method, path, json=event(), headers=headers) as response:
                assert (response.status, response.content_type) == (403, PROBLEM)
                assert "cors_origins" in (await response.json(content_type=PROBLEM))["detail"]
                assert _cors(response.headers) == {}
    assert (await get(client, "/stats"))["received_total"] == 0


@pytest.mark.parametrize(
    ("listed", "headers"),
    [
        ("", {}),
        ("", {"Origin": "http://Own.example:8080", "Host": "own.example:8080"}),
        ("", {"Origin": "https://outside.example", "Sec-Fetch-Site": "same-origin"}),
        (PAGE, {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}),
        ("*", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_own_pages_and_listed_ones_and_clients_that_are_none_publish(
    start: Start, listed: str, headers: dict[str, str]
) -> None:
    client = await start(cors_origins=listed)
    async with client.post("/publish", json=event(), headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://example.org/a", "null", "ftp://a"]
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(SettingError, match="cors_origins"):
        load({"cors_origins": f"https://good.example,{origin}"}, {})
