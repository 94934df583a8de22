"""A CloudEvent with a fault is refused with the place of it, whatever stages there are."""

from itertools import count

import pytest
from bodies import good, ids_after, newest, publish
from clouds import BATCH, ONE, batch, cloud, result_of

from conftest import Client, Start, in_shared_app

_numbers = count()

_LONG = '"' + "x" * 256 + '"'

_REQUIRED = ("id", "type", "source")
_OTHERS = ("time", "subject", "datacontenttype", "dataschema")


def _at(name: str, text: str | None, detail: str) -> tuple[bytes, str, str]:
    return cloud(**{name: text}), f"/{name}", detail


BAD = {
    "no specversion": (cloud(specversion=None), "/specversion", "Missing"),
    "specversion 0.3": (cloud(specversion='"0.3"'), "/specversion", "1.0"),
    "specversion is a number": (cloud(specversion="1.0"), "/specversion", "Should be a string"),
    **{f"no {name}": _at(name, None, "Missing") for name in _REQUIRED},
    **{f"{name} is null": _at(name, "null", "Missing") for name in _REQUIRED},
    **{f"{name} is empty": _at(name, '""', "horter|Length") for name in (*_REQUIRED, "subject")},
    **{f"{name} is a number": _at(name, "7", "be a string") for name in (*_REQUIRED, *_OTHERS)},
    "long id": (cloud(id=_LONG), "/id", "Length"),
    "long type": (cloud(type=_LONG), "/type", "Length"),
    "source of two lines": (cloud(source=r'"a\nb"'), "/source", "line break"),
    "time without offset": (cloud(time='"2026-01-31T12:00:00"'), "/time", "Bad time"),
    **{
        f"time {time}": (cloud(time=f'"{time}"'), "/time", "Bad time")
        for time in (
            "20260131T1200Z",
            "20260131T120000Z",
            "2026-W05-6T12Z",
            "2026-01-31 12:00:00,5+0100",
            "2026-01-31T12:00:00,5Z",
            "2026-01-31T12:00:00+01",
            "2026-01-31T12:00:00+01:99",
            "2026-01-31T24:00:00Z",
        )
    },
    "empty time": (cloud(time='""'), "/time", "Bad time"),
    "no media type": (cloud(datacontenttype='"json"'), "/datacontenttype", "media type"),
    "media type of two lines": _at("datacontenttype", r'"text/plain;\n"', "media type"),
    "schema without scheme": (cloud(dataschema='"schema"'), "/dataschema", "URI"),
    "empty schema": (cloud(dataschema='""'), "/dataschema", "URI"),
    "capital letter in a name": (cloud(myExtension="1"), "/myExtension", "lower-case"),
    "underscore in a name": (cloud(my_extension="1"), "/my_extension", "lower-case"),
    "slash in a name": (cloud(**{"a/b": "1"}), "/a~1b", "lower-case"),
    "empty name": (cloud(**{"": "1"}), "/", "lower-case"),
    "extension is an object": (cloud(ext="{}"), "/ext", "32 bits"),
    "extension is an array": (cloud(ext="[]"), "/ext", "32 bits"),
    "extension is a fraction": (cloud(ext="1.5"), "/ext", "32 bits"),
    "extension of 33 bits": (cloud(ext="2147483648"), "/ext", "32 bits"),
    "extension of two lines": (cloud(ext=r'"a\nb"'), "/ext", "line break"),
    "data twice": (cloud(data="1", data_base64='"AP8="'), "/data_base64", "data already"),
    "base64 of the wrong length": (cloud(data_base64='"AP8"'), "/data_base64", "base64"),
    "base64 with a blank": (cloud(data_base64='"AP 8="'), "/data_base64", "base64"),
    "base64 with more behind it": (cloud(data_base64='"AP8=AP8="'), "/data_base64", "base64"),
    "base64 of another alphabet": (cloud(data_base64='"__8="'), "/data_base64", "base64"),
    "base64 beyond ASCII": (cloud(data_base64='"\u00e9AP8"'), "/data_base64", "base64"),
    "base64 is a number": (cloud(data_base64="1"), "/data_base64", "Should be a string|base64"),
    "type twice": (cloud()[:-1] + b',"type":"x"}', "/type", "twice"),
    "type twice, once escaped": (cloud()[:-1] + rb',"\u0074ype":"x"}', "/type", "twice"),
    "data twice by name": (cloud(data="1")[:-1] + b',"data":2}', "/data", "twice"),
    "extension twice": (cloud(ext="1")[:-1] + b',"ext":1}', "/ext", "twice"),
    "NaN": (cloud(data='{"x": NaN}'), "/data/x", "NaN"),
    "1e400": (cloud(data="[1e400]"), "/data/0", "1e400"),
    "400 digits": (cloud(data="[" + "9" * 400 + "]"), "/data/0", "99"),
    "lone surrogate": (cloud(data=r'"\ud800"'), "/data", "surrogate"),
    "lone surrogate in an extension": (cloud(ext=r'"\udc00"'), "/ext", "surrogate"),
    "U+0000 in the data": (cloud(data=r'["\u0000"]'), "/data/0", "U+0000"),
    "U+0000 in the type": (cloud(type=r'"\u0000"'), "/type", "U+0000"),
    "invalid UTF-8": (cloud(data=b'"\xff"'), "", "not UTF-8"),
    "invalid UTF-8 in a name": (cloud()[:-1] + b',"\xff":1}', "", "not UTF-8"),
    "101 levels": (cloud(data="[" * 100 + "]" * 100), "", "nested deeper"),
    "10,000 levels": (cloud(data="[" * 10_000 + "]" * 10_000), "", "nested deeper"),
    "not JSON": (cloud(data="nope"), "", "not JSON"),
    "no object": (b'"text"', "", "Should be a JSON object"),
    "attributes of 64 KiB": (cloud(ext='"' + "x" * 65_536 + '"'), "", "65,536"),
}  # fmt: skip
_UNREADABLE = ("not UTF-8", "nested deeper", "not JSON")

