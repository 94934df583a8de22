"""`python -m aggregator` is the command `aggregator`."""

from aggregator.command import main

main()
