"""IAM and resource policy documents, as pure functions: who may do what to which resource, and nothing more.

`tests/unit/test_aws_policies.py` reads every document: `*` stands for all resources only where AWS knows no
narrower one, and each such place says why.
"""

import json
from collections.abc import Mapping, Sequence

Statement = Mapping[str, object]
Conditions = Mapping[str, Mapping[str, object]]

EC2 = "ec2.amazonaws.com"
EKS = "eks.amazonaws.com"
POD_IDENTITY = "pods.eks.amazonaws.com"
FLOW_LOGS = "vpc-flow-logs.amazonaws.com"

# AWS' own policies for the two roles that EKS asks for; it keeps them in step with its releases.
CLUSTER_POLICY = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
NODE_POLICIES = (
    "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
)
CNI_POLICY = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"
CLUSTER_ADMIN_ACCESS = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def document(*statements: Statement) -> str:
    """A policy document as JSON."""
    return json.dumps({"Version": "2012-10-17", "Statement": [dict(one) for one in statements]})


def allow(
    actions: Sequence[str], resources: Sequence[str], conditions: Conditions | None = None
) -> Statement:
    """An identity's statement."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
    }
    return {**statement, "Condition": conditions} if conditions else statement


def trust(service: str, *, account: str) -> str:
    """Who may take on a role: one AWS service, acting for this account."""
    # Sessions of Pod Identity carry tags, which the policies of add-ons may ask for.
    actions = ["sts:AssumeRole", "sts:TagSession"] if service == POD_IDENTITY else ["sts:AssumeRole"]
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": actions,
    }
    if service not in {EC2}:
        # EC2 hands a role to instances without saying for which account.
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return document(statement)


def key_policy(account: str, *statements: Statement) -> str:
    """A KMS key's policy: the account's IAM decides, and what AWS' services need beside it.

    In a key's policy `*` is the key itself.
    """
    owner = {
        "Sid": "TheAccountsPoliciesDecide",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return document(owner, *statements)


def log_key_use(account: str, region: str) -> Statement:
    """Lets CloudWatch Logs encrypt the account's log groups with a key."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": f"logs.{region}.amazonaws.com"},
        "Action": ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        "Resource": "*",
        "Condition": {
            "ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{region}:{account}:*"}
        },
    }


