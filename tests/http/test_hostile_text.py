"""Text made to be slow to read is read at once: what would go back and forth in it never ended."""

from collections.abc import Callable

import pytest

from aggregator import pointer, timestamp
from aggregator.receiving import strict_json
from aggregator.web import uri
from aggregator.web.preferences import Preferences
from aggregator_stages.schemas import CloudEventSchema
from conftest import Client

_MANY = 100_000
_PARTS = ("a", " ", '"', "\\", '\\"', '"a', 'a="', ";", "; ", ",", "/", "a/", "a:", ":", "@", "//",
          "%", "%4", "~", "[", "{", "0", "2026-", "=", "q=0.", "é")  # fmt: skip
_STARTS = ("", '"', "a=", "a/b;q=", "//", "a://", "2026-01-31T12:00:00.", "[", "/")


def _checked(text: str) -> None:
    CloudEventSchema().validate({"dataschema": text, "datacontenttype": text, "time": text})


def _parsed(text: str) -> None:
    timestamp.moment(text)
    timestamp.is_rfc_3339(text)


def _pointed(text: str) -> None:
    assert pointer.parse(pointer.to(text)) in ((text,), ())


READERS: dict[str, Callable[[str], object]] = {
    "preferences": lambda text: Preferences.of([text]),
    "URI references": uri.reference,
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
