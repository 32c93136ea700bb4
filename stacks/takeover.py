"""Refuses to create what exists already and is not this stack's: it would be overwritten, and deleted later.

Pulumi applies by a fixed field manager and with force (docs/adr/0007), so a creation takes over whatever has
the name. A hook asks the cluster before a creation; nothing is asked where nothing is created.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import pulumi

from components.kubernetes.ownership import ADOPT, CLAIM
from runtime.cluster import ClusterError, Objects, UnreachableError
from runtime.labels import PLATFORM_LABEL

# What a stack declares outside of namespaces.
IN_NO_NAMESPACE = ("kubernetes:core/v1:Namespace", "kubernetes:core/v1:PersistentVolume")


class TakeoverError(Exception):
    """An object that is not this stack's has the name; the text is the whole message."""


@dataclass(frozen=True)
class TakeoverCheck:
    """Decides whether an object may be created.

    Attributes:
        cluster: Where to look.
        platform: The platform's name; its label marks what lives in a claimed namespace.
        stack: The stack's full name.
        is_preview: Whether nothing will be created; an unreachable cluster is then left to the provider.
    """

    cluster: Objects
    platform: str
    stack: str
    is_preview: bool

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Looks for an object of the same name.

        Raises:
            TakeoverError: There is one, and it is not this stack's.
            ClusterError: The cluster could not be asked.
        """
        declared = cast("Mapping[str, Any]", inputs["metadata"])
        labelled: Mapping[str, str] = declared.get("labels") or {}
        if labelled.get(PLATFORM_LABEL, self.platform) != self.platform:
            return  # on the EKS cluster, which the stack makes and nobody else is in
        kind, name = str(inputs["kind"]), str(declared["name"])
        namespace = declared.get("namespace")
        try:
            found = self.cluster.metadata(str(inputs["apiVersion"]), kind, namespace, name)
        except UnreachableError:
            if self.is_preview:
                return
            raise
        if found is not None:
            self._refuse_a_foreign_one(kind, declared, found)

    def _refuse_a_foreign_one(self, kind: str, declared: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        name = "/".join(part for part in (found.get("namespace"), found["name"]) if part)
        annotations: Mapping[str, str] = found.get("annotations") or {}
        labels: Mapping[str, str] = found.get("labels") or {}
        if annotations.get(ADOPT) == self.stack:
            return
        wanted: Mapping[str, Any] = declared.get("annotations") or {}
        own_claim = wanted.get(CLAIM)
        claim = annotations.get(CLAIM)
        if own_claim is not None:
            # At the first preview of a stack its claim is not known yet: then nothing is its own.
            if claim is not None and claim == own_claim:
                return
        elif labels.get(PLATFORM_LABEL) == self.platform:
            return  # left by an interrupted `up`: what it lives in bears this stack's claim
        of = f"It is of stack {claim.rpartition(':')[0]}, with a state of its own. " if claim else ""
        place = f"-n {found['namespace']} " if found.get("namespace") else ""
        raise TakeoverError(
            f"{kind} {name} exists and is not this stack's; `up` would overwrite it and `destroy` delete it. "
            f"{of}Choose another namespace or name in the stack file, or, if it may become this stack's: "
            f"kubectl {place}annotate {kind.lower()} {found['name']} {ADOPT}={self.stack}"
        )


def refuse_takeovers(check: TakeoverCheck, *, shared_namespace: bool) -> None:
    """Has the cluster asked before the program's objects are created, in a preview too.

    Each question is a call from the engine to the program, and a model has several objects. What is in a
    namespace that bears the stack's claim goes with that namespace anyway, so only a namespace of others
    is asked for each object.

    Args:
        check: Decides.
        shared_namespace: Whether the platform's namespace is not the stack's own.
    """
    hook = pulumi.ResourceHook("refuse-takeover", asking(check), pulumi.ResourceHookOptions(on_dry_run=True))

    def with_hook(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not is_asked_for(args.type_, shared_namespace=shared_namespace):
            return None
        hooks = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(before_create=[hook]))
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, hooks))

    pulumi.runtime.register_stack_transformation(with_hook)


def is_asked_for(resource_type: str, *, shared_namespace: bool) -> bool:
    """Whether the cluster is asked before a resource of a Pulumi type is created."""
    if not shared_namespace:
        return resource_type in IN_NO_NAMESPACE
    # Helm itself refuses a release that is another's.
    return resource_type.startswith("kubernetes:") and resource_type != "kubernetes:helm.sh/v3:Release"


def asking(check: TakeoverCheck) -> Callable[[pulumi.ResourceHookArgs], Awaitable[None]]:
    """What the hook does."""
    # A thread of its own: all of the loop's may wait for registrations, and those for this hook.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="takeover")

    async def before_create(args: pulumi.ResourceHookArgs) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(thread, check.check, args.new_inputs or {})
        except ClusterError as error:
            raise TakeoverError(f"cannot look whether {args.name} is free: {error}") from None

    return before_create
