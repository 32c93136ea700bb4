"""The setting `cloud`: the AWS account, network, link, cluster and nodes that a hybrid stack bursts to."""

import ipaddress
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from runtime import versions
from runtime.burst.policy import BurstPolicy
from runtime.gateway.config import is_certificates
from runtime.instances import INSTANCES, known_region
from runtime.model import (
    ContradictionError,
    ContradictionsError,
    Image,
    Mistake,
    ModelSpec,
    ObjectName,
    Spec,
    written_as,
)
from runtime.node_groups import (
    InstanceTypeName,
    NodeGroupSpec,
    ZoneName,
    group_of,
    instance_mistakes,
    placement_mistakes,
    region_mistakes,
)

_ACCOUNT = r"^[0-9]{12}$"
_ROLE = r"^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$"
_PRINCIPAL = r"^arn:aws:iam::[0-9]{12}:(role|user)/[A-Za-z0-9_+=,.@/-]+$"
_VPC = r"^vpc-[0-9a-f]{8,17}$"
_SUBNET = r"^subnet-[0-9a-f]{8,17}$"
_DX_GATEWAY = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_VERSION = r"^1\.[0-9]{2}$"
_SERVER_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$"
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
# A bucket's name has 63 characters at most: `NAME-burst-models-ACCOUNT-REGION`, with REGION up to 14.
MAX_CLOUD_NAME = 20
# What a VPC may be, and what EKS needs of it (docs.aws.amazon.com/vpc, VPC CIDR blocks: /16 to /28).
_LARGEST_VPC, _SMALLEST_VPC = 16, 24
_FEWEST_ZONES, _MOST_ZONES = 2, 6
# RFC 1918, RFC 6598 (shared), loopback, link-local.
_NEVER_PUBLIC = tuple(
    ipaddress.IPv4Network(cidr)
    for cidr in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
    )
)


def _cidr(value: str) -> str:
    try:
        ipaddress.IPv4Network(value)
    except ValueError:
        raise ValueError(
            "must be an IPv4 network whose host bits are 0, such as 10.20.0.0/16; write it so"
        ) from None
    return value


