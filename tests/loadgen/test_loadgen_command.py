"""The whole command against a service that is honest, in trouble, or lying."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from aiohttp.pytest_plugin import AiohttpServer
from click.testing import CliRunner, Result
from stand_in import (
    AnswersThatItReceivedMore,
    AnswersWithoutSeq,
    AnswersWrongCounts,
    CallsOneInvalid,
    CountsOneDuplicateLess,
    CountsOneUniqueMore,
    ForgetsOneKey,
    HonestService,
    KeepsOneTwice,
    LeavesOneResultOut,
    LosesOne,
    MixesResultsUp,
    MovesOne,
    NamesAnotherSource,
    ReceivesOneMore,
    RestampsOne,
    SettlesLate,
    SpeaksHtml,
    StaysOnOnePage,
    TurnsNumbersIntoFloats,
    TurnsTrueIntoOne,
)

from loadgen.command import command

SMALL = ("--events", "200", "--batch", "20", "--connections", "4")


MAIN = "import loadgen.__main__; loadgen.__main__.main()"
# A process started in the background of a shell would ignore the signal, as its children do.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + MAIN


async def loadgen(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, arguments)


async def run(aiohttp_server: AiohttpServer, service: HonestService, *arguments: str) -> Result:
    server = await aiohttp_server(service.app())
    result = await loadgen("--url", str(server.make_url("/")), *SMALL, *arguments)
    await server.close()
    return result


async def report(
    aiohttp_server: AiohttpServer, service: HonestService, *arguments: str
) -> dict[str, Any]:
    result = await run(aiohttp_server, service, "--json", *arguments)
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if found["ok"] else 1)
    return found


async def test_good_run_prints_its_numbers_and_ends_with_ok(aiohttp_server: AiohttpServer):
    result = await run(aiohttp_server, HonestService())

    assert result.exit_code == 0
    assert "Publishing: 200 of 200 events" in result.stdout
    assert "p99.9" in result.stdout
    assert "unique_processed" in result.stdout
    assert result.stdout.splitlines()[-1] == (
        "OK: 160 events stored once, 40 duplicates dropped, nothing lost"
    )


async def test_json_is_one_object_with_everything_in_it(aiohttp_server: AiohttpServer):
    found = await report(aiohttp_server, HonestService())

    assert found["statuses"] == {"stored": 160, "duplicate": 40}
    assert found["requests"] == {"200": 10}
    assert found["after"]["received_total"] - found["before"]["received_total"] == 200
    assert found["latency_ms"]["p50"] <= found["latency_ms"]["max"]


async def test_second_run_is_all_duplicates(aiohttp_server: AiohttpServer):
    service = HonestService()
    await report(aiohttp_server, service)
    found = await report(aiohttp_server, service)

    assert found["ok"]
    assert found["statuses"] == {"duplicate": 200}


async def test_run_after_a_shorter_one_stores_the_rest(aiohttp_server: AiohttpServer):
    service = HonestService()
    await report(aiohttp_server, service, "--events", "100")
    found = await report(aiohttp_server, service)

    assert found["ok"]
    assert found["statuses"] == {"stored": 80, "duplicate": 120}


async def test_short_and_empty_pages_are_read_to_the_end(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.page_size = 2
    await run(aiohttp_server, service)
    await run(aiohttp_server, service, "--seed", "2")  # so that the last pages are another's
    result = await run(aiohttp_server, service)

    assert result.exit_code == 0
    assert result.stdout.count("Reading back: 160 of 160 events") == 1


async def test_statistics_are_read_when_the_queue_is_empty(aiohttp_server: AiohttpServer):
    found = await report(aiohttp_server, SettlesLate())

    assert found["ok"]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("full", "503"),
        ("fault", "500"),
        ("lost before storing", "lost connection"),
        ("lost after storing", "lost connection"),
        ("late", "time-out"),
    ],
)
async def test_honest_trouble_is_survived(
    aiohttp_server: AiohttpServer,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
    reason: str,
):
    service = HonestService()
    service.troubles.extend(["", trouble, "", trouble])
    found = await report(aiohttp_server, service, "--timeout", "0.3")

    assert found["ok"], found["verdict"]
    assert found["requests"] == {"200": 10, reason: 2}
    assert found["retries"] == 2
    assert found["events_sent_again"] == 40
    assert not [record for record in caplog.records if record.name == "stamina"]


async def test_retry_after_is_respected(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.append("full for a second")
    found = await report(aiohttp_server, service)

    assert found["ok"]
    assert 1 <= found["seconds"] < 5


async def test_retry_sends_the_same_batch(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.append("full")
    await report(aiohttp_server, service, "--connections", "1")

    assert service.batches[0] == service.batches[1]
    assert service.batches[1] != service.batches[2]


@pytest.mark.parametrize(
    ("liar", "complaint"),
    [
        (LosesOne, "1 event sent but not stored"),
        (KeepsOneTwice, "1 event stored more than once"),
        (ForgetsOneKey, "`stored` a second time"),
        (TurnsTrueIntoOne, "stored with another payload"),
        (TurnsNumbersIntoFloats, "stored with another payload"),
        (RestampsOne, "1 event stored with another payload, source or timestamp"),
        (NamesAnotherSource, "1 event stored with another payload, source or timestamp"),
        (MovesOne, "1 event stored under another seq"),
        (CountsOneUniqueMore, "unique_processed grew by 161, not by 160"),
        (CountsOneDuplicateLess, "duplicate_dropped grew by 39, not by 40"),
        (ReceivesOneMore, "received_total grew by 201, not by 200"),
        (CallsOneInvalid, "events were answered `invalid`"),
        (LeavesOneResultOut, "has not exactly one result for each event"),
        (AnswersWithoutSeq, "results have no `seq`"),
        (AnswersWrongCounts, "counts are not those of its results"),
        (AnswersThatItReceivedMore, "`received` is not the number of events sent"),
        (MixesResultsUp, "results name another event"),
        (StaysOnOnePage, "the cursor stays at 7"),
        (SpeaksHtml, "without results"),
    ],
)
async def test_lie_is_found_out(
    aiohttp_server: AiohttpServer, liar: type[HonestService], complaint: str
):
    found = await report(aiohttp_server, liar())

    assert not found["ok"]
    assert complaint in found["verdict"]


async def test_failure_is_the_last_line(aiohttp_server: AiohttpServer):
    result = await run(aiohttp_server, LosesOne())

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("FAILED: 1 event sent but not stored")


async def test_service_that_stays_full_is_given_up(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.extend(["full"] * 1000)
    found = await report(aiohttp_server, service, "--give-up", "0.1")

    assert not found["ok"]
    assert "gave up" in found["verdict"]
    assert "answered 503 queue full" in found["verdict"]


async def test_fault_is_forgiven_a_few_times_only(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.extend(["fault"] * 1000)
    found = await report(aiohttp_server, service, "--connections", "1")

    assert found["requests"] == {"500": 5}
    assert "answered 500 a stage raised" in found["verdict"]


async def test_answer_that_no_retry_mends_is_not_retried(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.append("away")
    found = await report(aiohttp_server, service)

    assert not found["ok"]
    assert found["requests"] == {"200": 9, "404": 1}
    assert "POST /publish: answered 404 no such call" in found["reasons"]


async def test_waits_until_the_service_is_ready(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.readiness.extendleft([503])
    result = await run(aiohttp_server, service)

    assert result.exit_code == 0
    assert "Waiting for http://" in result.stdout


async def test_service_that_is_never_ready_gets_nothing(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.readiness[0] = 503
    result = await run(aiohttp_server, service, "--wait", "0")

    assert result.exit_code == 2
    assert "was not ready within 0 s" in result.stderr
    assert not service.batches


async def test_json_says_that_the_service_was_never_there(unused_tcp_port: int):
    result = await loadgen("--url", f"http://127.0.0.1:{unused_tcp_port}", "--wait", "0", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["ok"] is False


@pytest.mark.parametrize(
    "wrong",
    [
        ("--events", "0"),
        ("--topics", "0"),
        ("--duplicates", "1"),
        ("--duplicates", "nan"),
        ("--connections", "0"),
        ("--batch", "0"),
        ("--timeout", "0"),
        ("--give-up", "inf"),
        ("--url", "127.0.0.1:8080"),
        ("--url", "http://127.0.0.1:80800"),
    ],
)
async def test_wrong_argument_is_named(wrong: tuple[str, str]):
    result = await loadgen(*wrong)

    assert result.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in result.stderr


async def test_interrupt_ends_with_one_line(aiohttp_server: AiohttpServer):
    service = HonestService()
    service.troubles.extend(["late"] * 1000)
    server = await aiohttp_server(service.app())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTIBLE, "--url", str(server.make_url("/"))),
        stdout=PIPE,
        stderr=PIPE,
    )
    await service.got_batch.wait()
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    assert stderr.decode().count("\n") == 1
    assert stderr.startswith(b"Interrupted")


@pytest.mark.parametrize("missing", ["rich", "stamina"])
async def test_missing_extra_is_named(missing: str):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c"),
        f"import sys; sys.modules[{missing!r}] = None; {MAIN}",
        stdout=PIPE,
        stderr=PIPE,
    )
    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert "pip install 'event-aggregator[loadgen]'" in stderr.decode()
    assert b"Traceback" not in stderr
