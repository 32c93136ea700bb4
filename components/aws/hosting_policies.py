"""What the role of SageMaker's containers may do, and nothing else."""

from collections.abc import Sequence

from components.aws.policies import Statement, allow
from runtime.sagemaker.metrics import component_log_group, log_group

SAGEMAKER = "sagemaker.amazonaws.com"


def load_weights(bucket_arn: str, key_arn: str, prefix: str) -> Sequence[Statement]:
    """Reads the weights below one folder of one bucket."""
    return (
        allow(["s3:ListBucket"], [bucket_arn], {"StringLike": {"s3:prefix": f"{prefix}/*"}}),
        allow(["s3:GetObject"], [f"{bucket_arn}/{prefix}/*"]),
        allow(["kms:Decrypt"], [key_arn]),
    )


def pull_images(repository_arns: Sequence[str]) -> Sequence[Statement]:
    """Pulls from the named repositories only."""
    return (
        # The token is for the registry as a whole; IAM knows no resource for it.
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            repository_arns,
        ),
    )


def report(account: str, region: str, platform: str) -> Sequence[Statement]:
    """Writes logs into the platform's groups, which exist already, and SageMaker's own metrics."""
    every = f"arn:aws:logs:{region}:{account}:log-group:"
    groups = [every + named(f"{platform}-*") for named in (log_group, component_log_group)]
    return (
        allow(
            ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [*groups, *(f"{one}:*" for one in groups)],
        ),
        # Metrics know no resources, but namespaces.
        allow(
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}},
        ),
    )


def see_alarms(account: str, region: str, platform: str) -> Sequence[Statement]:
    """Asks for the platform's alarms: an update that they are to take back is refused without it.

    SageMaker developer guide, "Auto-Rollback Configuration and Monitoring".
    """
    alarms = f"arn:aws:cloudwatch:{region}:{account}:alarm:{platform}-*"
    return (allow(["cloudwatch:DescribeAlarms"], [alarms]),)


def be_in_network(account: str, region: str) -> Sequence[Statement]:
    """Gives containers an address in the VPC (SageMaker developer guide, access to a VPC)."""
    ec2 = f"arn:aws:ec2:{region}:{account}"
    return (
        allow(
            [
                "ec2:CreateNetworkInterface",
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DeleteNetworkInterfacePermission",
            ],
            [f"{ec2}:network-interface/*", f"{ec2}:security-group/*", f"{ec2}:subnet/*"],
        ),
        # Describe calls of EC2 know no resources.
        allow(
            [
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            ["*"],
        ),
    )


def keep_prompts(bucket_arn: str, key_arn: str) -> Sequence[Statement]:
    """Writes captured requests and answers, and reads and answers requests that lie in the bucket."""
    return (
        allow(["s3:PutObject"], [f"{bucket_arn}/capture/*", f"{bucket_arn}/async/*"]),
        allow(["s3:GetObject"], [f"{bucket_arn}/async/*"]),
        allow(["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
    )


def tell_failures(topic_arn: str, key_arn: str) -> Sequence[Statement]:
    """Publishes to a topic that is encrypted with a key: asynchronous requests that failed."""
    return (
        allow(["sns:Publish"], [topic_arn]),
        allow(["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
    )


def encrypt_volumes(key_arn: str) -> Sequence[Statement]:
    """Starts machines whose volumes are encrypted with a key."""
    return (
        allow(["kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"], [key_arn]),
        allow(["kms:CreateGrant"], [key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
    )
