"""Pulumi plugins of our own, for machines where the official ones cannot be downloaded.

Each plugin is a process that the engine starts by file name and talks to over gRPC; the first line it
prints is its port. `launchers` writes those files into a folder for PATH.
"""

from types import MappingProxyType

MODULES = MappingProxyType(
    {
        "pulumi-language-python": "rehearsal.plugins.language_host",
        "pulumi-resource-random": "rehearsal.plugins.random_provider",
        "pulumi-resource-aws": "rehearsal.aws.provider",
    }
)
"""File name that the engine looks for on PATH, and the module here whose `main(arguments)` serves it."""

NEED_SDK = frozenset({"pulumi-resource-aws"})
"""Those that look into an SDK's classes, and so cannot do without the SDK."""

EXEC_SCRIPT = "pulumi-language-python-exec"
"""The SDK's script that runs a Python program. The language host finds it beside its own launcher."""
