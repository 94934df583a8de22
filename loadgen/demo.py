"""`make demo`: runs the service and loadgen together, in a temporary folder."""

import subprocess
import sys
import tempfile

import click

_INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run the service and loadgen together, in a temporary folder.

    The service listens on a free port, and is stopped in the end.

    \b
    Example:
      python loadgen/demo.py

    The exit status is that of loadgen.
    """
    sys.exit(run())


def run() -> int:
    """Start the service, publish to it, stop it; the exit status."""
    with tempfile.TemporaryDirectory(prefix="aggregator-demo-") as folder:
        service = subprocess.Popen(
            [sys.executable, "-m", "aggregator", "serve", "--port", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert service.stdout
        try:
            first = service.stdout.readline()
            if " listens on " not in first:
                return service.wait() or 1
            sys.stdout.write(first)
            sys.stdout.flush()
            return subprocess.call(  # noqa: S603, our own command
                [sys.executable, "-m", "loadgen", "--url", first.split()[-1]]
            )
        except KeyboardInterrupt:
            return _INTERRUPTED
        finally:
            service.terminate()
            service.wait()


if __name__ == "__main__":
    command()
