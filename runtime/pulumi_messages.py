"""Makes Pulumi's generated messages importable without the SDK around them.

A plugin needs grpc and the messages, but not the SDK: importing `pulumi` takes 0.3 s of the 0.5 s that a
start takes then, at every preview and for every plugin.
"""

import importlib.util
import sys
from types import ModuleType


def skip_sdk() -> None:
    """Makes `pulumi.runtime.proto` importable in this process without running the SDK's own imports.

    After it `pulumi` itself is an empty package here, so this is for plugin processes only. Where the SDK is
    imported already, nothing changes.

    Raises:
        ModuleNotFoundError: The SDK is not installed.
    """
    if "pulumi" in sys.modules:
        return
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
