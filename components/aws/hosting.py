"""What all endpoints of a stack share: the containers' role, their security group, the model registry."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, iam, sagemaker, vpc

from components.aws import hosting_policies as may
from components.aws.account import CloudAccount
from components.aws.network import NetworkPlace
from components.aws.policies import document, trust
from components.base import Component
from runtime.sagemaker.registry import package_group_name
from runtime.staging import WEIGHTS_ROOT


@dataclass(frozen=True, kw_only=True)
class HostingArgs:
    """Arguments of Hosting.

    Attributes:
        cloud: Account, region and names.
        place: The VPC and its private subnets.
        cidr: The VPC's network.
        weights_bucket: ARN of the bucket with the weights.
        weights_key: ARN of its key.
        prompts_bucket: ARN of the bucket for prompts and answers, if there is one.
        prompts_key: ARN of its key, if there is one.
        volume_key: ARN of the key of machines' volumes, where a type takes one.
        topic: ARN of the topic that asynchronous requests tell their failures to, if there are any.
        topic_key: ARN of its key.
        repositories: ARNs of the repositories that images come from.
        served: What clients ask for; each is a group of revisions in the registry.
    """

    cloud: CloudAccount
    place: NetworkPlace
    cidr: str
    weights_bucket: pulumi.Input[str]
    weights_key: pulumi.Input[str]
    prompts_bucket: pulumi.Input[str] | None
    prompts_key: pulumi.Input[str] | None
    volume_key: pulumi.Input[str] | None
    topic: pulumi.Input[str] | None
    topic_key: pulumi.Input[str]
    repositories: Sequence[pulumi.Input[str]]
    served: Sequence[str]


class Hosting(Component):
    """Containers reach S3 and the VPC's private endpoints and nothing else, and nobody reaches them.

    SageMaker itself hands them requests; that way is not in the VPC.
    """

    role_arn: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    needs: list[pulumi.Resource]
    package_groups: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: HostingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aws:Hosting", name, {"served": list(args.served)}, opts)
        role = iam.Role(
            f"{name}-role",
            name=f"{args.cloud.name}-endpoints",
            assume_role_policy=trust(may.SAGEMAKER, account=args.cloud.account),
            opts=self.child(),
        )
        rights = iam.RolePolicy(f"{name}-role", role=role.id, policy=_rights(args), opts=self.child())
        self.role_arn = role.arn
        self.security_group_id, rules = self._group(name, args)
        self.needs = [rights, *rules, *args.place.needs]
        self.package_groups = {
            served: sagemaker.ModelPackageGroup(
                f"{name}-{package_group_name(args.cloud.name, served)}",
                model_package_group_name=package_group_name(args.cloud.name, served),
                model_package_group_description=f"Revisions of {served}",
                opts=self.child(),
            ).model_package_group_name
            for served in args.served
        }
        self.finish(roleArn=role.arn)

    def _group(self, name: str, args: HostingArgs) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
        group = ec2.SecurityGroup(
            f"{name}-containers",
            vpc_id=args.place.vpc_id,
            description="Containers of endpoints: out to S3 and to private endpoints, and nothing in",
            tags={"Name": f"{args.cloud.name}-containers"},
            opts=self.child(),
        )
        rules: list[pulumi.Resource] = [
            vpc.SecurityGroupEgressRule(
                f"{name}-to-{where}",
                security_group_id=group.id,
                description=words,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                cidr_ipv4=args.cidr if where == "endpoints" else None,
                prefix_list_id=args.place.s3_prefix_list if where == "s3" else None,
                opts=self.child(),
            )
            for where, words in (
                ("endpoints", "Private endpoints of AWS services in the VPC"),
                ("s3", "Weights from S3, by the gateway endpoint of the VPC"),
            )
        ]
        return group.id, rules


def _rights(args: HostingArgs) -> pulumi.Output[str]:
    cloud = args.cloud

    def written(known: dict[str, str], repositories: Sequence[str]) -> str:
        return document(
            *may.load_weights(known["weights_bucket"], known["weights_key"], WEIGHTS_ROOT),
            *(may.pull_images(repositories) if repositories else ()),
            *may.report(cloud.account, cloud.region, cloud.name),
            *may.see_alarms(cloud.account, cloud.region, cloud.name),
            *may.be_in_network(cloud.account, cloud.region),
            *(
                may.keep_prompts(known["prompts_bucket"], known["prompts_key"])
                if "prompts_bucket" in known
                else ()
            ),
            *(may.tell_failures(known["topic"], known["topic_key"]) if "topic" in known else ()),
            *(may.encrypt_volumes(known["volume_key"]) if "volume_key" in known else ()),
        )

    given = {
        "weights_bucket": args.weights_bucket,
        "weights_key": args.weights_key,
        "prompts_bucket": args.prompts_bucket,
        "prompts_key": args.prompts_key,
        "volume_key": args.volume_key,
        "topic": args.topic,
        "topic_key": args.topic_key if args.topic is not None else None,
    }
    known = pulumi.Output.all(**{key: value for key, value in given.items() if value is not None})
    repositories = pulumi.Output.all(*args.repositories)
    return pulumi.Output.all(known, repositories).apply(lambda both: written(both[0], both[1]))
