"""IAM and KMS, made in moto: EKS looks at role ARNs, and keys cost money."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from typing import Any

from rehearsal.aws.resources.kind import Aws, Properties, first, given, kind, name_of, part, tags_of


class Role:
    """aws.iam.Role."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a role."""
        name = name_of(inputs)
        aws.client("iam").create_role(
            RoleName=name,
            AssumeRolePolicyDocument=inputs["assumeRolePolicy"],
            **tags_of(inputs),
            **given(
                inputs, Path="path", Description="description", PermissionsBoundary="permissionsBoundary"
            ),
        )
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        role = aws.client("iam").get_role(RoleName=id_)["Role"]
        return {
            "name": id_,
            "arn": role["Arn"],
            "uniqueId": role["RoleId"],
            "path": role["Path"],
            "createDate": role["CreateDate"].isoformat(),
            "maxSessionDuration": known.get("maxSessionDuration") or 3600,
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the trust policy and the description."""
        iam = aws.client("iam")
        iam.update_assume_role_policy(RoleName=id_, PolicyDocument=new["assumeRolePolicy"])
        iam.update_role(RoleName=id_, Description=new.get("description") or "")

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; IAM refuses while it has policies."""
        aws.client("iam").delete_role(RoleName=id_)


class RolePolicy:
    """aws.iam.RolePolicy. Its id is `role:name`."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Puts the policy into the role."""
        name = name_of(inputs)
        aws.client("iam").put_role_policy(
            RoleName=inputs["role"], PolicyName=name, PolicyDocument=inputs["policy"]
        )
        return f"{inputs['role']}:{name}"

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it in its role."""
        role, _, name = id_.partition(":")
        aws.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        return {"role": role, "name": name}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts the new text in place of the old one."""
        role, _, name = id_.partition(":")
        aws.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=new["policy"])

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Takes it out of the role."""
        role, _, name = id_.partition(":")
        aws.client("iam").delete_role_policy(RoleName=role, PolicyName=name)


class Policy:
    """aws.iam.Policy. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a policy."""
        made = aws.client("iam").create_policy(
            PolicyName=name_of(inputs),
            PolicyDocument=inputs["policy"],
            **tags_of(inputs),
            **given(inputs, Path="path", Description="description"),
        )
        return str(made["Policy"]["Arn"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        policy = aws.client("iam").get_policy(PolicyArn=id_)["Policy"]
        return {
            "arn": id_,
            "name": policy["PolicyName"],
            "path": policy["Path"],
            "policyId": policy["PolicyId"],
            "attachmentCount": policy["AttachmentCount"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Makes another version the default one and removes the others."""
        iam = aws.client("iam")
        before = [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=id_)["Versions"]]
        iam.create_policy_version(PolicyArn=id_, PolicyDocument=new["policy"], SetAsDefault=True)
        for version in before:
            iam.delete_policy_version(PolicyArn=id_, VersionId=version)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; IAM refuses while it is attached."""
        aws.client("iam").delete_policy(PolicyArn=id_)


class Key:
    """aws.kms.Key."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a key."""
        kms = aws.client("kms")
        made = kms.create_key(
            Tags=[{"TagKey": k, "TagValue": v} for k, v in part(inputs, "tags").items()],
            **given(
                inputs,
                Description="description",
                KeyUsage="keyUsage",
                KeySpec="customerMasterKeySpec",
                Policy="policy",
                MultiRegion="multiRegion",
            ),
        )
        id_ = str(made["KeyMetadata"]["KeyId"])
        self._rotate(kms, id_, inputs)
        return id_

    def _rotate(self, kms: Any, id_: str, inputs: Properties) -> None:
        if inputs.get("enableKeyRotation"):
            kms.enable_key_rotation(KeyId=id_)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it; one that waits for its deletion is none."""
        kms = aws.client("kms")
        found = kms.describe_key(KeyId=id_)["KeyMetadata"]
        key = first([found] if found["KeyState"] != "PendingDeletion" else [])
        return {
            "keyId": id_,
            "arn": key["Arn"],
            "description": key["Description"],
            "keyUsage": key.get("KeyUsage", "ENCRYPT_DECRYPT"),
            "customerMasterKeySpec": key.get("KeySpec", "SYMMETRIC_DEFAULT"),
            "multiRegion": key.get("MultiRegion", False),
            "rotationPeriodInDays": int(known.get("rotationPeriodInDays") or 365),
            "enableKeyRotation": kms.get_key_rotation_status(KeyId=id_)["KeyRotationEnabled"],
            "policy": known.get("policy") or kms.get_key_policy(KeyId=id_, PolicyName="default")["Policy"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes description, policy and rotation."""
        kms = aws.client("kms")
        kms.update_key_description(KeyId=id_, Description=new.get("description") or "")
        if new.get("policy"):
            kms.put_key_policy(KeyId=id_, PolicyName="default", Policy=new["policy"])
        if old.get("enableKeyRotation") and not new.get("enableKeyRotation"):
            kms.disable_key_rotation(KeyId=id_)
        self._rotate(kms, id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Lets it go after the days that KMS wants at least, or those that were asked for."""
        days = int(known.get("deletionWindowInDays") or 30)
        aws.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=days)


KINDS = (
    kind("aws:iam/role:Role", Role(), "name namePrefix path", "iam.UpdateRole iam.UpdateAssumeRolePolicy"),
    kind("aws:iam/rolePolicy:RolePolicy", RolePolicy(), "name namePrefix role", "iam.PutRolePolicy"),
    kind(
        "aws:iam/policy:Policy",
        Policy(),
        "name namePrefix path description",
        "iam.CreatePolicyVersion",
        name_length=128,
    ),
    kind(
        "aws:kms/key:Key",
        Key(),
        "customKeyStoreId customerMasterKeySpec keyUsage multiRegion xksKeyId",
        "kms.UpdateKeyDescription kms.PutKeyPolicy kms.EnableKeyRotation",
    ),
)
