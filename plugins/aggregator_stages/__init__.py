"""The stages that the default pipeline is made of: validate, dedup and persist."""
