"""Starts a plugin by its file name: `python -m rehearsal.plugins pulumi-resource-random ...`.

This entry, and only this one, skips the SDK before any message module is imported.
"""

import importlib
import sys

from rehearsal.plugins import MODULES, NEED_SDK
from runtime.pulumi_messages import skip_sdk


def main(arguments: list[str]) -> None:
    """Serves the plugin whose file name is the first argument, with the other arguments."""
    name = arguments[0] if arguments else ""
    if name not in MODULES:
        raise SystemExit(f"plugin: {name!r} is not one of {', '.join(MODULES)}")
    if name not in NEED_SDK:
        skip_sdk()
    importlib.import_module(MODULES[name]).main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
