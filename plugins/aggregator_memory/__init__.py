"""A store and a queue that live in this process and end with it."""
