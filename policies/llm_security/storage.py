"""What is kept in AWS: weights, images, keys, logs."""

from typing import Final

from policies.documents import statements
from policies.enforcement import ADVISORY_IN_DEV
from policies.frameworks import cis_eks, fsbp, gdpr
from policies.reading import Node, read
from policies.rule import (
    Answer,
    ConfigKey,
    Found,
    NotApplicable,
    Problem,
    Resource,
    Rule,
    Severity,
    Stack,
    StackRule,
)

BUCKET: Final = "aws:s3/bucket:Bucket"
ACCESS_BLOCK: Final = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
ENCRYPTION: Final = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
VERSIONING: Final = "aws:s3/bucketVersioning:BucketVersioning"
BUCKET_POLICY: Final = "aws:s3/bucketPolicy:BucketPolicy"
KEY: Final = "aws:kms/key:Key"
REPOSITORY: Final = "aws:ecr/repository:Repository"
LOG_GROUP: Final = "aws:cloudwatch/logGroup:LogGroup"

_BLOCKS: Final = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
_COMPANIONS: Final = {
    ACCESS_BLOCK: "public access block",
    ENCRYPTION: "encryption with a KMS key",
    VERSIONING: "versioning",
    BUCKET_POLICY: "policy that refuses requests without TLS",
}
_LOG_DAYS: Final = 400


