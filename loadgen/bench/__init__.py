"""Measures the service beside its limits and its peers, on one machine and in turns."""