each_bad = pytest.mark.parametrize(("event", "pointer", "detail"), BAD.values(), ids=BAD)


@in_shared_app
@each_bad
async def test_bad_cloud_event_alone_is_refused_and_told_why(
    shared: Client, event: bytes, pointer: str, detail: str
) -> None:
    before = await newest(shared)
    status, answer = await publish(shared, event, ONE)
    if detail in _UNREADABLE:
        assert status == 400
        assert detail in answer["detail"]
    else:
        assert status == 422
        assert (answer["received"], answer["invalid"]) == (1, 1)
        faults = {fault["pointer"]: fault["detail"] for fault in answer["results"][0]["errors"]}
        assert any(words in faults[pointer] for words in detail.split("|")), faults
    assert await newest(shared) == before


@in_shared_app
@each_bad
async def test_neighbours_of_a_bad_cloud_event_are_stored(
    shared: Client, event: bytes, pointer: str, detail: str
) -> None:
    seq = await newest(shared)
    ids = [f"before {next(_numbers)}", f"after {next(_numbers)}"]
    before, after = (cloud(id=f'"{event_id}"') for event_id in ids)
    status, answer = await publish(shared, batch([before, event, after]), BATCH)
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["stored", "invalid", "stored"]
    told = {fault["pointer"] for fault in answer["results"][1]["errors"]}
    assert pointer in told
    assert await ids_after(shared, seq) == ids


async def test_every_fault_of_a_cloud_event_is_told(client: Client) -> None:
    event = cloud(
        specversion='"2"', id='""', source=None, time='"now"', A="1", ext="[]", data="1",
        data_base64="2",
    )  # fmt: skip
    faults = (await result_of(client, event))["errors"]
    expected = {"/specversion", "/id", "/source", "/time", "/A", "/ext", "/data_base64"}
    assert {fault["pointer"] for fault in faults} == expected


@pytest.mark.parametrize("name", ["specversion", "id", "type", "source"])
@pytest.mark.parametrize("text", [None, "null", "1", "{}"])
async def test_what_is_no_cloud_event_passes_the_bar_without_validate_neither(
    start: Start, name: str, text: str | None
) -> None:
    client = await start(pipeline="| dedup persist")
    result = await result_of(client, cloud(**{name: text}))
    assert result["status"] == "invalid"
    assert name in result["errors"][0]["detail"]
    for event in (cloud(data="1", data_base64='"AP8="'), cloud(data_base64='"x"'), b"{}"):
        assert (await result_of(client, event))["status"] == "invalid"


async def test_members_of_a_plain_event_are_no_extensions_of_a_cloud_event(client: Client) -> None:
    result = await result_of(client, good("1"))
    assert {fault["pointer"] for fault in result["errors"]} >= {"/specversion", "/type", "/id"}


async def test_attributes_may_be_long_and_names_too(client: Client) -> None:
    event = cloud(**{"x" * 255: '"' + "y" * 60_000 + '"', "mixed1": "false"})
    assert (await result_of(client, event))["status"] == "stored"


@pytest.mark.parametrize(
    "time",
    ["2026-01-31t12:00:00z", "2026-01-31T12:00:00.123456789+05:30", "2026-01-31T12:00:00-00:00"],
)
async def test_time_is_read_as_that_of_plain_events(client: Client, time: str) -> None:
    assert (await result_of(client, cloud(time=f'"{time}"')))["status"] == "stored"
