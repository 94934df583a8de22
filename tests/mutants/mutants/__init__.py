"""Plugins that break a promise on purpose: whoever proves the service has to find them out."""
