"""Starts a plugin by its file name: `python -m rehearsal.plugins pulumi-resource-random ...`.

A plugin needs grpc and the generated messages of the SDK, but not the SDK: importing `pulumi` takes
0.3 s of the 0.5 s that a start takes then, at every preview and for every plugin. So this entry, and only
this one, registers `pulumi` and `pulumi.runtime` as bare packages before any message module is imported.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from rehearsal.plugins import MODULES, NEED_SDK


def skip_sdk() -> None:
    """Makes `pulumi.runtime.proto` importable in this process without running the SDK's own imports.

    After it `pulumi` itself is an empty package here, so this is for plugin processes only.
    """
    spec = importlib.util.find_spec("pulumi")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pulumi is not installed here; run `make setup`", name="pulumi")
    root = spec.submodule_search_locations[0]
    for name, folder in (
        ("pulumi", root),
        ("pulumi.runtime", f"{root}/runtime"),
        ("pulumi.runtime.proto", f"{root}/runtime/proto"),
    ):
        package = ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package


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
