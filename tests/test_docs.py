"""The docs name everything that there is, and nothing else."""

import re
from collections import Counter
from pathlib import Path

import pytest

from aggregator import config
from aggregator.api.status import Stats
from aggregator.app import create_app
from aggregator.cli.main import COMMANDS
from aggregator.config import load
from aggregator.plugins import Plugins

ROOT = Path(__file__).parent.parent
_LINES = re.DOTALL | re.MULTILINE
DOCS = sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md"))
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("setting", config.each(), ids=lambda setting: setting.name)
def test_every_setting_is_in_the_docs(setting: config.Field) -> None:
    docs = (ROOT / "docs" / "settings.md").read_text()
    default = str(setting.default).replace("|", "\\|")
    unit, meaning = setting.metadata["unit"], setting.metadata["help"]
    row = f"| `{setting.name}` | `{default}` | {unit} | {meaning} |"
    assert row in docs, f"docs/settings.md lacks the row:\n{row}"


def test_settings_stand_in_the_docs_in_order_under_their_headings() -> None:
    docs = (ROOT / "docs" / "settings.md").read_text().partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for heading, name in re.findall(r"^\*\*(.+)\*\*$|^\| `(\w+)` \|", docs, re.MULTILINE):
        if heading:
            found[heading] = []
        else:
            found[list(found)[-1]].append(name)
    assert found == {heading: list(names) for heading, names in config.HEADINGS.items()}
    inner = [name for names in found.values() for name in names]
    assert inner == [setting.name for setting in config.each()]


@pytest.mark.parametrize("plugin", Plugins.installed().found, ids=str)
def test_every_plugin_is_in_the_docs(plugin: str) -> None:
    if plugin.package.startswith("event-aggregator "):
        assert f"`{plugin.name}" in (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`aggregator {command}`" in README


def test_every_endpoint_is_in_the_docs() -> None:
    app = create_app(load({"store": "memory:"}, {}), Plugins.installed())
    docs = (ROOT / "docs" / "http-api.md").read_text()
    calls = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }
    assert len(calls) >= 6
    for call in calls:
        assert f"## `{call}`" in docs, call


def test_every_number_of_the_stats_is_in_the_docs() -> None:
    docs = (ROOT / "docs" / "http-api.md").read_text()
    section = docs.partition("\n## `GET /stats`\n")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = [name for first in firsts for name in re.findall(r"`(\w+)`", first)]
    assert named == list(Stats.__struct_fields__)


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path in DOCS:
        named = re.findall(r"(?:^\$ |`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)
        assert set(named) <= set(targets), path.name


def slugs(page: str) -> set[str]:
    """The headings of a page as GitHub calls them in links."""
    found: Counter[str] = Counter()
    prose = re.sub(r"^```.*?^```", "", page, flags=_LINES)
    for heading in re.findall(r"^#+ (.+?)#*$", prose, re.MULTILINE):
        shown = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading.strip())
        found[re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")] += 1
    return {
        f"{slug}-{number}" if number else slug
        for slug, times in found.items()
        for number in range(times)
    }


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = r"(?:\]\(|src=\"|srcset=\")(?!https?:)([^)#\"\s]*)(?:#([^)\"\s]+))?"
    for link, anchor in re.findall(links, path.read_text()):
        target = path.parent / link if link else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in slugs(target.read_text()), f"{path.name}: {link}#{anchor}"


def test_slugs_are_those_of_github() -> None:
    page = "# `GET /stats`, and more\n```sh\n# no heading\n```\n## [A](b.md) a_b-c\n"
    page += 2 * "## Twice\n"
    assert slugs(page) == {"get-stats-and-more", "a-a_b-c", "twice", "twice-1"}


def test_files_that_contributors_are_sent_to_are_there() -> None:
    named = re.findall(r"`(\w+/[\w/.]*|\w+\.(?:cfg|toml|md))`", CONTRIBUTING)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", re.findall(r"-m pytest (\S+\.py\S*)$", CONTRIBUTING, re.MULTILINE))
def test_test_that_contributors_are_shown_is_there(path: str) -> None:
    file, _, name = path.partition("::")
    assert f"def {name}" in (ROOT / file).read_text()
