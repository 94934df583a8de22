"""What the rest stands on: JSON values, times, keys and digests, policies, byte budgets."""
