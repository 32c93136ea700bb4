"""Finds, downloads or builds the pinned tools, once, into a per-user cache."""
