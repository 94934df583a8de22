"""A seeded publisher that checks that what it sent is stored exactly once."""
