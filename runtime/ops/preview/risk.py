"""What is lost when a resource goes: data, service, identity, or nothing of its own."""

from enum import Enum
from typing import Final

from runtime.ops.preview.events import Step


class Loss(Enum):
    """What a delete or replacement costs beside money, the worst first."""

    DATA = "data"
    DOWNTIME = "downtime"
    IDENTITY = "identity"
    NOTHING = "nothing of its own"


_LOSSES: Final[dict[Loss, tuple[str, ...]]] = {
    Loss.DATA: (
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:dynamodb/",
        "aws:ebs/",
        "aws:ec2/volume:Volume",
        "aws:ecr/repository:Repository",
        "aws:efs/",
        "aws:fsx/",
        "aws:kms/key:Key",
        "aws:rds/",
        "aws:s3/bucket:",
        "aws:s3/bucketV2:",
        "aws:sqs/queue:Queue",
        "kubernetes:apiextensions.k8s.io/",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:PersistentVolume",
    ),
    Loss.DOWNTIME: (
        "aws:ec2/natGateway:",
        "aws:ec2/subnet:",
        "aws:ec2/vpc:",
        "aws:ec2/vpcEndpoint:",
        "aws:ec2/vpnConnection:",
        "aws:eks/cluster:",
        "aws:eks/nodeGroup:",
        "aws:lb/",
        "aws:sagemaker/",
        "kubernetes:apps/",
        "kubernetes:core/v1:Service",
        "kubernetes:gateway.networking.k8s.io/",
        "kubernetes:helm.sh/",
        "kubernetes:karpenter.sh/",
        "kubernetes:networking.k8s.io/v1:Ingress",
        "kubernetes:ray.io/",
    ),
    Loss.IDENTITY: (
        "aws:eks/accessEntry:",
        "aws:eks/podIdentityAssociation:",
        "aws:iam/",
        "kubernetes:core/v1:Secret",
        "kubernetes:core/v1:ServiceAccount",
        "kubernetes:rbac.authorization.k8s.io/",
        "random:",
        "tls:",
    ),
}
# Begins like a Service, and is none.
_EXACT: Final = {"kubernetes:core/v1:ServiceAccount": Loss.IDENTITY}


def loss_of(type_token: str) -> Loss:
    """What is lost with a resource of that type."""
    if type_token in _EXACT:
        return _EXACT[type_token]
    return next((loss for loss, types in _LOSSES.items() if type_token.startswith(types)), Loss.NOTHING)


def destructive(steps: tuple[Step, ...]) -> list[tuple[Loss, Step]]:
    """Deletes and replacements of what a provider manages, the worst first."""
    order = list(Loss)
    gone = [
        (loss_of(step.type), step)
        for step in steps
        if step.operation in {"delete", "replace"} and (step.before is None or step.before.custom)
    ]
    return sorted(gone, key=lambda one: (order.index(one[0]), one[1].operation != "delete"))
