"""The way of an event: left of the bar, over the queue, through the worker, to its outcome."""
