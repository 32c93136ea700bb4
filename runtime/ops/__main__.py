"""Operations from the command line: `python -m runtime.ops COMMAND`."""

import argparse
import sys
from collections.abc import Sequence

from runtime.ops import cost, preview_comment
from runtime.ops.command import Command

COMMANDS: tuple[Command, ...] = (cost.COMMAND, preview_comment.COMMAND)


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime.ops")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.arguments(own)
        own.set_defaults(run=command.run)
    given = parser.parse_args(arguments)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
