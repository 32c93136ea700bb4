"""What a stack file declares, as a first preview would see it, without engine, cluster or account.

`python -m stacks.declared FILE` prints it in the form of an exported state. The program runs for real; in the
engine's place something only listens, so whatever a provider would answer is unknown. Nothing is looked up:
neither the cluster's objects nor the account's quotas, which `pulumi preview` asks for.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, settings, stack

from runtime.stack_file import list_mistakes, parse_stack_file
from runtime.stack_resources import StackResource, from_state
from stacks import check
from stacks.settings import Settings, SettingsError, read

_PROJECT = "spillway"


class _NoAnswers(mocks.Mocks):
    """Every resource is as it was asked for; what only a provider would know stays unknown."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return None, cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType]

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise NotImplementedError(f"the program calls {args.token}, and there is no provider to answer")


class _Listener(mocks.MockMonitor):
    """Takes down what the program registers, in the words of an exported state."""

    def __init__(self) -> None:
        super().__init__(_NoAnswers())
        self.taken: list[dict[str, Any]] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - name of the RPC
        made = super().RegisterResource(request)  # pyright: ignore[reportUnknownMemberType]
        self.taken.append(
            {
                "urn": str(made.urn),
                "type": str(request.type),
                "custom": bool(request.custom),
                "parent": str(request.parent),
                "provider": str(request.provider),
                "dependencies": [str(urn) for urn in request.dependencies],
                "protect": bool(request.protect),
                "retainOnDelete": bool(request.retainOnDelete),
                "inputs": json_format.MessageToDict(request.object),
            }
        )
        return made


def declared(platform: Settings, name: str = "preview") -> tuple[StackResource, ...]:
    """All resources that a stack with these settings has after its first `up`.

    Args:
        platform: The settings.
        name: The stack's name, which some resources carry in theirs.
    """
    return from_state(_exported(platform, name))


def _exported(platform: Settings, name: str) -> dict[str, object]:
    monitor = _Listener()

    def program() -> None:
        importlib.import_module(f"stacks.{platform.scenario}").deploy(platform).export()

    async def run() -> None:
        settings.configure(
            mocks.MockSettings(
                monitor=monitor,
                engine=mocks.MockEngine(None),
                project=_PROJECT,
                stack=name,
                dry_run=True,
            )
        )
        # What an earlier run in the same process left belongs to its closed loop.
        settings.SETTINGS.outputs.clear()  # pyright: ignore - a descriptor without types
        settings.set_root_resource(None)  # pyright: ignore[reportArgumentType] - how the SDK resets it
        await stack.run_pulumi_func(lambda: stack.Stack(program) and None)

    asyncio.run(run())
    return {"version": 3, "deployment": {"resources": monitor.taken}}


def main(arguments: Sequence[str]) -> int:
    """Prints what a stack file declares; returns 1 and prints every mistake where there are any."""
    path = Path(arguments[0])
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        print(f"{path} cannot be read: {error}; name a stack file", file=sys.stderr)
        return 1
    lines = check.mistakes(text)
    document = None if lines else parse_stack_file(text)[0]
    platform = read(cast("dict[str, dict[str, object]]", document)["config"])[0] if document else None
    if platform is None:
        print(list_mistakes(path, lines), file=sys.stderr)
        return 1
    try:
        exported = _exported(platform, path.name.removeprefix("Pulumi.").removesuffix(".yaml"))
    except (pulumi.RunError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(exported, sys.stdout)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stacks.declared FILE")
    sys.exit(main(sys.argv[1:]))
