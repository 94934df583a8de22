"""Others that can do the same job, each set up to promise as much as it can."""
