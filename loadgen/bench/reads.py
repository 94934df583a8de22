"""Reads of a store that holds many events: what is read stands in a table."""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from loadgen.bench.errors import TROUBLE, RoundError
from loadgen.bench.event import RARE
from loadgen.bench.results import Read
from loadgen.bench.turns import Say

TIMES = 3
PATIENCE = 120.0
"""Seconds of silence."""
PIECE = 2**20
USER = "user-004711"
"""In the payload of some ten events of a million."""

SEQ = b'"seq":'
PAGES, LINES = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Asked:
    """One read. In a query `{arrived}` and `{since}` are moments near the end of the store."""

    title: str
    query: str
    form: str = PAGES
    is_whole: bool = True
    """Whether pages are followed to the last one."""


READS = (
    Asked("what arrived last, by `received_since`", "received_since={arrived}", is_whole=False),
    Asked("a topic of 0.1 %", f"topic={RARE}", is_whole=False),
    Asked("a field that is not indexed", f"field=/user&equals={USER}&limit=1000"),
    Asked("a field that is not indexed", f"field=/user&equals={USER}", LINES),
    Asked("the last ones, by `since`", "since={since}&limit=1000"),
    Asked("the last ones, by `since`", "since={since}", LINES),
    Asked("all", "", LINES),
)


def take_reads(port: int, arrived: str, since: str, say: Say) -> list[Read]:
    """Each several times in a row, so that the first one reads from the disk and others may not."""
    found = []
    for asked in READS:
        path = "/events?" + asked.query.format(arrived=quote(arrived), since=quote(since))
        form = "one answer in NDJSON" if asked.form == LINES else "pages"
        read = Read(asked.title, form if asked.is_whole else "one page")
        try:
            for _ in range(TIMES):
                read.requests, read.events, seconds = take_read(port, path, asked)
                read.seconds.append(seconds)
        except TROUBLE as error:
            read.trouble = f"it failed: {error}"
        say(f"  {read.title}, {read.form}: {read.trouble or f'{read.ms:,.1f} ms'}")
        found.append(read)
    return found


def take_read(port: int, path: str, asked: Asked) -> tuple[int, int, float]:
    """Requests, events that came and seconds, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    requests, events, following = 0, 0, path
    began = time.perf_counter()
    try:
        while following:
            connection.request("GET", following, headers={"Accept": asked.form})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RoundError(f"{following} was answered {answer.status}")
            requests += 1
            events += counted(answer)
            link = answer.headers.get("Link", "") if asked.is_whole else ""
            reference = link.partition("<")[2].partition(">")[0]
            following = reference and urljoin(following, reference)
    finally:
        connection.close()
    return requests, events, time.perf_counter() - began


def counted(answer: http.client.HTTPResponse) -> int:
    """Events of an answer to its end, by a member that each has once. Nothing is parsed."""
    events, rest = 0, b""
    while piece := answer.read(PIECE):
        events += (rest + piece).count(SEQ)
        rest = piece[1 - len(SEQ) :]
    return events
