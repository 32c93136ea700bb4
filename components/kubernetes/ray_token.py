"""The token that Ray's own authentication asks for, shared by all Ray clusters of a platform."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from components.base import Component
from components.kubernetes.metadata import object_meta

TOKEN_KEY = "auth_token"  # noqa: S105 - the key that KubeRay reads (AuthOptions.secretName)

_LENGTH = 48


@dataclass(frozen=True, kw_only=True)
class RayTokenArgs:
    """Arguments of RayToken.

    Attributes:
        platform: The platform's name.
        namespace: The platform's namespace.
    """

    platform: str
    namespace: str


class RayToken(Component):
    """A generated token in a Secret; the component's name is the Secret's."""

    value: pulumi.Output[str]

    def __init__(self, name: str, args: RayTokenArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kubernetes:RayToken", name, {"namespace": args.namespace}, opts)
        token = random.RandomPassword(f"{name}-token", length=_LENGTH, special=False, opts=self.child())
        self.value = token.result
        kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata=object_meta(args.platform, "ray", name, namespace=args.namespace),
            string_data={TOKEN_KEY: token.result},
            opts=self.child(),
        )
        self.finish(secret=name)
