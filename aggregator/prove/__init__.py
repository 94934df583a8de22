"""`aggregator prove`: kills a service of its own again and again, and checks every answer."""
