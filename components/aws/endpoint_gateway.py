"""The gateway in front of SageMaker endpoints: Envoy and the streaming adapter as tasks on ECS Fargate."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import appautoscaling, cloudwatch, ecs, iam

from components.aws import gateway_policies as may
from components.aws.account import CloudAccount
from components.aws.gateway_entrance import GatewayEntrance
from components.aws.hosting_policies import pull_images
from components.aws.policies import document, trust
from components.base import Component
from runtime.sagemaker.metrics import log_namespace
from runtime.sagemaker_gateway.fargate import Architecture
from runtime.sagemaker_gateway.task import ADAPTER, ENVOY, GatewayTask

_Tracking = appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgsDict

# Its task definition, volumes and security groups are those of this version and newer.
_PLATFORM = "1.4.0"
# Text is work for a task; requests that wait for models are next to none, until all places are taken.
_CPU_PERCENT = 50
_BUSY_PERCENT = 50
_BUSY_METRIC = "gateway-busy"
_SCALE_OUT_S, _SCALE_IN_S = 60, 300
# Images are pulled and three containers start before a task answers.
_GRACE_S = 120
# A new task starts, and an old one keeps its streams for up to ten minutes, each time.
_UPDATE_TIMEOUT = "45m"


@dataclass(frozen=True, kw_only=True)
class EndpointGatewayArgs:
    """Arguments of EndpointGateway.

    Attributes:
        cloud: Account, region and names.
        task: What the containers are told.
        subnets: Private subnets, in two zones or more.
        entrance: The load balancer and the tasks' security group.
        keys_arn: ARN of the secret with the API keys.
        keys_version_arn: ARN of its version, as task definitions name one.
        keys_key: ARN of the KMS key that encrypts it.
        prompts_key: ARN of the KMS key that encrypts prompts and answers, where any are kept.
        endpoints: Names of the endpoints that are asked.
        components: Names of the inference components that are asked.
        repositories: ARNs of the repositories of the two images.
        least: Tasks that always run.
        most: Tasks at most.
        cpu: CPU units of a task.
        memory_mib: Memory of a task in MiB.
        architecture: Its processor.
        log_key: ARN of the key that encrypts the logs.
        log_retention_days: How long they are kept.
    """

    cloud: CloudAccount
    task: GatewayTask
    subnets: Sequence[pulumi.Input[str]]
    entrance: GatewayEntrance
    keys_arn: pulumi.Input[str]
    keys_version_arn: pulumi.Input[str]
    keys_key: pulumi.Input[str]
    prompts_key: pulumi.Input[str] | None
    endpoints: Sequence[str]
    components: Sequence[str]
    repositories: Sequence[str]
    least: int
    most: int
    cpu: int
    memory_mib: int
    architecture: Architecture
    log_key: pulumi.Input[str]
    log_retention_days: int


class EndpointGateway(Component):
    """A service of tasks behind the entrance, which CPU use and requests in flight make more or fewer.

    What the containers are told is in the task definition, so a change of it, an API key's too, is rolled
    out: new tasks beside the old ones, which keep their streams until those end. Where the new ones do not
    get healthy, ECS goes back by itself.
    """

    service: ecs.Service
    log_groups: dict[str, cloudwatch.LogGroup]

    def __init__(
        self, name: str, args: EndpointGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        declared = {
            "minReplicas": args.least,
            "maxReplicas": args.most,
            "models": [one.name for one in args.task.adapter.models],
        }
        super().__init__("aws:EndpointGateway", name, declared, opts)
        self._name, self._args = name, args
        self.log_groups = {
            group: cloudwatch.LogGroup(
                f"{name}-{group.rpartition('/')[2]}",
                name=group,
                retention_in_days=args.log_retention_days,
                kms_key_id=args.log_key,
                opts=self.child(),
            )
            for group in dict.fromkeys(args.task.logs.values())
        }
        cluster = ecs.Cluster(
            name,
            name=f"{args.cloud.name}-gateway",
            settings=[{"name": "containerInsights", "value": "enabled"}],
            opts=self.child(),
        )
        starting, first_rights = self._execution_role()
        asking, then_rights = self._task_role()
        definition = ecs.TaskDefinition(
            name,
            family=f"{args.cloud.name}-gateway",
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=str(args.cpu),
            memory=str(args.memory_mib),
            runtime_platform={"operating_system_family": "LINUX", "cpu_architecture": args.architecture},
            execution_role_arn=starting.arn,
            task_role_arn=asking.arn,
            container_definitions=pulumi.Output.from_input(args.keys_version_arn).apply(args.task.containers),
            volumes=[{"name": volume} for volume in args.task.volumes],
            opts=self.child(),
        )
        self.service = ecs.Service(
            name,
            name=f"{args.cloud.name}-gateway",
            cluster=cluster.arn,
            task_definition=definition.arn,
            launch_type="FARGATE",
            platform_version=_PLATFORM,
            desired_count=args.least,
            deployment_minimum_healthy_percent=100,
            deployment_maximum_percent=200,
            deployment_circuit_breaker={"enable": True, "rollback": True},
            health_check_grace_period_seconds=_GRACE_S,
            network_configuration={
                "subnets": list(args.subnets),
                "security_groups": [args.entrance.tasks_group_id],
                "assign_public_ip": False,
            },
            load_balancers=[
                {
                    "target_group_arn": args.entrance.target_group_arn,
                    "container_name": ENVOY,
                    "container_port": args.task.gateway.listen_port,
                }
            ],
            availability_zone_rebalancing="ENABLED",
            propagate_tags="SERVICE",
            wait_for_steady_state=True,
            opts=self.child(
                depends_on=[first_rights, then_rights, *args.entrance.needs, *self.log_groups.values()],
                # Scaling decides after the first time.
                ignore_changes=["desiredCount"],
                custom_timeouts=pulumi.CustomTimeouts(create="20m", update=_UPDATE_TIMEOUT, delete="20m"),
            ),
        )
        self._scaling(cluster)
        self.finish(service=self.service.name)

    def _role(self, who: str) -> iam.Role:
        cloud = self._args.cloud
        return iam.Role(
            f"{self._name}-{who}",
            name=f"{cloud.name}-gateway-{who}",
            assume_role_policy=trust(may.ECS_TASKS, account=cloud.account),
            opts=self.child(),
        )

    def _execution_role(self) -> tuple[iam.Role, iam.RolePolicy]:
        args, role = self._args, self._role("start")

        def rights(known: Sequence[str]) -> str:
            secret, key, *groups = known
            return document(
                *(pull_images(args.repositories) if args.repositories else ()),
                *may.start_tasks(args.cloud.region, groups, secret, key),
            )

        known = pulumi.Output.all(
            args.keys_arn, args.keys_key, *(one.arn for one in self.log_groups.values())
        )
        policy = iam.RolePolicy(
            f"{self._name}-start", role=role.id, policy=known.apply(rights), opts=self.child()
        )
        return role, policy

    def _task_role(self) -> tuple[iam.Role, iam.RolePolicy]:
        args, role = self._args, self._role("ask")
        asked = may.ask_models(
            [args.cloud.arn("sagemaker", f"endpoint/{one}") for one in args.endpoints],
            [args.cloud.arn("sagemaker", f"inference-component/{one}") for one in args.components],
        )
        capture, key = args.task.adapter.capture, args.prompts_key

        def rights(key: str) -> str:
            if capture is None:
                return document(asked)
            folders = [f"{one.prefix}{one.endpoint}/" for one in capture.endpoints]
            return document(asked, *may.keep_captures(args.cloud.region, capture.bucket, folders, key))

        policy = iam.RolePolicy(
            f"{self._name}-ask",
            role=role.id,
            policy=pulumi.Output.from_input(key or "").apply(rights),
            opts=self.child(),
        )
        return role, policy

    def _scaling(self, cluster: ecs.Cluster) -> None:
        args, name = self._args, self._name
        target = appautoscaling.Target(
            name,
            service_namespace="ecs",
            resource_id=pulumi.Output.concat("service/", cluster.name, "/", self.service.name),
            scalable_dimension="ecs:service:DesiredCount",
            min_capacity=args.least,
            max_capacity=args.most,
            opts=self.child(),
        )
        if args.least == args.most:
            return
        # Each task says each minute how many of its places were taken at most.
        busy = cloudwatch.LogMetricFilter(
            f"{name}-busy",
            name=f"{name}-busy",
            log_group_name=self.log_groups[args.task.logs[ADAPTER]].name,
            pattern="{ $.busy_percent >= 0 }",
            metric_transformation={
                "name": _BUSY_METRIC,
                "namespace": log_namespace(args.cloud.name),
                "value": "$.busy_percent",
            },
            opts=self.child(),
        )
        cpu: _Tracking = {
            "target_value": _CPU_PERCENT,
            "scale_out_cooldown": _SCALE_OUT_S,
            "scale_in_cooldown": _SCALE_IN_S,
            "predefined_metric_specification": {"predefined_metric_type": "ECSServiceAverageCPUUtilization"},
        }
        places: _Tracking = {
            "target_value": _BUSY_PERCENT,
            "scale_out_cooldown": _SCALE_OUT_S,
            "scale_in_cooldown": _SCALE_IN_S,
            "customized_metric_specification": {
                "metric_name": _BUSY_METRIC,
                "namespace": log_namespace(args.cloud.name),
                "statistic": "Average",
            },
        }
        for what, tracking in (("cpu", cpu), ("busy", places)):
            appautoscaling.Policy(
                f"{name}-{what}",
                name=f"{name}-{what}",
                policy_type="TargetTrackingScaling",
                service_namespace=target.service_namespace,
                resource_id=target.resource_id,
                scalable_dimension=target.scalable_dimension,
                target_tracking_scaling_policy_configuration=tracking,
                opts=self.child(depends_on=[busy]),
            )
