"""`python -m runtime.ops COMMAND …`: what operates stacks. Each command is a module with a `main`."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

# By name, because a command imports only what it needs, and boto3 takes a second.
COMMANDS: Final = {
    "container-images": "runtime.ops.container_images",
    "cost": "runtime.ops.cost",
    "evaluate": "runtime.ops.evaluation.command",
    "preview-comment": "runtime.ops.preview_comment",
    "prices": "runtime.ops.price_list",
    "teardown": "runtime.ops.teardown.command",
    "leftovers": "runtime.ops.teardown.leftovers",
    "reaper": "runtime.ops.teardown.reaper",
}


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit status."""
    module = COMMANDS.get(arguments[0]) if arguments else None
    if module is None:
        print(f"usage: python -m runtime.ops {{{','.join(COMMANDS)}}} …", file=sys.stderr)
        return 2
    return int(importlib.import_module(module).main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
