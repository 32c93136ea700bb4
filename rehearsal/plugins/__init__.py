"""Pulumi plugins of our own, for machines where the official ones cannot be downloaded."""
