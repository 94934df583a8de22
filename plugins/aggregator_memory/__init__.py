"""A store and a queue in memory: nothing outlasts the process."""
