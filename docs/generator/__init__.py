"""Writes the generated pages of `docs/`: configuration, one page per component, one per policy."""
