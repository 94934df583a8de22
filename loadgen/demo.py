"""`make demo`: runs the service and loadgen together, in a temporary folder."""

import subprocess
import sys
import tempfile

_INTERRUPTED = 130


def main() -> int:
    """Start the service on a free port, publish to it, stop it; the exit status is loadgen's."""
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
    sys.exit(main())
