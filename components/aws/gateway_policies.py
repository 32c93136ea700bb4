"""What the two roles of the gateway's tasks may do, and nothing else."""

from collections.abc import Sequence

from components.aws.policies import Statement, allow

ECS_TASKS = "ecs-tasks.amazonaws.com"


def start_tasks(region: str, log_group_arns: Sequence[str], secret_arn: str, key_arn: str) -> list[Statement]:
    """For ECS, before the containers run: writes their logs and reads the one secret."""
    return [
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [f"{one}:*" for one in log_group_arns]),
        allow(["secretsmanager:GetSecretValue"], [secret_arn]),
        allow(
            ["kms:Decrypt"],
            [key_arn],
            {"StringEquals": {"kms:ViaService": f"secretsmanager.{region}.amazonaws.com"}},
        ),
    ]


def ask_models(endpoint_arns: Sequence[str], component_arns: Sequence[str]) -> Statement:
    """For the adapter: asks the named endpoints and inference components, whole answers and streams."""
    return allow(
        ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
        [*endpoint_arns, *component_arns],
    )


def keep_captures(region: str, bucket: str, folders: Sequence[str], key_arn: str) -> list[Statement]:
    """For the adapter: writes masked copies into their folders, and reads none.

    Args:
        region: AWS region.
        bucket: Name of the bucket.
        folders: Folders in it, each with a slash at its end.
        key_arn: ARN of the key that encrypts them; S3 asks it for a data key, and so in the role's name.
    """
    return [
        allow(["s3:PutObject"], [f"arn:aws:s3:::{bucket}/{folder}*" for folder in folders]),
        allow(
            ["kms:GenerateDataKey"],
            [key_arn],
            {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
        ),
    ]
