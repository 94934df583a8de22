"""Medians, ratios and what is made of them."""

import platform
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from samples import contest, filled, growth, results

from loadgen.bench.drawing import bars, curves
from loadgen.bench.machine import versions
from loadgen.bench.page import page, write_page
from loadgen.bench.results import Growth, Step, from_json, to_json
from loadgen.bench.tables import losses
from loadgen.bench.terminal import table


def test_rate_is_the_median_of_rounds_that_went_well() -> None:
    found = contest("ours-100", "ours", 300, None, 100, 200)
    assert found.rate == 200
    assert found.spread == (100, 300)
    assert found.processor == pytest.approx(0.5 / 200 * 1e6)


def test_ratio_is_taken_within_rounds() -> None:
    """The machine was twice as fast in the last round; that is no merit of anybody."""
    ours = contest("ours-100", "ours", 300, None, 330, 600)
    bare = contest("sqlite", "limits", 100, 100, None, 200)
    assert results(ours, bare).ratio("ours-100", "sqlite") == 3
    assert results(ours).ratio("ours-100", "sqlite") is None


def test_results_come_back_from_json_as_they_were() -> None:
    found = results(contest("ours-100", "ours", 3, None, p99=5.0))
    found.growth = growth()
    assert from_json(to_json(found)) == found


def test_page_is_made_of_the_json_and_nothing_else(tmp_path: Path) -> None:
    found = results(contest("ours-100", "ours", 30, p99=5.0), contest("sqlite", "limits", 10))
    found.growth = growth()
    write_page(tmp_path / "measured.md", found)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(written) == {
        "measured.md",
        "measured.json",
        "measured.svg",
        "measured-growth.svg",
    }
    again = from_json((tmp_path / "measured.json").read_bytes())
    assert page("measured", again) == written["measured.md"]
    assert bars(again) == written["measured.svg"]
    assert again.growth
    assert curves(again.growth) == written["measured-growth.svg"]


def test_one_who_was_skipped_or_failed_is_named_with_the_reason() -> None:
    skipped, failed = contest("away", "peers"), contest("odd", "peers", 10, None)
    skipped.trouble, failed.trouble = "skipped: no such thing", "a round failed: 3 are missing"
    found = results(contest("ours-100", "ours", 30), skipped, failed)
    for said in (page("x", found), "\n".join(table(found))):
        assert "skipped: no such thing" in said
        assert "a round failed: 3 are missing" in said
    assert "the away" not in bars(found)


def test_page_says_where_we_lose() -> None:
    found = results(
        contest("ours-100", "ours", 100, p99=9.0, memory=60),
        contest("ours-100-ordered", "ours", 200),
        contest("sqlite-ordered", "limits", 300),
        contest("faster", "peers", 250, p99=10.0, memory=70),
        contest("calmer", "peers", 50, p99=3.0, memory=70),
        contest("smaller", "peers", 50, memory=20),
        contest("worse", "peers", 50, p99=30.0, memory=70),
    )
    said = "\n".join(losses(found))
    assert "**the sqlite-ordered**: 1.50 times as many events a second" in said
    assert "**the faster**: 2.50 times as many events a second" in said
    assert "**the calmer**: p99 3.0 ms at half its highest rate, ours 9.0 ms" in said
    assert "**the smaller**: 20 MiB of memory, ours 60" in said
    assert "worse" not in said


def test_best_peer_is_one_that_promises_the_same() -> None:
    slow, fast = contest("slow", "peers", 10), contest("fast", "peers", 20)
    slow.is_same = fast.is_same = True
    found = results(contest("ours-100", "ours", 60), slow, fast, contest("less", "peers", 90))
    assert found.best_peer is fast
    said = page("x", found)
    assert "the fastest that promises the same: the fast | 3.00 |" in said


def test_page_says_what_growing_costs() -> None:
    found = results(contest("ours-100", "ours", 100))
    found.growth = growth()
    assert "**With 4,000 events stored** the service is at 0.25" in page("x", found)


def test_pictures_are_well_formed_and_readable_in_the_dark() -> None:
    found = results(contest("ours-100", "ours", 30), contest("a < b & c", "peers", 10))
    for picture in (bars(found), curves(growth())):
        root = ET.fromstring(picture)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme: dark" in picture


def test_growth_is_the_median_of_the_last_five_steps_against_the_first() -> None:
    rates = (100, 10, 95, 90, 85, 80, 20)
    steps = [Step(size=at + 1, events=rate, seconds=1) for at, rate in enumerate(rates)]
    assert Growth(ours=steps).share == 0.85


def test_how_python_was_built_is_told() -> None:
    told = versions(sys.executable)["Python"]
    assert told.startswith(f"{platform.python_version()} ({platform.python_compiler()}")
    assert "PGO" in told
    assert "LTO" in told


def test_noise_of_the_bare_programs_is_said_before_what_was_measured() -> None:
    noisy = results(contest("ours-100", "ours", 30), contest("sqlite", "limits", 100, 121))
    told = page("x", noisy)
    assert told.index("| the sqlite | 100 | 121 | 1.21 |") < told.index("![Rates of all]")
    quiet = results(contest("ours-100", "ours", 10, 30), contest("sqlite", "limits", 100, 120))
    assert "not quiet" not in page("x", quiet)


def test_filled_store_is_told_with_ratios_medians_bytes_and_what_failed() -> None:
    found = results(contest("ours-100", "ours", 30))
    found.filled = filled()
    told = page("x", found)
    assert "## With 1,000 events stored" in told
    assert "| the new | 100 | 16 | 2500.0 | 225 | 150, 300 | 1.50 |" in told
    assert "| a topic | one page | 100 | 1 | 2.0 | 1.0, 3.0 |" in told
    assert "| events | 1,000 | 220 | 300 |" in told
    for said in (told, "\n".join(table(found))):
        assert "a round failed: 3 are missing" in said
        assert "it failed: 503" in said
    assert from_json(to_json(found)) == found


def test_growth_of_cloudevents_has_bytes_written_and_no_other_columns() -> None:
    found = results(contest("ours-100", "ours", 30))
    found.cloudevents = Growth([Step(1000, 800, 1.0, written=84_000), Step(3000, 1600, 2.0)])
    found.cloudevents.ours[1].written = 500_000
    told = page("x", found).partition("## While a store of CloudEvents grows")[2]
    assert "| 1,000 | 800 | 1.00 | 84 | – | – |" in told
    assert "| 3,000 | 800 | 1.00 | 250 | – | – |" in told
    assert "bare SQLite, events/s" not in told.partition("##")[0]


def test_page_says_where_bare_sqlite_is_ahead_on_a_filled_store() -> None:
    found = results(contest("ours-100", "ours", 30))
    found.filled = filled()
    found.filled.mixes.append(contest("again", "ours", 50, 150))
    said = list(losses(found))
    assert said == ["**the again, with 1,000 stored**: 0.62 of the rate of the sqlite."]
