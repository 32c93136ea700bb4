"""The burst simulator: our decision core against other policies, on generated traces or a file."""

from benchmarks.burst.compare import add_arguments, main

__all__ = ["add_arguments", "main"]
