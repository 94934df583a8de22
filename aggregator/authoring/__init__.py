"""What authors of stages work with before they package one: `aggregator try`, `new-stage`."""
