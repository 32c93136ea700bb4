"""Policy pack llm_security."""
