"""Makes ``python -m loadgen.bench`` the command."""

from loadgen.bench.command import command

command()
