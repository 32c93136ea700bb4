"""The estimate of a stack: a billing rule for every type, and what all of its resources cost together."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from runtime.cost import aws_parts, endpoints, fargate, nodes, workloads
from runtime.cost.amounts import PLACES, Band, Charge, Entry, Free, Place, UsePrice, total
from runtime.cost.billing import Rule, unpriced
from runtime.cost.inventory import Inventory, NotKnownError
from runtime.pricing import HOURS_PER_MONTH, STALE, oldest
from runtime.stack_resources import StackResource

# Every type that is paid for. A type that is neither here nor in FREE is unpriced, and named.
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "aws:cloudwatch/compositeAlarm:CompositeAlarm": aws_parts.composite_alarm,
        "aws:cloudwatch/dashboard:Dashboard": aws_parts.dashboard,
        nodes.AUTO_SCALING_GROUP: nodes.auto_scaling_group,
        "aws:cloudwatch/logGroup:LogGroup": aws_parts.log_group,
        "aws:cloudwatch/logMetricFilter:LogMetricFilter": aws_parts.log_metric,
        "aws:cloudwatch/metricAlarm:MetricAlarm": aws_parts.alarm,
        "aws:ec2/eip:Eip": aws_parts.public_address,
        "aws:ec2/natGateway:NatGateway": aws_parts.nat_gateway,
        "aws:ec2/vpcEndpoint:VpcEndpoint": aws_parts.vpc_endpoint,
        "aws:ec2/vpnConnection:VpnConnection": aws_parts.vpn_connection,
        "aws:ecr/repository:Repository": aws_parts.repository,
        fargate.CLUSTER: fargate.cluster,
        fargate.SERVICE: fargate.service,
        "aws:eks/cluster:Cluster": aws_parts.control_plane,
        nodes.NODE_GROUP: nodes.node_group,
        "aws:kms/key:Key": aws_parts.key,
        "aws:lb/loadBalancer:LoadBalancer": aws_parts.load_balancer,
        "aws:s3/bucket:Bucket": aws_parts.bucket,
        endpoints.ENDPOINT: endpoints.endpoint,
        "aws:secretsmanager/secret:Secret": aws_parts.secret,
        "aws:sns/topic:Topic": aws_parts.topic,
        "aws:sqs/queue:Queue": aws_parts.queue,
        nodes.NODE_POOL: nodes.node_pool,
        "kubernetes:apps/v1:DaemonSet": workloads.other_workload,
        "kubernetes:apps/v1:Deployment": workloads.deployment,
        "kubernetes:apps/v1:StatefulSet": workloads.other_workload,
        "kubernetes:batch/v1:Job": workloads.other_workload,
        "kubernetes:core/v1:PersistentVolumeClaim": workloads.volume_claim,
        "kubernetes:core/v1:Pod": workloads.other_workload,
        "kubernetes:core/v1:Service": workloads.service,
        "kubernetes:ray.io/v1:RayCluster": workloads.ray_cluster,
        "kubernetes:ray.io/v1:RayService": workloads.ray_service,
    }
)

_BELONGS = "a setting of something that is billed by itself"
_NO_CHARGE = "AWS charges nothing for it"
_IDENTITY = "identities and permissions cost nothing"
# Every type of AWS that is not paid for, and why not.
FREE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "aws:appautoscaling/policy:Policy": _BELONGS,
        "aws:appautoscaling/scheduledAction:ScheduledAction": _BELONGS,
        "aws:appautoscaling/target:Target": _BELONGS,
        "aws:autoscaling/attachment:Attachment": _BELONGS,
        "aws:autoscaling/tag:Tag": _BELONGS,
        # Of this kind there are inference components only, which are parts of an endpoint's machines.
        "aws:cloudcontrol/resource:Resource": "its endpoint is billed",
        "aws:budgets/budget:Budget": "budgets without actions cost nothing",
        "aws:cloudwatch/eventRule:EventRule": "rules on events of AWS' own services cost nothing",
        "aws:cloudwatch/eventTarget:EventTarget": _BELONGS,
        "aws:directconnect/gateway:Gateway": "ports and traffic of the connection are not the stack's",
        "aws:directconnect/gatewayAssociation:GatewayAssociation": "the gateway is not the stack's",
        "aws:ec2/customerGateway:CustomerGateway": _NO_CHARGE,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _NO_CHARGE,
        "aws:ec2/flowLog:FlowLog": "what it writes is paid for by its log group",
        "aws:ec2/internetGateway:InternetGateway": _NO_CHARGE,
        "aws:ec2/launchTemplate:LaunchTemplate": "what is started from it is billed as nodes",
        "aws:ec2/placementGroup:PlacementGroup": _NO_CHARGE,
        "aws:ec2/route:Route": _NO_CHARGE,
        "aws:ec2/routeTable:RouteTable": _NO_CHARGE,
        "aws:ec2/routeTableAssociation:RouteTableAssociation": _NO_CHARGE,
        "aws:ec2/securityGroup:SecurityGroup": _NO_CHARGE,
        "aws:ec2/subnet:Subnet": _NO_CHARGE,
        "aws:ec2/vpc:Vpc": _NO_CHARGE,
        "aws:ec2/vpnConnectionRoute:VpnConnectionRoute": _BELONGS,
        "aws:ec2/vpnGateway:VpnGateway": "its connections are billed",
        "aws:ec2/vpnGatewayRoutePropagation:VpnGatewayRoutePropagation": _BELONGS,
        "aws:ecr/lifecyclePolicy:LifecyclePolicy": _BELONGS,
        "aws:ecr/repositoryPolicy:RepositoryPolicy": _BELONGS,
        fargate.TASK_DEFINITION: "the service that runs it is billed",
        "aws:eks/accessEntry:AccessEntry": _IDENTITY,
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": _IDENTITY,
        "aws:eks/addon:Addon": "EKS' own add-ons cost nothing; their pods run on nodes",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": _IDENTITY,
        "aws:iam/instanceProfile:InstanceProfile": _IDENTITY,
        "aws:iam/openIdConnectProvider:OpenIdConnectProvider": _IDENTITY,
        "aws:iam/policy:Policy": _IDENTITY,
        "aws:iam/role:Role": _IDENTITY,
        "aws:iam/rolePolicy:RolePolicy": _IDENTITY,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _IDENTITY,
        "aws:kms/alias:Alias": _BELONGS,
        "aws:lb/listener:Listener": _BELONGS,
        "aws:lb/targetGroup:TargetGroup": _BELONGS,
        "aws:lb/targetGroupAttachment:TargetGroupAttachment": _BELONGS,
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _BELONGS,
        "aws:s3/bucketLogging:BucketLogging": "what it writes lies in a bucket",
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _BELONGS,
        "aws:s3/bucketPolicy:BucketPolicy": _BELONGS,
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _BELONGS,
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _BELONGS,
        "aws:s3/bucketVersioning:BucketVersioning": _BELONGS,
        "aws:sagemaker/endpointConfiguration:EndpointConfiguration": "its endpoint is billed",
        "aws:sagemaker/model:Model": "its endpoint is billed",
        "aws:sagemaker/modelPackageGroup:ModelPackageGroup": "a list; what it names lies in a bucket",
        "aws:secretsmanager/secretVersion:SecretVersion": _BELONGS,
        "aws:sns/topicPolicy:TopicPolicy": _BELONGS,
        "aws:sns/topicSubscription:TopicSubscription": _BELONGS,
        "aws:sqs/queuePolicy:QueuePolicy": _BELONGS,
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _NO_CHARGE,
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _NO_CHARGE,
    }
)
# Providers whose objects cost nothing by themselves, unless RULES has their type.
_FREE_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kubernetes": "an object of a cluster; what pods run on is billed",
        "pulumi": "Pulumi's own",
        "random": "a value in the state",
        "spillway": "a grouping of resources that are billed by themselves",
    }
)

# What no figure of an estimate has in it.
EXCLUDED: Final = (
    "data transfer, within AWS and out of it",
    "requests to S3, KMS, ECR and CloudWatch",
    "discounts: Savings Plans, reservations, private prices, spot",
    "tax and support",
    "on-prem machines beside their accelerators",
)


@dataclass(frozen=True, kw_only=True)
class DeviceCount:
    """How many accelerators of one kind there are in one place.

    Attributes:
        place: Where.
        accelerator: Which.
        count: How many; fractions are shares of a device.
    """

    place: Place
    accelerator: str
    count: Band


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a stack costs.

    Attributes:
        charges: All that is paid for by the time that it is there, unpriced things among them.
        by_use: All that is paid for by use: named with its price, and in no sum.
        free: Type of what is not paid for, to the reason.
        resources: How many resources were looked at.
        warnings: What makes the figures less than they seem.
    """

    charges: tuple[Charge, ...]
    by_use: tuple[UsePrice, ...] = ()
    free: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resources: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def hourly(self) -> Band:
        """USD per hour of all that is priced."""
        return total(amount for charge in self.charges if (amount := charge.amount) is not None)

    @property
    def monthly(self) -> Band:
        """USD per month of 730 hours."""
        return self.hourly * Band.same(HOURS_PER_MONTH)

    @property
    def unpriced(self) -> tuple[Charge, ...]:
        """What is paid for and in no sum, because its price or its number is not known."""
        return tuple(
            charge for charge in self.charges if charge.usd_per_hour is None and not charge.count.is_zero
        )

    @property
    def unbounded(self) -> tuple[Charge, ...]:
        """What nothing bounds, so that there is no ceiling."""
        return tuple(charge for charge in self.charges if charge.count.ceiling is None)

    @property
    def devices(self) -> tuple[DeviceCount, ...]:
        """Accelerators by place and kind, unpriced ones among them."""
        found: dict[tuple[Place, str], list[Band]] = {}
        for charge in self.charges:
            if charge.accelerator:
                found.setdefault((charge.place, charge.accelerator), []).append(charge.all_devices)
        ordered = sorted(found.items(), key=lambda item: (PLACES.index(item[0][0]), item[0][1]))
        return tuple(
            DeviceCount(place=place, accelerator=accelerator, count=total(bands))
            for (place, accelerator), bands in ordered
        )

    @property
    def prices_from(self) -> str:
        """The day of the oldest price that was used, as YYYY-MM-DD; empty where none was."""
        return oldest(price for charge in self.charges for price in charge.prices)

    def exposure(self, now: dt.datetime, expires: dt.datetime) -> Decimal | None:
        """USD that are spent at most until the stack expires; None where nothing bounds it.

        Args:
            now: From when.
            expires: Until when, with a time zone as `now` has one. Nothing is exposed after it.
        """
        ceiling = self.hourly.ceiling
        if ceiling is None:
            return None
        seconds = max(Decimal((expires - now).total_seconds()), Decimal(0))
        return ceiling * seconds / Decimal(3600)


