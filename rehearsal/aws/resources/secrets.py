"""Secrets of Secrets Manager and their versions, made in moto."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from rehearsal.aws.resources.kind import Absent, Aws, Properties, given, items, kind, name_of, tags_of

_CURRENT = "AWSCURRENT"
# What the provider gives a secret that says nothing of it.
_RECOVERY_DAYS = 30


class Secret:
    """aws.secretsmanager.Secret. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one without a value."""
        made = aws.client("secretsmanager").create_secret(
            Name=name_of(inputs),
            **tags_of(inputs),
            **given(inputs, Description="description", KmsKeyId="kmsKeyId"),
        )
        return str(made["ARN"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it; one that waits for its deletion is gone."""
        found = aws.client("secretsmanager").describe_secret(SecretId=id_)
        if "DeletedDate" in found:
            raise Absent
        return {"name": found["Name"], "arn": id_, "policy": known.get("policy") or ""}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes its description and key."""
        wanted = given(new, Description="description", KmsKeyId="kmsKeyId")
        aws.client("secretsmanager").update_secret(SecretId=id_, **wanted)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it: at once with 0 days to come back in, else after them."""
        days = known.get("recoveryWindowInDays")
        days = _RECOVERY_DAYS if days is None else int(days)
        window = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        aws.client("secretsmanager").delete_secret(SecretId=id_, **window)


class SecretVersion:
    """aws.secretsmanager.SecretVersion. Its id is `SECRET|VERSION`."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Puts a value, which becomes the current one."""
        made = aws.client("secretsmanager").put_secret_value(
            SecretId=inputs["secretId"],
            **given(inputs, SecretString="secretString", VersionStages="versionStages"),
        )
        return f"{made['ARN']}|{made['VersionId']}"

    def _stages(self, aws: Aws, id_: str) -> list[str]:
        secret, _, version = id_.partition("|")
        found = aws.client("secretsmanager").describe_secret(SecretId=secret)
        stages = found.get("VersionIdsToStages", {}).get(version)
        if stages is None:
            raise Absent
        return list(stages)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks which stages it has; the value stays where it is."""
        secret, _, version = id_.partition("|")
        stages = self._stages(aws, id_)
        return {"arn": secret, "secretId": secret, "versionId": version, "versionStages": stages}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Gives it stages."""
        secret, _, version = id_.partition("|")
        for stage in items(new, "versionStages"):
            aws.client("secretsmanager").update_secret_version_stage(
                SecretId=secret, VersionStage=stage, MoveToVersionId=version
            )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Takes its stages away, which lets AWS forget it. The current one goes with its secret only."""
        secret, _, version = id_.partition("|")
        for stage in self._stages(aws, id_):
            if stage != _CURRENT:
                aws.client("secretsmanager").update_secret_version_stage(
                    SecretId=secret, VersionStage=stage, RemoveFromVersionId=version
                )


KINDS = (
    kind(
        "aws:secretsmanager/secret:Secret",
        Secret(),
        "name namePrefix",
        "secretsmanager.UpdateSecret",
        name_length=512,
    ),
    kind(
        "aws:secretsmanager/secretVersion:SecretVersion",
        SecretVersion(),
        "secretId secretString secretBinary secretStringWoVersion",
        "secretsmanager.UpdateSecretVersionStage",
    ),
)
