"""What a command of `python -m runtime.ops` is."""

import argparse
from collections.abc import Callable
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
