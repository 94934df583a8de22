"""Prints how many events an SQLite file has."""

import sqlite3
import sys

print(*sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM events").fetchone())  # noqa: T201
