"""What a command of `python -m runtime.ops` is."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: What it is called by.
        summary: What it does, in a line.
        arguments: Adds its options to a parser.
        run: Does it; returns the exit status.
    """

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def main(self, given: Sequence[str]) -> int:
        """Runs it with the words after its name; returns the exit status."""
        parser = argparse.ArgumentParser(prog=f"python -m runtime.ops {self.name}", description=self.summary)
        self.arguments(parser)
        return self.run(parser.parse_args(given))
