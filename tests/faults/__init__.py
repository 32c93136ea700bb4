"""Faults against a whole platform: what is broken, when, and what must hold afterwards."""
