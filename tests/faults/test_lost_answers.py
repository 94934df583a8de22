"""The answer is lost after the commit: the retry says duplicate, and points at the same event."""

import copy
import http.client
import itertools
import json
import threading
import urllib.error
import urllib.request
from random import SystemRandom
from typing import Any, NamedTuple

import pytest
from cutting import Cut, Proxy, half, nothing

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, until

JSON = "application/json"
PLAIN = [event("1"), event("2"), event("3", "others")]
CLOUD = {
    "specversion": "1.0",
    "id": "1",
    "source": "/tests",
    "type": "logins",
    "data": {"user": "ada"},
}
CLOUDS = [CLOUD, {**CLOUD, "id": "2"}]
BINARY = {f"ce-{name}": str(CLOUD[name]) for name in ("specversion", "id", "source", "type")}


class PayloadKind(NamedTuple):
    """A way to publish, and how many events it publishes."""

    events: int
    body: Any
    headers: dict[str, str]


def form(events: int, body: Any, media_type: str = JSON, **headers: str) -> PayloadKind:
    spelled = body if isinstance(body, str) else json.dumps(body)
    return PayloadKind(events, spelled.encode(), {"Content-Type": media_type, **headers})


FORMS = {
    "one event": form(1, event()),
    "array": form(3, PLAIN),
    "strict": form(3, PLAIN, Prefer="handling=strict"),
    "NDJSON": form(3, "\n".join(map(json.dumps, PLAIN)), "application/x-ndjson"),
    "CloudEvent": form(1, CLOUD, "application/cloudevents+json"),
    "CloudEvents": form(2, CLOUDS, "application/cloudevents-batch+json"),
    "binary CloudEvent": PayloadKind(1, b'{"user": "ada"}', {"Content-Type": JSON, **BINARY}),
}


def publish(url: str, form: PayloadKind) -> Any:
    """The answer, if it comes through."""
    request = urllib.request.Request(f"{url}/publish", form.body, form.headers)
    with urllib.request.urlopen(request, timeout=LIMIT) as response:
        return json.load(response)


@pytest.mark.parametrize("cut", [nothing, half])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_retry_after_a_lost_answer_is_a_duplicate_of_the_same_event(
    service: Service, form: PayloadKind, cut: Cut
) -> None:
    service.start()
    with Proxy(service.url, cut) as proxy:
        for _ in range(2):
            with pytest.raises((OSError, http.client.HTTPException)):
                publish(proxy.url, form)
    first, second = (told(answer) for answer in proxy.answers)
    assert first["stored"] == second["duplicates"] == form.events
    retried = publish(service.url, form)
    assert retried["duplicates"] == retried["received"] == form.events
    seqs = [one["seq"] for one in service.stored()]
    assert len(seqs) == form.events
    for answer in (first, second, retried):
        assert [one["seq"] for one in answer["results"]] == seqs
    stats = service.call("/stats")[1]
    assert stats["unique_processed"] == form.events
    assert stats["duplicate_dropped"] == 2 * form.events
    assert stats["received_total"] == 3 * form.events


def told(answer: bytes) -> Any:
    """The body of an answer."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_strict_submission_that_was_refused_unheard_is_refused_again(service: Service) -> None:
    service.start()
    refused = form(2, [event("good"), event("bad", timestamp="")], Prefer="handling=strict")
    lost = pytest.raises((OSError, http.client.HTTPException))
    with Proxy(service.url, nothing) as proxy, lost:
        publish(proxy.url, refused)
    with pytest.raises(urllib.error.HTTPError) as again:
        publish(service.url, refused)
    with again.value as answer:
        statuses = [one["status"] for one in json.load(answer)["results"]]
    assert statuses == ["refused", "invalid"]
    assert statuses == [one["status"] for one in told(proxy.answers[0])["results"]]
    assert service.stored() == []
    stats = service.call("/stats")[1]
    assert (stats["refused"], stats["invalid"], stats["received_total"]) == (2, 2, 4)


def test_publishers_who_lose_every_third_answer_have_everything_stored_once(
    service: Service,
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    cuts = itertools.cycle([nothing, bytes, bytes, half, bytes, bytes])
    turn = threading.Lock()

    def cut(answer: bytes) -> bytes:
        with turn:
            chosen = next(cuts)
        return chosen(answer)

    with Proxy(service.url, cut) as proxy:
        behind = copy.copy(service)
        behind.url = proxy.url
        with Publishers(behind, seed) as publishers:
            until(lambda: publishers.ledger.unanswered > 30, "answers are lost")
            ledger = publishers.finish()
    assert service.call("/stats")[1]["duplicate_dropped"] > ledger.unanswered
    check_everything(service, ledger)
