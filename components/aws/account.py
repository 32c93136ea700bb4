"""What all AWS components of a stack share: account, region, and the names that others must find."""

from dataclasses import dataclass

# Interface endpoints in a VPC without internet: what nodes and the pods of the EKS side call. Weights come
# through the gateway endpoint of S3.
ENDPOINTS = ("autoscaling", "ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "logs", "sqs", "sts")
# The same for a VPC with SageMaker endpoints, and what asks them.
HOSTING_ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "monitoring", "sagemaker.runtime", "sts")
# What the gateway's tasks ask beside them, for their API keys.
GATEWAY_ENDPOINTS = ("secretsmanager",)


@dataclass(frozen=True, kw_only=True)
class CloudAccount:
    """The account and region of a stack's AWS side.

    Attributes:
        account: Its 12 digits.
        region: The region.
        name: What all AWS resources are named after: the EKS cluster's name.
    """

    account: str
    region: str
    name: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    @property
    def registry(self) -> str:
        """Host of the account's ECR registry."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"
