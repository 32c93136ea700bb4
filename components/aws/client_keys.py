"""The API keys of the gateway's clients, in one secret of AWS Secrets Manager."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import secretsmanager

from components.api_keys import api_key
from components.aws.account import CloudAccount
from components.base import Component


@dataclass(frozen=True, kw_only=True)
class ClientKeysArgs:
    """Arguments of ClientKeys.

    Attributes:
        cloud: Account, region and names.
        clients: Client names; each gets a key.
        key: ARN of the KMS key that encrypts the secret.
    """

    cloud: CloudAccount
    clients: tuple[str, ...]
    key: pulumi.Input[str]


class ClientKeys(Component):
    """A generated key for each client, and the secret that people and the gateway's tasks read them from.

    The secret is a JSON object of client and key. It goes at once with a destroy: a secret that waits for its
    deletion keeps its name, and the next `up` could not have it.
    """

    api_keys: Mapping[str, pulumi.Output[str]]
    secret_arn: pulumi.Output[str]
    version_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ClientKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:ClientKeys", name, {"clients": list(args.clients)}, opts)
        self.api_keys = {client: api_key(self, f"{name}-key-{client}") for client in args.clients}
        secret = secretsmanager.Secret(
            name,
            name=f"{args.cloud.name}-api-keys",
            description=f"API keys of the clients of {args.cloud.name}, a JSON object of client and key",
            kms_key_id=args.key,
            recovery_window_in_days=0,
            opts=self.child(),
        )
        version = secretsmanager.SecretVersion(
            name,
            secret_id=secret.id,
            secret_string=pulumi.Output.secret(
                pulumi.Output.all(**self.api_keys).apply(lambda keys: json.dumps(keys, sort_keys=True))
            ),
            opts=self.child(),
        )
        self.secret_arn = secret.arn
        # SECRET:JSON-KEY:STAGE:VERSION, as a task definition names it: the whole secret, of this version.
        self.version_arn = pulumi.Output.concat(secret.arn, ":::", version.version_id)
        self.finish(secretArn=secret.arn)
