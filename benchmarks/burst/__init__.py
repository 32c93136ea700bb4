"""The burst simulator: our decision core against other policies, on generated traces or a file."""
