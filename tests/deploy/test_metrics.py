"""`/metrics`, and the alerts and the dashboard that are made of it."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from added import with_stages
from aggregator.app import SENDERS
from aggregator.core.metrics import LAG_LOOKED_AT, Histogram
from aggregator.pipeline.worker import Worker
from aggregator.store import OUTCOMES
from aggregator_sqlite.connection import SqliteThread
from aggregator_sqlite.store import SqliteStore
from conftest import Client, Start
from events import event
from imports import ROOT
from running import Service, aggregator

DEPLOY, DOCS = ROOT / "deploy", ROOT / "docs"
NAME = re.compile(r"\baggregator_[a-z_]+")
PARTS = re.compile("_(bucket|sum|count|total)$")


def promtool(*arguments: str, given: str = "") -> str:
    """What it says; fails where it finds a fault."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    ran = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


async def scraped(client: Client) -> str:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.text()


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return values(text)[f"aggregator_{name}", tuple(sorted(labels.items()))]


async def _use(client: Client) -> None:
    """Have everything happen that is counted."""
    batch = [event("1"), event("1"), event("1", payload={"is": "other"}), event("")]
    async with client.post("/publish", json=batch) as answer:
        assert answer.status == 207
    async with client.post("/publish", json=event("2", payload={"is": "bad"})) as answer:
        assert answer.status == 500
    for method, path in (("GET", "/none"), ("POST", "/publish"), ("PURGE", "/events")):
        async with client.request(method, path) as answer:
            assert answer.status >= 400


@pytest.fixture
async def used(start: Start) -> str:
    """The metrics of a service in which everything has happened."""
    client = await start(
        with_stages(odd="misbehaving:Raises"), pipeline="validate | dedup odd persist"
    )
    await _use(client)
    return await scraped(client)


async def test_prometheus_finds_no_fault_in_the_metrics(used: str) -> None:
    promtool("check", "metrics", given=used)


async def test_what_has_happened_is_counted(used: str) -> None:
    for outcome in ("stored", "duplicate", "conflict", "invalid"):
        assert value(used, "events_total", outcome=outcome) == 1, outcome
        assert value(used, "store_events", outcome=outcome) == 1, outcome
    publish = {"route": "/publish", "method": "POST"}
    assert value(used, "http_requests_total", **publish, code="207") == 1
    assert value(used, "http_requests_total", **publish, code="500") == 1
    assert value(used, "http_requests_total", route="none", method="GET", code="404") == 1
    assert value(used, "http_requests_total", route="none", method="other", code="405") == 1
    assert value(used, "http_request_duration_seconds_count", route="/publish") == 3
    assert value(used, "rejected_total", code="500", reason="stage_fault") == 1
    assert value(used, "rejected_total", code="404", reason="not_found") == 1
    assert value(used, "rejected_total", code="415", reason="unsupported") == 1
    assert value(used, "stage_failures_total", stage="odd") >= 1
    assert value(used, "stage_duration_seconds_count", stage="validate") == 2
    assert value(used, "commit_duration_seconds_count") >= 1
    assert value(used, "queue_wait_seconds_count") == 2
    assert value(used, "batch_events_sum") == 5
    assert value(used, "ready") == 1
    assert value(used, "last_seq") == 1
    assert value(used, "queue_events") == value(used, "queue_bytes") == 0
    assert value(used, "queue_events_limit") == 50_000
    assert value(used, "store_bytes", part="database") > 0
    assert value(used, "log_messages_total", level="error") >= 1


async def test_made_up_methods_and_paths_make_no_series(client: Client) -> None:
    before = len(values(await scraped(client)))
    for number in range(5):
        async with client.request(f"ODD{number}", f"/path-{number}") as answer:
            assert answer.status in (400, 404)
        async with client.request("LOCK", f"/path-{number}") as answer:
            assert answer.status == 404
    some = len(values(await scraped(client)))
    for number in range(5, 50):
        async with client.request("LOCK", f"/path-{number}") as answer:
            assert answer.status == 404
    assert len(values(await scraped(client))) == some
    assert before < some