def estimate(
    resources: Sequence[StackResource], *, region: str = "", today: dt.date | None = None
) -> Estimate:
    """What the resources of a stack cost by list prices.

    Args:
        resources: All of them: from a state, or what there would be after an update.
        region: AWS region where no provider among them names one.
        today: For the age of the prices; the day itself if None.
    """
    stack = Inventory(resources, region)
    entries = [(resource, entry) for resource in resources for entry in charges_of(resource, stack)]
    charges = tuple(entry for _, entry in entries if isinstance(entry, Charge))
    return Estimate(
        charges=charges,
        by_use=tuple(entry for _, entry in entries if isinstance(entry, UsePrice)),
        free={one.type: entry.reason for one, entry in entries if isinstance(entry, Free)},
        resources=len(resources),
        warnings=tuple(_warnings(charges, today or dt.datetime.now(dt.UTC).date())),
    )


def charges_of(resource: StackResource, stack: Inventory) -> Iterable[Entry]:
    """What one resource is charged for; never nothing, so that no resource goes unseen."""
    rule = RULES.get(resource.type)
    if rule is not None:
        try:
            return list(rule(resource, stack))
        except NotKnownError as error:
            return [unpriced(resource, _place(resource, stack), "all of it", str(error))]
    reason = FREE.get(resource.type) or _FREE_KINDS.get(resource.type.partition(":")[0])
    if reason is not None:
        return [Free(reason)]
    why = f"Spillway has no rule of what {resource.type} costs; add one to runtime/cost/estimate.py"
    return [unpriced(resource, _place(resource, stack), "all of it", why)]


def _place(resource: StackResource, stack: Inventory) -> Place:
    if resource.type.startswith("kubernetes:"):
        return stack.place_of(resource)
    service = resource.type.partition(":")[2].partition("/")[0]
    places: Mapping[str, Place] = {"eks": "EKS", "sagemaker": "SageMaker"}
    return places.get(service, "AWS")


def _warnings(charges: Sequence[Charge], today: dt.date) -> Iterable[str]:
    used = [price for charge in charges for price in charge.prices]
    old = {price.item for price in used if today - dt.date.fromisoformat(price.date) > STALE}
    if old:
        yield (
            f"{len(old)} of {len({price.item for price in used})} prices are over {STALE.days} days old, the "
            f"oldest from {oldest(used)}; refresh them with `python -m runtime.ops prices refresh`"
        )
    guessed = sorted({price.item for price in used if price.source.startswith("from memory")})
    if guessed:
        yield f"from memory and not looked up: {', '.join(guessed)}"
