"""Policy pack lifecycle."""
