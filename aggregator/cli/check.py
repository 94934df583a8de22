"""`aggregator check`: reads a whole store, and tells what is damaged, as a doctor would."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import click
import msgspec

from aggregator.cli.options import fail, with_settings
from aggregator.config import load
from aggregator.core.fault_log import in_a_line
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.store import Checked, ChecksItself, Store

_EXIT_DAMAGED = 1
_PROBE_CRITICAL, _PROBE_UNKNOWN = 2, 3
_LONGEST = 500  # bytes of a probe's line; monitoring systems cut long ones
_PAUSE = 0.2  # seconds between two looks at how far it is


@click.command(name="check")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--probe", is_flag=True, help="One line for a monitoring system, with its statuses.")
@click.option(
    "--accept-missing-log",
    "accepts",
    is_flag=True,
    help="Go on without a log that is missing, and what was in it alone; then check.",
)
@with_settings("store")
def command(as_json: bool, probe: bool, accepts: bool, **flags: Any) -> None:
    """Read a whole store, and tell what is damaged.

    It says what is not as it was written, what that means, and what to do about it. The service may
    run meanwhile: nothing is changed, but by --accept-missing-log. What is read is covered by
    checksums, and what is derived from the events (topics, counters, indexes) is held against them.

    \b
    Example:
      aggregator check --store sqlite:///data/aggregator.db

    \b
    Exit status:
      0  nothing is damaged
      1  something is
      2  it could not be looked at, or that was interrupted; why is said

    \b
    Exit status with --probe:
      0  OK
      2  CRITICAL: something is damaged
      3  UNKNOWN: it could not be looked at
    """
    if probe and (as_json or accepts):
        raise click.UsageError("--probe goes with none of --json and --accept-missing-log")
    give_up = _unknown if probe else fail
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    begun = time.monotonic()
    try:
        configuration = load(flags, os.environ)
        store = Plugins.installed().store(configuration.settings)
        if accepts:
            click.echo(asyncio.run(accept(store)), err=as_json)
        checked = asyncio.run(check(store, shows_progress=sys.stderr.isatty()))
    except AggregatorError as error:
        give_up(error)
    except KeyboardInterrupt:
        give_up(SettingError("check: interrupted; nothing is known of the store"))
    if probe:
        sys.exit(_probed(checked, time.monotonic() - begun))
    if as_json:
        click.echo(msgspec.json.encode(checked))
    else:
        click.echo(report(checked, store.about(), time.monotonic() - begun))
    sys.exit(_EXIT_DAMAGED if checked.findings else 0)


def _probed(checked: Checked, seconds: float) -> int:
    """Tell it in a line, as plugins of monitoring systems do; the exit status."""
    data = f" | events={checked.events};;;0 seconds={seconds:.3f}s;;;0"
    if checked.findings:
        what = "; ".join(finding.what for finding in checked.findings)
        click.echo(_probe_line("CRITICAL", f"damaged: {what}") + data)
        return _PROBE_CRITICAL
    told = f"nothing is damaged in {checked.events:,} events up to seq {checked.last_seq}"
    click.echo(_probe_line("OK", told) + data)
    return 0


def _unknown(error: AggregatorError) -> NoReturn:
    click.echo(_probe_line("UNKNOWN", str(error)))
    sys.exit(_PROBE_UNKNOWN)


def _probe_line(status: str, told: str) -> str:
    # What stands behind a bar is data.
    text = in_a_line(" ".join(told.split()).replace("|", "/"), _LONGEST)
    return f"AGGREGATOR {status} - {text}"


async def check(store: Store, *, shows_progress: bool = False) -> Checked:
    """Check the store, and show meanwhile how far it is.

    Raises SettingError or StoreError where there is no store, or it cannot be looked at.
    """
    checking = _checking(store)
    showing = asyncio.create_task(_show(store)) if shows_progress else None
    try:
        return await checking.check()
    finally:
        if showing:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing


async def accept(store: Store) -> str:
    """Accept that the store's log is missing; what that means, for the operator.

    Raises SettingError or StoreError where there is no store, or somebody has it open.
    """
    last_seq = await _checking(store).accept_missing_log()
    if last_seq is None:
        return "no log is missing, and nothing was changed"
    return (
        f"the missing log is accepted: the next start goes on with what is there, up to seq "
        f"{last_seq}\nwhat was answered after that may be lost. Publishers that still have it send "
        "it again: what is there is a duplicate, all else is stored. Seqs after that are given "
        "again\nwhere another program has opened the file since, sqlite3 say, it has copied the "
        "log into it as it ended: then nothing is lost"
    )


def _checking(store: Store) -> ChecksItself:
    if not isinstance(store, ChecksItself):
        raise SettingError(f"store: this one cannot be checked: {store.about()}")
    return store


async def _show(store: Store) -> None:
    """Write on one line of the terminal what it is about; leave none."""
    try:
        while True:
            click.echo(f"\r\x1b[K{store.doing}", nl=False, err=True)
            await asyncio.sleep(_PAUSE)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def report(checked: Checked, about: str, seconds: float) -> str:
    """What to tell the operator."""
    plural = "s" * (checked.events != 1)
    lines = [
        f"{about}: {checked.events:,} event{plural} up to seq {checked.last_seq}, "
        f"read in {seconds:.1f} s"
    ]
    if checked.is_running:
        lines.append("a service has it open: what it stores meanwhile is read as far as it gets")
    for finding in checked.findings:
        lines += ["", f"DAMAGED  {finding.what}"]
        lines += [f"  means  {finding.means}", f"  do     {finding.do}"]
    lines += ["", "OK: nothing is damaged"] if not checked.findings else []
    return "\n".join(lines)
