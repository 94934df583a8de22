"""How much a client may publish a second: by token, or by address where there is none."""

from pathlib import Path

import pytest
from tokened import start_with

from aggregator.api.rates import Bucket
from aggregator.core.tokens import Scope
from aggregator.errors import RateExceeded, TooLarge
from conftest import Client, Start
from events import event


def test_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    bucket = Bucket("events", rate=2, burst=10, level=10, filled_at=0)
    bucket.check(10, 0)
    bucket.level -= 10
    with pytest.raises(RateExceeded) as told:
        bucket.check(3, 1)
    assert told.value.retry_after == 1
    bucket.check(3, 1.5)
    bucket.fill(1000)
    assert bucket.level == 10
    with pytest.raises(TooLarge, match="burst is 10"):
        bucket.check(11, 1000)


def test_pause_is_bounded_however_small_the_rate() -> None:
    bucket = Bucket("events", 1e-320, 1, 0, 0)
    with pytest.raises(RateExceeded) as caught:
        bucket.check(1, 0)
    assert caught.value.retry_after == 3600


async def _publish(client: Client, count: int, first: int = 0) -> tuple[int, str, str]:
    events = [event(str(number)) for number in range(first, first + count)]
    async with client.post("/publish", json=events) as answer:
        body = await answer.json(content_type=None)
        return answer.status, answer.headers.get("Retry-After", ""), body.get("detail", "")


async def test_client_over_its_rate_is_429_with_when_to_come_again(start: Start) -> None:
    client = await start(rate_events=0.01, burst=500)
    assert (await _publish(client, 5))[0] == 200
    status, again, detail = await _publish(client, 1, 5)
    assert (status, int(again) > 90) == (429, True)
    assert "rate" in detail
    assert "burst" in detail
    async with client.get("/stats") as answer:
        assert (await answer.json())["received_total"] == 5


async def test_request_that_can_never_pass_is_413_and_costs_nothing(start: Start) -> None:
    client = await start(rate_events=0.01, burst=500)
    status, again, detail = await _publish(client, 6)
    assert (status, again) == (413, "")
    assert "burst is 5" in detail
    assert (await _publish(client, 5))[0] == 200


async def test_bytes_have_a_rate_of_their_own(start: Start) -> None:
    client = await start(rate_bytes=1, burst=400)
    assert (await _publish(client, 2))[0] == 200
    status, again, detail = await _publish(client, 2, 2)
    assert (status, int(again) > 1) == (429, True)
    assert "bytes" in detail
    assert (await _publish(client, 20))[0] == 413


@pytest.mark.parametrize("rate", ["rate_events", "rate_bytes"])
async def test_what_cannot_be_read_counts_too(start: Start, rate: str) -> None:
    client = await start(**{rate: 1.0}, burst=100 if rate == "rate_bytes" else 2)
    statuses = []
    for _ in range(4):
        headers = {"Content-Type": "application/json"}
        async with client.post("/publish", data=b"x" * 50, headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [400, 400, 429, 429]


async def test_body_in_chunks_counts_as_what_has_arrived(start: Start) -> None:
    client = await start(rate_bytes=1, burst=400)
    status = []
    for number in range(3):
        one = f"[{', '.join([str(event(str(number))).replace(chr(39), chr(34))] * 2)}]".encode()

        async def chunks(one: bytes = one):  # type: ignore[no-untyped-def]
            yield one

        headers = {"Content-Type": "application/json"}
        async with client.post("/publish", data=chunks(), headers=headers) as answer:
            status.append(answer.status)
    assert status == [200, 429, 429]


async def test_token_has_rates_of_its_own_wherever_it_comes_from(
    start: Start, tmp_path: Path
) -> None:
    app, tokens = await start_with(
        start,
        tmp_path / "tokens.json",
        {
            "slow": ((Scope.PUBLISH,), {"rate_events": 0.01, "burst": 200.0}),
            "free": ((Scope.PUBLISH,), {"rate_events": 0.0}),
            "usual": ((Scope.PUBLISH,), {}),
        },
        rate_events=0.01,
        burst=300,
    )
    for name, most in (("slow", 2), ("usual", 3), ("free", 50)):
        batch = [event(f"{name}-{number}") for number in range(most)]
        assert (await app.publish(tokens[name], batch)).status == 200
        answer = await app.publish(tokens[name], event(f"{name}-more"))
        assert answer.status == (200 if name == "free" else 429)


async def test_whoever_could_guess_contents_is_told_of_few_conflicts(
    start: Start, tmp_path: Path
) -> None:
    app, tokens = await start_with(
        start,
        tmp_path / "tokens.json",
        {
            "blind": ((Scope.PUBLISH,), {}),
            "pinned": ((Scope.PUBLISH,), {"source": "tests"}),
            "reader": ((Scope.PUBLISH, Scope.READ), {}),
        },
        conflict_rate=0.01,
    )
    stored = [event(str(number)) for number in range(1001)]
    guesses = [event(str(number), payload={"guess": 1}) for number in range(1001)]
    assert (await app.publish(tokens["reader"], stored)).status == 200
    for name, status in (("blind", 429), ("pinned", 200), ("reader", 200)):
        assert (await app.publish(tokens[name], guesses)).body["conflicts"] == 1001
        answer = await app.publish(tokens[name], event())
        assert answer.status == status, name
    assert "conflicts" in (await app.publish(tokens["blind"], event())).body["detail"]
