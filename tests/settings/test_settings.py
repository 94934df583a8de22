"""Settings come from four places, and every mistake in them is named at once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from added import with_stages
from aggregator.cli.main import main
from aggregator.config import load
from aggregator.core.redact import redact
from aggregator.errors import SettingError
from aggregator.pipeline.runner import PipelineSpec
from installed import install
from running import aggregator


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('host = "file"\nport = 1\nmax_events = 3\n')
    environ = {"AGGREGATOR_PORT": "2", "AGGREGATOR_HOST": "environment"}
    found = load({"config": str(file), "host": "flag"}, environ)
    in_force = found.settings
    assert (in_force.host, in_force.port, in_force.max_events) == ("flag", 2, 3)
    assert in_force.queue == "memory:"
    origins = [found.origins[name] for name in ("host", "port", "max_events", "queue")]
    assert origins == ["flag", "environment", f"file {file}", "default"]


def test_file_named_by_a_flag_wins_over_one_named_in_the_environment(tmp_path: Path) -> None:
    for name, port in (("flag", 1), ("environment", 2)):
        (tmp_path / name).write_text(f"port = {port}\n")
    environ = {"AGGREGATOR_CONFIG": str(tmp_path / "environment")}
    assert load({"config": str(tmp_path / "flag")}, environ).settings.port == 1


def test_file_can_be_named_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[stages.sample]\nrate = 0.5\n")
    found = load({}, {"AGGREGATOR_CONFIG": str(file)})
    assert found.stages == {"sample": {"rate": 0.5}}


def test_every_bad_setting_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'port = 99999\nconfig = "x"\nmax_events = 1.5\nqueu = "memory:"\n[stages]\nsample = 5\n'
    )
    with pytest.raises(SettingError) as raised:
        load({"config": str(file)}, {"AGGREGATOR_STAGE_TIMEOUT": "soon"})
    said = str(raised.value)
    for name in ("port", "config", "max_events", "queu", "stages.sample", "stage_timeout"):
        assert f"{name}: " in said
    assert f"from file {file}" in said
    assert "from environment" in said


def test_settings_that_only_plugins_can_judge_are_named_with_the_others() -> None:
    flags = ["--port", "x", "--store", "mongo://x", "--queue", "kafka:", "--pipeline", "dedup"]
    result = CliRunner().invoke(main, ["serve", *flags])
    assert result.exit_code == 2
    for said in ("port: 'x'", "there is no 'mongo'", "there is no 'kafka'", "exactly one bar"):
        assert said in result.output


def test_every_fault_of_a_pipeline_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('pipeline = "dedup nope | persist validate never"\n[stages.strange]\na = 1\n')
    result = CliRunner().invoke(main, ["serve", "--config", str(file)])
    assert result.exit_code == 2
    for said in (
        "strange is not in the pipeline",
        "dedup belongs right of the bar",
        "there is no 'nope'",
        "validate belongs left of the bar",
        "there is no 'never'",
    ):
        assert said in result.output


def test_stage_that_would_never_run_is_refused() -> None:
    plugins = with_stages(late="misbehaving:Filters")
    configuration = load({"pipeline": "validate | dedup persist late"}, {})
    assert plugins.problems(configuration) == [
        "pipeline: late would never run: persist stores events and hands none on"
    ]


def test_limits_that_contradict_each_other_are_named() -> None:
    with pytest.raises(SettingError, match="max_body: 999 is more than queue_bytes"):
        load({"max_event": "9", "max_body": "999", "queue_bytes": "99"}, {})


def test_limit_of_a_request_leaves_the_last_quarter_to_others() -> None:
    limits = {"max_body": 800, "max_event": 9, "queue_bytes": 1000}
    with pytest.raises(SettingError, match="max_body: 800 is more than 750, which one client"):
        load(limits, {})
    with pytest.raises(SettingError, match="max_events: 10000 is more than 7501"):
        load({"queue_events": 10_001}, {})
    assert load({**limits, "client_share": "0.8"}, {}).settings.max_body == 800
    assert load({**limits, "max_body": 750}, {}).settings.client_share == 0.25


@pytest.mark.parametrize("share", ["0", "-1", "1.1", "nan", "all"])
def test_share_is_a_part_of_the_whole(share: str) -> None:
    with pytest.raises(SettingError, match="client_share: "):
        load({"client_share": share}, {})


@pytest.mark.parametrize(
    "proxy", ["10.0.0.0/33", "10.0.0.1/8", "proxy.example", "unix:/a", "[::1]"]
)
def test_proxy_that_is_no_address_is_named(proxy: str) -> None:
    with pytest.raises(SettingError, match="proxies: "):
        load({"proxies": f"10.0.0.1, {proxy}"}, {})


def test_proxies_are_addresses_networks_and_sockets() -> None:
    proxies = "unix, 10.0.0.0/8,::1"
    assert load({"proxies": proxies}, {}).settings.proxies == proxies


def test_unknown_name_in_the_environment_warns(caplog: pytest.LogCaptureFixture) -> None:
    load({}, {"AGGREGATOR_SERVICE_HOST": "10.0.0.1"})
    assert "AGGREGATOR_SERVICE_HOST" in caplog.text


def test_port_that_kubernetes_injects_is_explained() -> None:
    with pytest.raises(SettingError, match="enableServiceLinks: false"):
        load({}, {"AGGREGATOR_PORT": "tcp://10.0.0.1:8080"})


@pytest.mark.parametrize("text", ["not = [toml", "\x00"])
def test_file_that_is_no_toml_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match="is not TOML"):
        load({"config": str(file)}, {})


def test_missing_file_stops_the_start() -> None:
    with pytest.raises(SettingError, match="cannot read"):
        load({"config": "/nowhere/a.toml"}, {})


@pytest.mark.parametrize(
    "text", ["dedup persist", "validate | dedup | persist", "a | b a", "", "validate |"]
)
def test_order_that_cannot_be_read_stops_the_start(text: str) -> None:
    with pytest.raises(SettingError, match="pipeline: "):
        PipelineSpec.parse(text)


def test_order_reads_like_the_picture() -> None:
    order = PipelineSpec.parse(" validate  |dedup persist ")
    assert (order.intake, order.batch) == (("validate",), ("dedup", "persist"))
    assert str(order) == "validate | dedup persist"


ELSEWHERE = """
from aggregator_memory.store import MemoryStore


