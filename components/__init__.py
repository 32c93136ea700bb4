"""Pulumi ComponentResources: what the scenarios are built from."""
