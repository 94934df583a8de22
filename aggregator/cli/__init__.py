"""The command `aggregator`, one file a command."""
