"""The entry of the command `loadgen`, which says so when its extra is not installed."""

import sys

EXTRA = ("rich", "stamina")


def main() -> None:
    """Run the command."""
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
