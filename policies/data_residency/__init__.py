"""Policy pack data_residency."""
