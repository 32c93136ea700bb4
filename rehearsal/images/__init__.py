"""Builds Spillway's own images without a daemon, publishes them, and hands them to the embedded site.

The recipes are in `images/` at the project's root. What they give is an OCI layout in the user's cache.
"""