def _address(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        address = None
    if address is None or any(address in network for network in _NEVER_PUBLIC):
        raise ValueError("must be the public IPv4 address of your VPN device; write that")
    return value


def _private_address(value: str) -> str:
    try:
        private = ipaddress.IPv4Address(value).is_private
    except ValueError:
        private = False
    if not private:
        raise ValueError("must be a private IPv4 address such as 10.20.0.10; write one of the subnet")
    return value


def _certificates(value: str) -> str:
    if not is_certificates(value):
        raise ValueError("must be certificates in PEM and nothing else; write the CA's own, not its key")
    return value


Cidr = Annotated[
    str,
    AfterValidator(_cidr),
    written_as(r"^[0-9.]{7,15}/[0-9]{1,2}$", "an IPv4 network in CIDR notation", "10.20.0.0/16"),
]
PrivateAddress = Annotated[
    str,
    AfterValidator(_private_address),
    written_as(r"^[0-9.]{7,15}$", "a private IPv4 address", "10.20.0.10"),
]
PublicAddress = Annotated[
    str,
    AfterValidator(_address),
    written_as(r"^[0-9.]{7,15}$", "a public IPv4 address", "198.51.100.7"),
]
RegionName = Annotated[str, AfterValidator(known_region)]
AccountId = Annotated[
    str,
    StringConstraints(pattern=_ACCOUNT),
    written_as(_ACCOUNT, "the 12 digits of an AWS account, in quotes", "123456789012"),
]
RoleArn = Annotated[
    str,
    StringConstraints(pattern=_ROLE),
    written_as(_ROLE, "the ARN of an IAM role", "arn:aws:iam::123456789012:role/spillway"),
]
PrincipalArn = Annotated[
    str,
    StringConstraints(pattern=_PRINCIPAL),
    written_as(_PRINCIPAL, "the ARN of an IAM role or user", "arn:aws:iam::123456789012:role/platform"),
]
VpcId = Annotated[
    str, StringConstraints(pattern=_VPC), written_as(_VPC, "the id of a VPC", "vpc-0123456789abcdef0")
]
SubnetId = Annotated[
    str,
    StringConstraints(pattern=_SUBNET),
    written_as(_SUBNET, "the id of a subnet", "subnet-0123456789abcdef0"),
]
DirectConnectGatewayId = Annotated[
    str,
    StringConstraints(pattern=_DX_GATEWAY),
    written_as(_DX_GATEWAY, "the id of a Direct Connect gateway", "5a2b1c3d-0000-4000-8000-0123456789ab"),
]
ClusterVersion = Annotated[
    str,
    StringConstraints(pattern=_VERSION),
    written_as(_VERSION, 'a Kubernetes version such as "1.34", in quotes', "1.34"),
]
ServerName = Annotated[
    str,
    StringConstraints(pattern=_SERVER_NAME),
    written_as(_SERVER_NAME, "a lower-case DNS name", "spill.llm.internal"),
]
Certificates = Annotated[
    str,
    AfterValidator(_certificates),
    written_as(r"^-----BEGIN CERTIFICATE-----", "certificates in PEM"),
]
Email = Annotated[
    str, StringConstraints(pattern=_EMAIL), written_as(_EMAIL, "an e-mail address", "gpu@example.com")
]


def _of_zones(count: int) -> str:
    return f"are in {count} zones, and allowed are {_FEWEST_ZONES} to {_MOST_ZONES}, of which one may fail"


class AssumeRole(Spec):
    """The role that Pulumi takes on in the account. Without it the caller acts as itself."""

    role_arn: RoleArn = Field(description="ARN of the role.")
    external_id: str | None = Field(
        default=None,
        min_length=2,
        max_length=1224,
        description="What its trust policy asks for, if anything.",
    )


class PrivateVpc(Spec):
    """A VPC that Spillway makes, without a way to the internet: private subnets and endpoints, flow logs."""

    cidr: Cidr = Field(description="Its network, /16 to /24, outside of all that is on-prem.")
    zones: tuple[ZoneName, ...] = Field(
        description="Two to six availability zones, each with one subnet, so that one zone may fail."
    )

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        prefix = ipaddress.IPv4Network(self.cidr).prefixlen
        if not _LARGEST_VPC <= prefix <= _SMALLEST_VPC:
            raise ContradictionError("cidr", "must be a network of /16 to /24; change the number after the /")
        return self

    @model_validator(mode="after")
    def _distinct_zones(self) -> Self:
        if len(set(self.zones)) < len(self.zones):
            raise ContradictionError("zones", "names a zone more than once; name each once")
        if not _FEWEST_ZONES <= len(self.zones) <= _MOST_ZONES:
            raise ContradictionError("zones", f"{_of_zones(len(self.zones))}; name that many")
        return self


class NewVpc(PrivateVpc):
    """A VPC that Spillway makes: private subnets, flow logs, a closed default security group."""

    egress: Literal["endpoints", "nat"] = Field(
        default="endpoints",
        description="`endpoints`: nodes reach AWS' services by private endpoints, and no internet. `nat`: "
        "one NAT gateway, where nodes must reach more.",
    )


class ExistingSubnet(Spec):
    """A private subnet for nodes."""

    id: SubnetId = Field(description="Its id.")
    zone: ZoneName = Field(description="Its availability zone.")
    entrance_address: PrivateAddress = Field(
        description="A free address in it, for the load balancer that on-prem sends requests to."
    )


class ExistingVpc(Spec):
    """A VPC of yours. Its routes, endpoints and flow logs are yours too, and nothing of it is changed."""

    vpc_id: VpcId = Field(description="Its id.")
    cidr: Cidr = Field(description="Its network, to see that it does not overlap with what is on-prem.")
    subnets: tuple[ExistingSubnet, ...] = Field(
        description="Its private subnets for nodes, one in each of two to six zones."
    )

    @model_validator(mode="after")
    def _two_zones(self) -> Self:
        if len({subnet.zone for subnet in self.subnets}) < len(self.subnets):
            raise ContradictionError("subnets", "are two in one zone; name one for each zone")
        if not _FEWEST_ZONES <= len(self.subnets) <= _MOST_ZONES:
            raise ContradictionError("subnets", f"{_of_zones(len(self.subnets))}; name one in each")
        return self


class CloudNetwork(Spec):
    """Where the EKS side is: one of new and existing."""

    new: NewVpc | None = Field(default=None, description="A VPC to make.")
    existing: ExistingVpc | None = Field(default=None, description="A VPC that is there.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.new is None) == (self.existing is None):
            given = "names both new and existing" if self.new else "names neither new nor existing"
            raise ValueError(f"{given}; give exactly one of the two")
        return self

    @property
    def zones(self) -> tuple[str, ...]:
        """Its availability zones."""
        if self.existing is not None:
            return tuple(subnet.zone for subnet in self.existing.subnets)
        return self.new.zones if self.new else ()

    @property
    def cidr(self) -> str:
        """Its network."""
        return self.existing.cidr if self.existing is not None else self.new.cidr if self.new else ""


class VpnLink(Spec):
    """A site-to-site VPN with two tunnels to a device of yours."""

    device_address: PublicAddress = Field(description="Public IPv4 address of your VPN device.")
    bgp_asn: int = Field(
        default=65000, ge=1, le=4_294_967_294, description="Autonomous system number of your side."
    )
    routing: Literal["bgp", "static"] = Field(
        default="bgp", description="`static` routes `onPremCidrs` without BGP."
    )


class DirectConnectLink(Spec):
    """A Direct Connect gateway of yours, which gets the VPC attached."""

    gateway_id: DirectConnectGatewayId = Field(description="Its id.")
    amazon_asn: int = Field(
        default=64512,
        ge=64512,
        le=65534,
        description="Private autonomous system number of the VPC's side; not the gateway's own.",
    )


class CloudLink(Spec):
    """How on-prem and the VPC reach each other: one of vpn, directConnect and existing."""

    vpn: VpnLink | None = Field(default=None, description="A VPN to make.")
    direct_connect: DirectConnectLink | None = Field(
        default=None, description="A Direct Connect gateway to attach to."
    )
    existing: bool = Field(
        default=False, description="The two reach each other already, by a transit gateway for example."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = {"vpn": self.vpn, "directConnect": self.direct_connect, "existing": self.existing}
        given = [name for name, value in kinds.items() if value]
        if len(given) != 1:
            raise ValueError(
                f"names {' and '.join(given) or 'nothing'}; give exactly one of vpn, directConnect and "
                "existing"
            )
        return self


class LinkTls(Spec):
    """TLS from the gateway on-prem to the one on EKS, for a link that does not encrypt by itself."""

    server_name: ServerName = Field(
        description="DNS name in the certificate. It is asked for and checked, and need not resolve."
    )
    certificate_secret: ObjectName = Field(
        description="Secret of type kubernetes.io/tls in `namespace` of the EKS cluster. The gateway there "
        "starts when it is there, and follows a renewed one."
    )
    authority: Certificates = Field(
        description="The certificates that may have signed it, as PEM text. They are no secret."
    )


class CloudCluster(Spec):
    """The EKS cluster."""

    version: ClusterVersion = Field(
        default=versions.EKS, description="Kubernetes version, one in standard support."
    )
    admins: tuple[PrincipalArn, ...] = Field(
        min_length=1,
        description="Who may do everything in the cluster; the caller of `pulumi up` must be among them.",
    )
    public_access_cidrs: tuple[Cidr, ...] = Field(
        default=(),
        description="Networks that reach the Kubernetes API over the internet, besides the private endpoint. "
        "Empty: only over the link, which must be up before Pulumi can declare anything in the cluster.",
    )
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096] = Field(
        default=90, description="Days that control plane and flow logs are kept."
    )
    deletion_protection: bool = Field(
        default=True,
        description="Whether EKS refuses to delete the cluster; set it to false before a destroy.",
    )

    @model_validator(mode="after")
    def _not_the_world(self) -> Self:
        for index, cidr in enumerate(self.public_access_cidrs):
            if cidr == "0.0.0.0/0":
                raise ContradictionError(
                    f"publicAccessCidrs.{index}",
                    "opens the Kubernetes API to everybody; name your own networks, or remove it",
                )
        return self


class SystemNodes(Spec):
    """The small CPU nodes that always run: operator, Ray heads, ingress, node autoscaler."""

    instance_type: InstanceTypeName = Field(default="m6i.2xlarge", description="EC2 type, without GPUs.")
    min: int = Field(default=2, ge=1, le=20, description="Nodes at least.")
    max: int = Field(default=3, ge=1, le=20, description="Nodes at most.")
    disk_gib: int = Field(
        default=100, ge=50, le=16_000, description="Encrypted gp3 volume of a node, for images."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ContradictionError("min", f"is above max {self.max}; lower min or raise max")
        return self

    @model_validator(mode="after")
    def _processors_only(self) -> Self:
        if INSTANCES[self.instance_type].gpus:
            raise ContradictionError(
                "instanceType", "has GPUs, which would always be paid; take a type such as m6i.2xlarge"
            )
        return self


class ChartSettings(Spec):
    """Where a Helm chart of the EKS side comes from."""

    install: Literal["chart", "none"] = Field(
        default="chart", description="`none` where something else does its work."
    )
    chart: str | None = Field(
        default=None, description="Chart reference in place of the published one: oci://… or a path."
    )
    version: str | None = Field(default=None, description="Chart version, where it is not the tested one.")


class EfaPlugin(ChartSettings):
    """Where AWS' device plugin for adapters comes from."""

    image: Image | None = Field(
        default=None,
        description="Its image, where AWS' registry of the region is of another account than 602401143452, "
        "as in regions opened after 2019.",
    )


class NodeAutoscaler(Spec):
    """What starts nodes for pods that wait, and stops nodes without pods."""

    kind: Literal["cluster-autoscaler", "karpenter"] = Field(
        default="cluster-autoscaler",
        description="`cluster-autoscaler` moves the node groups. `karpenter` starts nodes of the same types "
        "by itself, within limits of the same sizes.",
    )
    release: ChartSettings = Field(default_factory=lambda: ChartSettings(), description="Its Helm chart.")
    scale_down_minutes: int = Field(
        default=10, ge=1, le=120, description="Minutes after which a node without pods is stopped."
    )


class BudgetAlert(Spec):
    """An AWS budget with alerts. It is a backstop: billing data is hours late. The brake is `burst`."""

    monthly_usd: float = Field(
        gt=0, le=100_000_000, description="USD per month for what has this stack's tag."
    )
    emails: tuple[Email, ...] = Field(
        min_length=1,
        description="Who is told at 80 % and 100 %, and when a forecast is above.",
    )


class CloudSettings(Spec):
    """The AWS side of a hybrid stack: an EKS cluster with GPU node groups that are empty at rest."""

    region: RegionName = Field(description="AWS region.")
    account_id: AccountId = Field(
        description="The account. Credentials of any other are refused before anything is made."
    )
    assume_role: AssumeRole | None = Field(default=None, description="Role to take on in the account.")
    declare: Literal["foundation", "all"] = Field(
        default="all",
        description="`foundation`: only keys, network, link, bucket, repositories and budget, for the first "
        "`up`: nodes start only images that are staged, and staging needs the repositories. `all`: the "
        "cluster and what runs there too. Back to `foundation` removes those and keeps what is staged.",
    )
    network: CloudNetwork = Field(description="The VPC.")
    link: CloudLink | None = Field(default=None, description="The link between the sites.")
    tls: LinkTls | None = Field(
        default=None,
        description="TLS for requests that cross the link. Without it they cross as plain HTTP with a key, "
        "which a VPN encrypts and Direct Connect without MACsec does not.",
    )
    on_prem_cidrs: tuple[Cidr, ...] = Field(
        min_length=1,
        description="Networks of the on-prem side; only they reach the EKS side's load balancer.",
    )
    cluster: CloudCluster = Field(description="The EKS cluster.")
    system_nodes: SystemNodes = Field(
        default_factory=lambda: SystemNodes(), description="The CPU nodes that always run."
    )
    node_groups: tuple[NodeGroupSpec, ...] = Field(
        min_length=1, description="The GPU nodes, a group for each kind."
    )
    autoscaler: NodeAutoscaler = Field(
        default_factory=lambda: NodeAutoscaler(), description="What starts and stops GPU nodes."
    )
    device_plugin: ChartSettings = Field(
        default_factory=lambda: ChartSettings(), description="NVIDIA's device plugin, as a Helm chart."
    )
    efa_plugin: EfaPlugin = Field(
        default_factory=lambda: EfaPlugin(),
        description="AWS' device plugin for adapters, as a Helm chart; declared if a node group has `efa`.",
    )
    images: Literal["ecr", "asGiven"] = Field(
        default="ecr",
        description="`ecr`: nodes pull from repositories of the account, which Spillway makes and staging "
        "fills. `asGiven`: from where the references say, which needs egress `nat` or a mirror in reach.",
    )
    budget: BudgetAlert | None = Field(default=None, description="AWS budget with alerts.")

    @model_validator(mode="after")
    def _distinct_groups(self) -> Self:
        seen: dict[str, int] = {}
        for index, group in enumerate(self.node_groups):
            first = seen.setdefault(group.name, index)
            if first != index:
                raise ContradictionError(
                    f"nodeGroups.{index}.name", f"is the name of nodeGroups[{first}] too; give each its own"
                )
        return self

    @model_validator(mode="after")
    def _offered_and_priced(self) -> Self:
        groups = region_mistakes(self.node_groups, self.region)
        found = [Mistake(("nodeGroups", *one.path), one.message) for one in groups]
        system = INSTANCES[self.system_nodes.instance_type]
        found += instance_mistakes(("systemNodes", "instanceType"), system, self.region)
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _zones_are_in_the_region(self) -> Self:
        found = list(_zone_mistakes(self))
        if found:
            raise ContradictionsError(found)
        return self

    @model_validator(mode="after")
    def _fabric_has_a_placement_group(self) -> Self:
        for index, group in enumerate(self.node_groups):
            if group.efa and self.autoscaler.kind == "karpenter":
                raise ContradictionError(
                    f"nodeGroups.{index}.efa",
                    "is true, and autoscaler.kind is karpenter, which starts nodes outside of the placement "
                    "group; set kind to cluster-autoscaler, or remove efa",
                )
        return self

    @model_validator(mode="after")
    def _link_is_ours_to_make(self) -> Self:
        if self.network.existing is not None and self.link is not None and not self.link.existing:
            kind = "vpn" if self.link.vpn is not None else "directConnect"
            raise ContradictionError(
                f"link.{kind}",
                "would change the routes of a VPC that is yours (network.existing); make the link there and "
                "set link to existing: true",
            )
        return self

    @model_validator(mode="after")
    def _networks_are_apart(self) -> Self:
        if not self.network.cidr:
            return self  # names no network, which is told there
        vpc = ipaddress.IPv4Network(self.network.cidr)
        for index, cidr in enumerate(self.on_prem_cidrs):
            if vpc.overlaps(ipaddress.IPv4Network(cidr)):
                raise ContradictionError(
                    f"onPremCidrs.{index}",
                    f"overlaps with the VPC's {vpc}, so neither side could reach the other; change "
                    "one of them",
                )
        return self


def _zone_mistakes(cloud: CloudSettings) -> Iterator[Mistake]:
    if cloud.network.new is not None:
        for index, zone in enumerate(cloud.network.new.zones):
            if zone[:-1] != cloud.region:
                yield Mistake(
                    ("network", "new", "zones", index), f"is not in region {cloud.region}; name zones of that"
                )
    for index, group in enumerate(cloud.node_groups):
        for place, zone in enumerate(group.zones):
            if zone not in cloud.network.zones:
                yield Mistake(
                    ("nodeGroups", index, "zones", place),
                    f"is none of the network's zones ({', '.join(cloud.network.zones)}); take one of them, "
                    "or add it to the network",
                )


def burst_mistakes(
    models: Sequence[ModelSpec], cloud: CloudSettings, burst: BurstPolicy
) -> Iterator[Mistake]:
    """What the parts of a hybrid stack do not allow each other; paths start at the platform's settings."""
    spilling = [(index, there) for index, one in enumerate(models) if (there := one.in_cloud) is not None]
    if not spilling:
        yield Mistake(
            ("models",),
            "have none with spill, so nothing could use the cloud; give a model spill: {maxReplicas: 1}, or "
            "use scenario onprem",
        )
        return
    if cloud.link is None:
        yield Mistake(
            ("cloud", "link"),
            f"is missing, and model {spilling[0][1].name} has spill; requests cross it, so name vpn, "
            "directConnect or existing: true",
        )
    yield from placement_mistakes(models, cloud.node_groups, cloud.region)
    for _, model in spilling:
        group = group_of(model, cloud.node_groups, cloud.region)
        price = group and group.node_price(cloud.region)
        if group is None or price is None:
            continue
        copy_price = price * Decimal(group.nodes_for(model, 1) or 1)
        if copy_price > burst.ceiling:
            yield Mistake(
                ("burst", "ceilingUsdPerHour"),
                f"is below ${copy_price.normalize():f}, which one copy of model {model.name} costs per hour "
                f"on node group {group.name}; raise it, or name cheaper nodes",
            )