async def test_nothing_is_asked_of_the_database(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()
    await scraped(client)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the database was asked")

    for call in ("run", "submit"):
        monkeypatch.setattr(SqliteThread, call, fail)
    text = await scraped(client)
    monkeypatch.undo()
    assert value(text, "ready") == 1


@pytest.mark.every_store
async def test_every_store_has_the_numbers_that_do_not_depend_on_it(start: Start) -> None:
    client = await start()
    await _publish(client, 3)
    text = await scraped(client)
    assert value(text, "last_seq") == value(text, "store_events", outcome="stored") == 3
    assert value(text, "topics") == 1


@pytest.mark.parametrize(
    ("name", "label", "values_"),
    [
        ("log_messages_total", "level", ("info", "warning", "error", "critical")),
        ("stage_failures_total", "stage", ("validate", "dedup", "persist", "dedup persist")),
        ("events_total", "outcome", OUTCOMES),
    ],
)
async def test_series_begin_with_nothing_so_that_the_first_time_is_an_increase(
    client: Client, name: str, label: str, values_: tuple[str, ...]
) -> None:
    text = await scraped(client)
    for each in values_:
        assert value(text, name, **{label: each}) == 0


async def test_event_loop_that_was_blocked_is_seen_by_who_looks_later(client: Client) -> None:
    await asyncio.sleep(0.1)
    time.sleep(1)
    await asyncio.sleep(3 * LAG_LOOKED_AT)
    assert value(await scraped(client), "event_loop_lag_seconds") >= 0.4


async def test_batch_that_hangs_is_not_ready_wherever_that_is_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "hangs", True)
    async with client.get("/readyz") as answer:
        assert answer.status == 503
    assert value(await scraped(client), "ready") == 0


async def test_what_only_reads_tells_nothing_that_it_would_have_to_ask_for(start: Start) -> None:
    writing = await start()
    await _publish(writing, 1)
    reading = await start(read_only=True)
    await _publish(writing, 5)
    text = await scraped(reading)
    assert value(text, "ready") == 1
    assert value(text, "store_bytes", part="database") > 0
    named = {name for name, _ in values(text)}
    kept = {"store_events", "topics", "quarantine_events", "last_seq"}
    assert not named & {f"aggregator_{name}" for name in kept}


async def test_store_that_cannot_tell_its_size_keeps_nothing_else_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: SqliteStore) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SqliteStore, "measure", fail)
    text = await scraped(client)
    assert value(text, "ready") == 1
    assert "aggregator_disk_free_bytes" not in text


async def test_it_can_be_looked_at_while_too_much_waits_to_be_read(client: Client) -> None:
    for sender in client.app[SENDERS]:
        sender.budget.add("somebody", sender.budget.most + 1)
    async with client.get("/events") as answer:
        assert answer.status == 503
    assert value(await scraped(client), "ready") == 1


async def _publish(client: Client, count: int) -> None:
    batch = [event(str(number)) for number in range(count)]
    async with client.post("/publish", json=batch) as answer:
        assert answer.status == 200


async def test_format_is_named_as_prometheus_knows_it(client: Client) -> None:
    accepted = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    async with client.get("/metrics", headers={"Accept": accepted}) as answer:
        told = answer.headers.getall("Content-Type")
        assert told == ["text/plain; version=0.0.4; charset=utf-8"]


async def test_without_the_library_it_is_said_how_to_have_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with client.get("/metrics") as answer:
        assert answer.status == 404
        assert "pip install 'event-aggregator[metrics]'" in await answer.text()


def test_histogram_counts_a_value_at_the_first_bound_that_holds_it() -> None:
    histogram = Histogram((1, 2))
    for number in (0.5, 1, 1.5, 2, 3):
        histogram.observe(number)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 8


def test_metrics_have_a_port_of_their_own(service: Service, unused_tcp_port: int) -> None:
    made = aggregator(
        service.folder, "token", "new", "a", "--scope", "publish", "--tokens", "tokens.json"
    )
    assert made.returncode == 0
    service.start("--tokens", "tokens.json", "--metrics-port", str(unused_tcp_port))
    assert service.call("/metrics")[0] == 401
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        assert b"aggregator_ready 1.0" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/events", timeout=10)
    assert service.stop() == 0


def test_rules_are_sound_and_each_fires_when_it_should() -> None:
    promtool("check", "rules", str(DEPLOY / "alerts.yaml"))
    promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yaml")))


def test_every_rule_has_a_test_and_a_row_in_the_docs() -> None:
    alerts = re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yaml").read_text())
    tests = Path(__file__).with_name("alerts_test.yaml").read_text()
    tested = re.findall(r"- name: (Aggregator\w+)", tests)
    assert tested == alerts
    for alert in alerts:
        assert f"| `{alert}` |" in (DOCS / "metrics.md").read_text()


async def test_alerts_and_dashboard_name_nothing_that_is_not_there(used: str) -> None:
    there = {sample for sample, _ in values(used)} | {PARTS.sub("", one) for one, _ in values(used)}
    for file in ("alerts.yaml", "grafana.json"):
        named = set(NAME.findall((DEPLOY / file).read_text()))
        assert len(named) > 5
        assert named <= there, file


async def test_docs_name_every_metric_and_no_other(used: str) -> None:
    families = {
        f"{family.name}{'_total' * (family.type == 'counter')}"
        for family in text_string_to_metric_families(used)
    }
    table = (DOCS / "metrics.md").read_text().partition("## The numbers")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(aggregator_[a-z_]+)", table)) == families


def test_every_panel_of_the_dashboard_asks_for_something() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    for panel in panels:
        assert panel["title"]
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])


def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": one.replace("$__rate_interval", "5m")}
        for number, one in enumerate(asked)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))
