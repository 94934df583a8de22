"""The command ``loadgen``, which needs more than the service does and says so."""

import sys

EXTRA = ("rich", "stamina")


def main() -> None:
    try:
        from loadgen.command import command  # noqa: PLC0415 a missing extra is explained below
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.stderr.write(
            f"loadgen needs {package}, which its extra installs: "
            "pip install 'event-aggregator[loadgen]'\n"
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
