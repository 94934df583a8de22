"""What is logged and how: as text or JSON, with a line for each request, and what is left out."""

import json
import logging
import re
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from aggregator.logs import JsonFormatter, TextFormatter
from events import event
from running import Service, until

TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def record(message: str, **members: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "file", 1, message, (), None)
    vars(made).update(members)
    return made


def test_text_has_the_time_with_its_offset() -> None:
    assert re.fullmatch(f"{TIME} WARNING a.b: hello", TextFormatter().format(record("hello")))


def test_json_is_an_object_a_line_whatever_is_in_it() -> None:
    odd = "two\nlines \x1b[31m \ud800"
    line = JsonFormatter().format(record(odd, client=odd, status=200, path=Path("/x")))
    assert "\n" not in line
    told = json.loads(line)
    assert re.fullmatch(TIME, told.pop("time"))
    assert told.pop("message").startswith("two\nlines")
    assert told.pop("client").startswith("two\nlines")
    assert told == {"level": "warning", "logger": "a.b", "status": 200, "path": "/x"}


def test_no_message_can_begin_a_line_of_its_own() -> None:
    forged = "hello\n2026-01-31 12:00:00 ERROR a.b: forged \x1b[31m\x85"
    made = record(forged)
    made.exc_info = (ValueError, ValueError(forged), None)
    first, *others = TextFormatter().format(made).split("\n")
    assert first.endswith("WARNING a.b: hello")
    assert len(others) == 3
    assert all(line.startswith("    ") for line in others)
    assert not re.search(r"[^\x20-\x7e]", "".join(others))


def test_json_holds_what_a_package_gives_and_it_cannot_stand_for_ours() -> None:
    class Number(int):
        pass

    odd = {"level": "info", "logger": "other", "large": 2**64, "own": Number(3), "\ud800": 1}
    told = json.loads(JsonFormatter().format(record("hello", **odd)))
    assert (told["level"], told["logger"]) == ("warning", "a.b")
    assert (told["large"], told["own"], told["\\ud800"]) == (str(2**64), "3", 1)


def test_long_exception_is_cut() -> None:
    made = record("failed")
    made.exc_info = (ValueError, ValueError("x" * 100_000), None)
    for formatter in (TextFormatter(), JsonFormatter()):
        assert len(formatter.format(made)) < 20_000


def test_json_has_the_traceback_of_an_error() -> None:
    try:
        int("no")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    told = json.loads(JsonFormatter().format(made))
    assert "ValueError: invalid literal" in told["exception"]


def lines(service: Service) -> list[dict[str, object]]:
    return [json.loads(line) for line in service.said().splitlines()]


def test_each_request_is_a_line_without_what_was_sent(service: Service) -> None:
    url = service.start("--log-format", "json", "--access-log")
    assert service.publish(event(payload={"secret": "hidden"}))[0] == 200
    request = urllib.request.Request(
        f"{url}/events?source=hidden", headers={"Authorization": "Bearer hidden"}
    )
    urllib.request.urlopen(request, timeout=10).close()
    request.add_header("Accept", "application/x-ndjson")
    urllib.request.urlopen(request, timeout=10).read()
    assert service.call("/a%0d%0ab%1b")[0] == 404
    service.stop()
    told = [line for line in lines(service) if line["logger"] == "aggregator.access"]
    assert [(line["method"], line["path"], line["status"]) for line in told] == [
        ("POST", "/publish", 200),
        ("GET", "/events", 200),
        ("GET", "/events", 200),
        ("GET", "/a\\r\\nb\\x1b", 404),
    ]
    assert all(line["client"] == "127.0.0.1" for line in told)
    assert all(line["bytes"] for line in told)
    assert "hidden" not in service.said()


def test_no_request_is_a_line_unless_it_is_asked_for(service: Service) -> None:
    service.start("--log-level", "debug")
    assert service.publish(event())[0] == 200
    service.stop()
    assert "/publish" not in service.said()


@pytest.mark.parametrize("name", ["aiosqlite", "asyncio", "aiohttp"])
def test_debug_is_ours_and_not_that_of_libraries(service: Service, name: str) -> None:
    service.start("--log-level", "debug")
    assert service.publish([event(), event("")])[0] == 207
    service.stop()
    assert f"DEBUG {name}" not in service.said()


def test_how_it_logs_is_changed_by_a_hangup(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("")
    service.start("--config", str(file))
    file.write_text('log_format = "json"\naccess_log = true\n')
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "log_format is json; access_log is True" in service.said(), "it is said")
    assert service.publish(event())[0] == 200
    until(lambda: '"path":"/publish"' in service.said(), "the request is logged")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "no setting that can be read again has changed" in service.said(), "it is said")
    assert service.stop() == 0
