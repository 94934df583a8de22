"""Takes events over HTTP, stores each exactly once, and tells the publisher what became of it."""

__version__ = "0.1.0"
