"""Evaluation of served models: a job on Clarify's contract, metrics by well-kept libraries, and a gate."""
