"""A power cut, worked out: what a disk may hold after one, at any moment of a real run.

`recording` runs the real service under strace and keeps every write, sync and answer as `steps`;
`disk` says what of them may be left after a cut; `cuts` chooses moments and what survives; and
`promises` opens what is left with the service itself, and holds it to what it had answered.
"""