def _check_bucket(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == ACCESS_BLOCK:
        for key in _BLOCKS:
            if not root.child(key).boolean(default=False):
                yield Problem(f"{key} is not true, so the bucket can be made public.", f"Set {key} to true.")
    elif resource.type == VERSIONING:
        status = root.child("versioningConfiguration", "status")
        if status.text() != "Enabled":
            yield Problem(
                f"{status.path} is {status.text()}, so overwritten weights are gone.",
                f"Set {status.path} to Enabled.",
            )
    elif resource.type == ENCRYPTION:
        for rule in root.child("rules").items():
            default = rule.child("applyServerSideEncryptionByDefault")
            algorithm = default.child("sseAlgorithm")
            if algorithm.text() != "aws:kms" or default.child("kmsMasterKeyId").is_missing:
                yield Problem(
                    f"{default.path} does not use a KMS key of yours.",
                    f"Set {algorithm.path} to aws:kms and kmsMasterKeyId to the key's ARN.",
                )
    else:
        yield from _bucket_policy(root.child("policy"))


def _bucket_policy(document: Node) -> Found:
    found = list(statements(document))
    for statement in found:
        if statement.allows and statement.is_for_everybody:
            yield Problem(f"{statement.path} lets everybody in.", "Name the principals that need it.")
    refused = any(
        not one.allows
        and "*" in one.principals
        and one.conditions.child("Bool", "aws:SecureTransport").value in ("false", False)
        for one in found
    )
    if not refused:
        yield Problem(
            f"{document.path} does not refuse requests without TLS.",
            "Add a statement that denies s3:* where aws:SecureTransport is false.",
        )


def _check_companions(stack: Stack, _: Node) -> Answer:
    buckets = stack.of(BUCKET)
    return _without_companion(stack, buckets) if buckets else NotApplicable("It makes no bucket.")


def _without_companion(stack: Stack, buckets: list[Resource]) -> Found:
    for bucket in buckets:
        there = {one.type for one in stack.of(*_COMPANIONS) if bucket.urn in one.dependencies}
        missing = [words for kind, words in _COMPANIONS.items() if kind not in there]
        if missing:
            yield Problem(
                f"Bucket {bucket.name} has no {', no '.join(missing)}.",
                "Declare what is missing beside the bucket, as components/aws/model_storage.py does.",
                bucket.urn,
            )


def _check_key(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    rotation = root.child("enableKeyRotation")
    symmetric = root.child("customerMasterKeySpec").text(default="SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT"
    if symmetric and not rotation.boolean(default=False):
        yield Problem(f"{rotation.path} is not true.", f"Set {rotation.path} to true.")
    if not root.child("policy").is_missing:
        for statement in statements(root.child("policy")):
            if statement.allows and statement.is_for_everybody:
                yield Problem(f"{statement.path} lets everybody use the key.", "Name the principals.")


def _check_repository(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    scan = root.child("imageScanningConfiguration", "scanOnPush")
    if not scan.boolean(default=False):
        yield Problem(f"{scan.path} is not true.", f"Set {scan.path} to true.")
    mutable = root.child("imageTagMutability")
    if mutable.text(default="MUTABLE") != "IMMUTABLE":
        yield Problem(
            f"{mutable.path} is not IMMUTABLE, so a tag may mean another image tomorrow.",
            f"Set {mutable.path} to IMMUTABLE.",
        )
    kinds = [one.child("encryptionType").text() for one in root.child("encryptionConfigurations").items()]
    if kinds != ["KMS"]:
        yield Problem(
            "encryptionConfigurations does not use a KMS key.",
            "Set encryptionConfigurations to encryptionType KMS with the ARN of a key.",
        )


def _check_log_group(resource: Resource, config: Node) -> Found:
    root = read(resource.props)
    days, most = root.child("retentionInDays"), config.child("maxDays").integer(default=_LOG_DAYS)
    kept = days.integer(default=0)
    if kept == 0 or kept > most:
        words = "keeps logs for ever" if kept == 0 else f"keeps logs for {kept} days"
        yield Problem(f"{days.path} {words}. Allowed: 1 to {most} days.", f"Set {days.path}.")
    if root.child("kmsKeyId").is_missing:
        yield Problem("kmsKeyId is missing, so the logs are not encrypted with a key of yours.", "Set it.")


BUCKET_HARDENED: Final = Rule(
    name="bucket-hardened",
    description="Buckets are encrypted with a key of yours, versioned, private, and refuse plain text.",
    severity=Severity.HIGH,
    remediation="Set what the message names, as components/aws/model_storage.py does.",
    controls=(*fsbp("S3.5", "S3.8"), *gdpr(32)),
    check=_check_bucket,
    types=frozenset(_COMPANIONS),
    deferrable=True,
    example=Resource(ACCESS_BLOCK, "weights", {"bucket": "weights", "blockPublicAcls": True}),
)

BUCKET_COMPLETE: Final = StackRule(
    name="bucket-complete",
    description="Every bucket has its public access block, encryption, versioning and policy.",
    severity=Severity.HIGH,
    remediation="Declare what is missing beside the bucket.",
    controls=(*fsbp("S3.5", "S3.8"), *gdpr(32)),
    check=_check_companions,
    example=Stack((Resource(BUCKET, "weights", {"bucket": "weights"}, urn="bucket"),)),
)

KMS_ROTATION: Final = Rule(
    name="kms-rotation",
    description="KMS keys are rotated every year, and not everybody may use them.",
    severity=Severity.MEDIUM,
    remediation="Set enableKeyRotation to true, and name principals in the policy.",
    controls=(*fsbp("KMS.5"), *gdpr(32)),
    check=_check_key,
    types=frozenset({KEY}),
    deferrable=True,
    example=Resource(KEY, "weights", {"description": "weights"}),
)

REGISTRY_HARDENED: Final = Rule(
    name="registry-hardened",
    description="Images are scanned, keep their tags and are encrypted with a key of yours.",
    severity=Severity.MEDIUM,
    remediation="Set scanOnPush to true, imageTagMutability to IMMUTABLE, and a KMS key.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.1.1"), *fsbp("ECR.1", "ECR.2")),
    check=_check_repository,
    types=frozenset({REPOSITORY}),
    example=Resource(REPOSITORY, "vllm", {"name": "llm/vllm"}),
)

LOG_RETENTION: Final = Rule(
    name="log-retention",
    description="Logs end after a time, and are encrypted with a key of yours.",
    severity=Severity.MEDIUM,
    remediation="Set retentionInDays and kmsKeyId.",
    enforcement=ADVISORY_IN_DEV,
    controls=gdpr(5, 32),
    check=_check_log_group,
    types=frozenset({LOG_GROUP}),
    example=Resource(LOG_GROUP, "prompts", {"name": "/llm/prompts"}),
    config={
        "maxDays": ConfigKey(
            schema={
                "type": "integer",
                "minimum": 1,
                "default": _LOG_DAYS,
                "description": "Days that logs may be kept at most.",
            },
            example=90,
        )
    },
)
