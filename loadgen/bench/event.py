"""The events that everybody is given: number 7 is the same one whoever sends it."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH_MS = int(BEGINNING.timestamp()) * 1000
TOPICS = ("auth.login", "auth.logout", "auth.refresh")
RARE = "auth.deleted"
"""The topic of one event in a thousand."""
METHODS = ("password", "passkey", "sso", "token")


class Row(NamedTuple):
    """An event as a table keeps it: all text, the payload as JSON."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: str


def row(number: int, *, ordered: bool = False) -> Row:
    """Random ids are as good as UUIDv4; ordered ones begin with the time, as UUIDv7 does."""
    digest = blake2b(b"%d" % number, digest_size=20).hexdigest()
    noise = int(digest[32:], 16)
    millisecond = f"{number % 1000:03}"
    second = moment(number // 1000)
    key = digest[:32]
    if ordered:
        key = f"{EPOCH_MS + number:012x}7{key[13:]}"
    return Row(
        RARE if noise % 1000 == 0 else TOPICS[noise % 3],
        f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}",
        f"{second}.{millisecond}Z",
        f"web-{noise % 7}",
        f'{{"user":"user-{noise % 100_003:06}","method":"{METHODS[noise % 4]}","successful":true,'
        f'"ip":"10.{noise % 251}.{noise % 241}.{noise % 239}"}}',
    )


@lru_cache(maxsize=8)
def moment(second: int) -> str:
    return f"{BEGINNING + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"


def as_json(event: Row) -> str:
    return (
        f'{{"topic":"{event.topic}","event_id":"{event.event_id}",'
        f'"timestamp":"{event.timestamp}","source":"{event.source}","payload":{event.payload}}}'
    )


def as_cloudevent(event: Row) -> str:
    """The same in the JSON format of CloudEvents, structured."""
    return (
        f'{{"specversion":"1.0","type":"{event.topic}","source":"/apps/{event.source}",'
        f'"id":"{event.event_id}","time":"{event.timestamp}","subject":"user",'
        f'"datacontenttype":"application/json","data":{event.payload}}}'
    )
