"""Runs, submits, publishes and judges evaluations: what of them needs AWS or a tracking server."""
