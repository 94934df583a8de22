"""A seeded publisher that proves that what it sent is stored once, and nothing is lost."""
