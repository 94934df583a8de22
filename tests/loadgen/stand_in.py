"""A service in a dictionary that keeps the HTTP contract, and kin of it that do not."""

import asyncio
from collections import deque
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

Event = dict[str, Any]

RECEIVED_AT = "2026-01-01T00:00:00Z"

decode = msgspec.json.Decoder(float_hook=Decimal).decode
encode = msgspec.json.Encoder(decimal_format="number").encode

PROBLEMS = {
    "full": (503, "queue full", {"Retry-After": "0"}),
    "full for a second": (503, "queue full", {"Retry-After": "1"}),
    "fault": (500, "a stage raised", {}),
    "away": (404, "no such call", {}),
}


class HonestService:
    """Troubles are met in order, one a publish; an empty list is a good day."""

    page_size = 1000

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seqs: dict[tuple[str, str], int] = {}
        self.received = self.unique = self.dropped = 0
        self.readiness = deque([200])
        self.troubles: deque[str] = deque()
        self.batches: list[list[Event]] = []
        self.got_batch = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/readyz", self.readyz)
        app.router.add_post("/publish", self.publish)
        app.router.add_get("/events", self.read)
        app.router.add_get("/stats", self.stats)
        return app

    async def readyz(self, _request: web.Request) -> web.Response:
        status = self.readiness.popleft() if len(self.readiness) > 1 else self.readiness[0]
        return web.Response(status=status)

    async def publish(self, request: web.Request) -> web.StreamResponse:
        batch = decode(await request.read())
        self.batches.append(batch)
        self.got_batch.set()
        trouble = self.troubles.popleft() if self.troubles else ""
        if trouble in PROBLEMS:
            return problem(*PROBLEMS[trouble])
        if trouble == "lost before storing":
            return lose_connection(request)
        results = self.take(batch)
        if trouble == "lost after storing":
            return lose_connection(request)
        if trouble == "late":
            await asyncio.sleep(60)
        return self.answer(results)

    def answer(self, results: list[Event]) -> web.Response:
        statuses = [result["status"] for result in results]
        counts = {
            "received": len(results),
            "stored": statuses.count("stored"),
            "duplicates": statuses.count("duplicate"),
            "conflicts": 0,
            "invalid": statuses.count("invalid"),
            "filtered": 0,
        }
        return web.json_response(counts | {"results": results}, status=200)

    def take(self, batch: list[Event]) -> list[Event]:
        return [self.take_one(index, event) for index, event in enumerate(batch)]

    def take_one(self, index: int, event: Event) -> Event:
        key = event["topic"], event["event_id"]
        self.received += 1
        if key in self.seqs:
            self.dropped += 1
            came = {"status": "duplicate", "received_at": RECEIVED_AT}
        else:
            self.unique += 1
            self.seqs[key] = len(self.seqs) + 1
            self.keep(event | {"seq": self.seqs[key]})
            came = {"status": "stored"}
        return {"index": index, "topic": key[0], "event_id": key[1], "seq": self.seqs[key]} | came

    def keep(self, event: Event) -> None:
        self.events.append(event | {"received_at": RECEIVED_AT})

    async def read(self, request: web.Request) -> web.Response:
        """Searches one page at a time, as a store may: pages are short, and some are empty."""
        start = int(request.query.get("after", "0"))
        end = start + min(self.page_size, int(request.query["limit"]))
        found = [e for e in self.events[start:end] if e["topic"] == request.query["topic"]]
        after = str(end) if end < len(self.events) else None
        return json_response({"events": found, "next": after})

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "received_total": self.received,
                "unique_processed": self.unique,
                "duplicate_dropped": self.dropped,
                "conflicts": 0,
                "invalid": 0,
                "filtered": 0,
                "refused": 0,
                "queue_size_current": 0,
                "processed_topics": sorted({topic for topic, _ in self.seqs}),
                "uptime_seconds": 1.5,
            }
        )


def json_response(body: Any) -> web.Response:
    return web.Response(body=encode(body), content_type="application/json")


def problem(status: int, title: str, headers: dict[str, str]) -> web.Response:
    return web.json_response(
        {"title": title, "status": status},
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )


def lose_connection(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()


class LosesOne(HonestService):
    def keep(self, event: Event) -> None:
        if event["seq"] != 7:
            super().keep(event)


class KeepsOneTwice(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event)
        if event["seq"] == 7:
            super().keep(event | {"seq": 100_000})


class ForgetsOneKey(HonestService):
    def take_one(self, index: int, event: Event) -> Event:
        result = super().take_one(index, event)
        if self.dropped == 1 and result["status"] == "duplicate":
            del self.seqs[event["topic"], event["event_id"]]
            return super().take_one(index, event)
        return result


class TurnsTrueIntoOne(HonestService):
    def keep(self, event: Event) -> None:
        payload = {k: 1 if v is True else v for k, v in event["payload"].items()}
        super().keep(event | {"payload": payload})


class TurnsNumbersIntoFloats(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event | {"payload": msgspec.json.decode(encode(event["payload"]))})


class RestampsOne(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event | {"timestamp": RECEIVED_AT} if event["seq"] == 7 else event)


class NamesAnotherSource(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event | {"source": "elsewhere"} if event["seq"] == 7 else event)


class MovesOne(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event | {"seq": 100_000} if event["seq"] == 7 else event)


class CountsOneUniqueMore(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event)
        self.unique += event["seq"] == 7


class CountsOneDuplicateLess(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event)
        self.dropped -= event["seq"] == 7


class ReceivesOneMore(HonestService):
    def keep(self, event: Event) -> None:
        super().keep(event)
        self.received += event["seq"] == 7


class CallsOneInvalid(HonestService):
    def take_one(self, index: int, event: Event) -> Event:
        if self.received == 7:
            self.received += 1
            return {"index": index, "status": "invalid"}
        return super().take_one(index, event)


class LeavesOneResultOut(HonestService):
    def take(self, batch: list[Event]) -> list[Event]:
        return super().take(batch)[:-1]


class AnswersWithoutSeq(HonestService):
    def take(self, batch: list[Event]) -> list[Event]:
        return [result | {"seq": None} for result in super().take(batch)]


class AnswersWrongCounts(HonestService):
    wrong = "stored"

    def answer(self, results: list[Event]) -> web.Response:
        answer = decode(super().answer(results).body)
        answer[self.wrong] += 1
        return json_response(answer)


class AnswersThatItReceivedMore(AnswersWrongCounts):
    wrong = "received"


class MixesResultsUp(HonestService):
    def take(self, batch: list[Event]) -> list[Event]:
        results = super().take(batch)
        for result in results:
            result["event_id"] = results[0]["event_id"]
        return results


class SettlesLate(HonestService):
    """Honest, but the last event of a batch is still in the queue when first asked."""

    in_queue = 0

    def take(self, batch: list[Event]) -> list[Event]:
        self.in_queue = 1
        return super().take(batch)

    async def stats(self, request: web.Request) -> web.Response:
        stats = decode((await super().stats(request)).body)
        stats["queue_size_current"] = self.in_queue
        stats["duplicate_dropped"] -= self.in_queue
        self.in_queue = 0
        return json_response(stats)


class StaysOnOnePage(HonestService):
    async def read(self, request: web.Request) -> web.Response:
        return web.json_response({"events": [], "next": "7"})


class SpeaksHtml(HonestService):
    def answer(self, results: list[Event]) -> web.Response:
        return web.Response(text=f"<p>{len(results)}</p>", content_type="text/html")