class Elsewhere(MemoryStore):
    def __init__(self, url):
        super().__init__("memory:")
"""


def test_settings_command_shows_what_is_in_force_and_masks_secrets(tmp_path: Path) -> None:
    entry_points = "[aggregator.stores]\npostgresql = elsewhere:Elsewhere\n"
    environ = install(tmp_path, "elsewhere", ELSEWHERE, entry_points)
    environ["AGGREGATOR_STORE"] = "postgresql://me:hunter2@x@db/events?sslkey=hunter2"
    shown = aggregator(tmp_path, "settings", "--port", "9", environ=environ)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "postgresql://…@db/events?sslkey=…  environment" in shown.stdout
    assert "hunter2" not in shown.stdout
    lines = {line.split()[0]: line.split() for line in shown.stdout.splitlines()}
    assert lines["port"] == ["port", "9", "flag"]
    assert lines["host"][-1] == "default"


def test_secret_in_a_bad_setting_is_masked() -> None:
    with pytest.raises(SettingError) as raised:
        load({"store": "", "port": "//me:hunter2@x"}, {})
    assert "hunter2" not in str(raised.value)


def test_plugins_command_shows_slots_packages_and_pipeline() -> None:
    shown = CliRunner().invoke(main, ["plugins"])
    assert shown.exit_code == 0
    assert shown.output.rstrip().endswith("validate | dedup persist")
    for name in ("aggregator.stages", "dedup", "sqlite", "aggregator.queues", "event-aggregator"):
        assert name in shown.output


def test_unknown_flag_is_refused() -> None:
    assert CliRunner().invoke(main, ["serve", "--prot", "1"]).exit_code == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--store", "data.db"], "is no URL"),
        (["--store", "mongo://x"], "there is no 'mongo'; installed: memory, sqlite"),
        (["--store", "sqlite://data.db"], "should be sqlite:///relative/path.db"),
        (["--store", "sqlite:///"], "should be sqlite:///relative/path.db"),
        (["--store", "memory:x"], "should be 'memory:'"),
        (["--queue", "memory:x"], "should be 'memory:'"),
        (["--pipeline", "dedup | persist"], "dedup belongs right of the bar"),
        (["--pipeline", "validate | dedup validat"], "there is no 'validat'"),
        (["--pipeline", "| validate"], "validate belongs left of the bar"),
        (["--pipeline", "validate | dedup"], "no stage right of the bar stores events"),
        (["--pipeline", "validate | persist"], "no stage before persist claims the keys"),
        (["--pipeline", "| persist dedup"], "no stage before persist claims the keys"),
        (["--pipeline", "| dedup persist nope"], "there is no 'nope'"),
        (["--config", "/nowhere"], "cannot read /nowhere"),
        (["--port", "x"], "port: 'x' (from flag): Not a valid integer"),
    ],
)
def test_serve_says_what_it_cannot_start_with(flags: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["serve", *flags])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "value",
    [
        *("pg://me:hunter2@h/d", "pg://me:a@hunter2@h", "pg://me:a/hunter2@h", "nats://hunter2@h"),
        *("pg://h/d?password=hunter2", "pg://h?x=1&pw=hunter2", "host=h password=hunter2"),
        *({"password": "hunter2"}, {"inner": {"token": "hunter2"}}, [{"auth": "hunter2"}]),
    ],
)
def test_secret_is_not_shown_wherever_it_stands(value: object) -> None:
    assert "hunter2" not in redact("store", value)