def alarm_key_use(account: str) -> Statement:
    """Lets the account's alarms publish to a topic that is encrypted with a key."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }


def node_key_use(account: str) -> Sequence[Statement]:
    """Lets the service-linked role of Auto Scaling start instances with volumes encrypted with a key.

    By condition, because a key that names a principal is refused while that is not there, and in an account
    without an Auto Scaling group it is not.
    """
    role = (
        f"arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    )
    only_it = {"StringEquals": {"aws:PrincipalArn": role, "kms:CallerAccount": account}}
    use = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
        "Resource": "*",
        "Condition": only_it,
    }
    grant = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": "kms:CreateGrant",
        "Resource": "*",
        "Condition": {**only_it, "Bool": {"kms:GrantIsForAWSResource": "true"}},
    }
    return use, grant


def flow_log_writer(log_group_arn: str) -> str:
    """Lets flow logs be written to one log group."""
    return document(
        allow(
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            [log_group_arn, f"{log_group_arn}:*"],
        )
    )


def cluster_key_user(key_arn: str) -> str:
    """Lets the control plane encrypt Kubernetes' Secrets with one key."""
    return document(
        allow(["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey", "kms:ListGrants"], [key_arn]),
        allow(["kms:CreateGrant"], [key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
    )


def weights_reader(bucket_arn: str, key_arn: str) -> str:
    """Lets pods read the staged weights of one bucket."""
    return document(
        allow(["s3:ListBucket"], [bucket_arn]),
        allow(["s3:GetObject"], [f"{bucket_arn}/*"]),
        allow(["kms:Decrypt"], [key_arn]),
    )


def weights_stager(bucket_arn: str, key_arn: str, repository_arns: Sequence[str]) -> str:
    """Lets whoever stages write weights to one bucket and images to the stack's repositories."""
    statements = [
        allow(["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketVersioning"], [bucket_arn]),
        allow(
            [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",  # what is under the folder of a model and not of its weights
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            [f"{bucket_arn}/*"],
        ),
        allow(["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
    ]
    if repository_arns:
        statements += [
            # The token is for the registry as a whole; IAM knows no resource for it.
            allow(["ecr:GetAuthorizationToken"], ["*"]),
            allow(
                [
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:DescribeImages",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ],
                repository_arns,
            ),
        ]
    return document(*statements)


def only_over_tls(bucket_arn: str) -> str:
    """A bucket's policy that refuses every request without TLS."""
    return document(
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket_arn, f"{bucket_arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


def alarm_publisher(topic_arn: str, account: str) -> str:
    """A topic's policy: the account's alarms and endpoints may publish, over TLS."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": ["cloudwatch.amazonaws.com", "sagemaker.amazonaws.com"]},
            "Action": "sns:Publish",
            "Resource": topic_arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Resource": topic_arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    )


def only_this_account(account: str) -> str:
    """A VPC endpoint's policy: whatever the caller may do anyway, but only this account's principals.

    Image layers lie in AWS' own buckets, so resources of other accounts cannot be refused.
    """
    return document(
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalAccount": account}},
        }
    )


def node_group_scaler(account: str, region: str, cluster: str) -> str:
    """Lets the cluster autoscaler move this cluster's node groups, and read what it decides by."""
    own_groups = {
        "StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}": "owned"},
    }
    return document(
        allow(
            ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"],
            [f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/*"],
            own_groups,
        ),
        allow(
            ["eks:DescribeNodegroup"],
            [f"arn:aws:eks:{region}:{account}:nodegroup/{cluster}/*/*"],
        ),
        # Describe and Get calls of Auto Scaling and EC2 know no resources.
        allow(
            [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeAutoScalingInstances",
                "autoscaling:DescribeLaunchConfigurations",
                "autoscaling:DescribeScalingActivities",
                "autoscaling:DescribeTags",
                "ec2:DescribeImages",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:GetInstanceTypesFromInstanceRequirements",
            ],
            ["*"],
        ),
    )


def queue_of_interruptions(queue_arn: str, account: str) -> str:
    """A queue's policy: EventBridge may send the account's events to it, over TLS."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": queue_arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    )


def node_launcher(account: str, region: str, cluster: str, node_role_arn: str, queue_arn: str) -> str:
    """Lets Karpenter start, tag and stop this cluster's instances, and nobody else's.

    After the controller policy of Karpenter 1.14 (its CloudFormation reference), without what its NodePools
    here do not use.
    """
    ec2 = f"arn:aws:ec2:{region}"
    owned = {f"aws:RequestTag/kubernetes.io/cluster/{cluster}": "owned"}
    own = {f"aws:ResourceTag/kubernetes.io/cluster/{cluster}": "owned"}
    made_by_nodepool = {"aws:RequestTag/karpenter.sh/nodepool": "*"}
    of_nodepool = {"aws:ResourceTag/karpenter.sh/nodepool": "*"}
    profiles = f"arn:aws:iam::{account}:instance-profile/*"
    return document(
        allow(
            ["ec2:RunInstances", "ec2:CreateFleet"],
            [
                f"{ec2}::image/*",
                f"{ec2}::snapshot/*",
                f"{ec2}:*:security-group/*",
                f"{ec2}:*:subnet/*",
                f"{ec2}:*:capacity-reservation/*",
            ],
        ),
        allow(
            ["ec2:RunInstances", "ec2:CreateFleet"],
            [f"{ec2}:*:launch-template/*"],
            {"StringEquals": own, "StringLike": of_nodepool},
        ),
        allow(
            ["ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate"],
            [
                f"{ec2}:*:{kind}/*"
                for kind in (
                    "fleet",
                    "instance",
                    "volume",
                    "network-interface",
                    "launch-template",
                    "spot-instances-request",
                )
            ],
            {"StringEquals": owned, "StringLike": made_by_nodepool},
        ),
        allow(
            ["ec2:CreateTags"],
            [
                f"{ec2}:*:{kind}/*"
                for kind in (
                    "fleet",
                    "instance",
                    "volume",
                    "network-interface",
                    "launch-template",
                    "spot-instances-request",
                )
            ],
            {
                "StringEquals": {
                    **owned,
                    "ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"],
                },
                "StringLike": made_by_nodepool,
            },
        ),
        allow(
            ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"],
            [f"{ec2}:*:instance/*", f"{ec2}:*:launch-template/*"],
            {"StringEquals": own, "StringLike": of_nodepool},
        ),
        # Describe calls of EC2 know no resources.
        allow(
            [
                "ec2:DescribeCapacityReservations",
                "ec2:DescribeImages",
                "ec2:DescribeInstances",
                "ec2:DescribeInstanceTypeOfferings",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeLaunchTemplates",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSpotPriceHistory",
                "ec2:DescribeSubnets",
                "pricing:GetProducts",
            ],
            ["*"],
        ),
        allow(["ssm:GetParameter"], [f"arn:aws:ssm:{region}::parameter/aws/service/*"]),
        allow(
            ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"],
            [queue_arn],
        ),
        allow(["iam:PassRole"], [node_role_arn], {"StringEquals": {"iam:PassedToService": EC2}}),
        allow(
            ["iam:CreateInstanceProfile", "iam:TagInstanceProfile"],
            [profiles],
            {"StringEquals": {**owned, "aws:RequestTag/topology.kubernetes.io/region": region}},
        ),
        allow(
            [
                "iam:AddRoleToInstanceProfile",
                "iam:DeleteInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
            ],
            [profiles],
            {"StringEquals": {**own, "aws:ResourceTag/topology.kubernetes.io/region": region}},
        ),
        allow(["iam:GetInstanceProfile"], [profiles]),
        allow(["eks:DescribeCluster"], [f"arn:aws:eks:{region}:{account}:cluster/{cluster}"]),
    )
