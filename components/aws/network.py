"""The VPC of the AWS side: private subnets, a way to AWS' services, flow logs, a closed default group."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pulumi
from pulumi_aws import cloudwatch, ec2, iam

from components.aws.account import ENDPOINTS, CloudAccount
from components.aws.policies import FLOW_LOGS, flow_log_writer, only_this_account, trust
from components.base import Component

# Eight equal blocks: one for each of at most six zones, and the last for the public subnet of a NAT gateway.
_BLOCKS = 3
_PUBLIC_BLOCK = 7
# The tenth address of a zone's subnet: AWS keeps the first four and the last.
_ENTRANCE_HOST = 10


@dataclass(frozen=True, kw_only=True)
class NetworkPlace:
    """Where the EKS side is, whoever made it.

    Attributes:
        vpc_id: The VPC.
        subnets: Zone to private subnet.
        entrance: Zone to the private address of the load balancer there.
        needs: What must be there before anything runs in it, and until nothing does.
        route_table_id: Routes of the private subnets; None where they are not ours.
        s3_prefix_list: The addresses of S3 in the region, as a security group names them.
    """

    vpc_id: pulumi.Input[str]
    subnets: Mapping[str, pulumi.Input[str]]
    entrance: Mapping[str, str]
    needs: tuple[pulumi.Resource, ...] = ()
    route_table_id: pulumi.Input[str] | None = None
    s3_prefix_list: pulumi.Input[str] | None = None


@dataclass(frozen=True, kw_only=True)
class CloudNetworkArgs:
    """Arguments of CloudNetwork.

    Attributes:
        cloud: Account, region and names.
        cidr: The VPC's network.
        zones: Availability zones, each with one private subnet.
        egress: `endpoints` for AWS' services only, `nat` for the internet.
        log_key: ARN of the key that encrypts the flow logs.
        log_retention_days: How long they are kept.
        services: AWS' services that are reached by private endpoints.
        subnet_tags: Further tags of the private subnets; by itself those that load balancers of Kubernetes
            look for.
    """

    cloud: CloudAccount
    cidr: str
    zones: tuple[str, ...]
    egress: Literal["endpoints", "nat"]
    log_key: pulumi.Input[str]
    log_retention_days: int
    services: tuple[str, ...] = ENDPOINTS
    subnet_tags: Mapping[str, str] = field(default_factory=lambda: {"kubernetes.io/role/internal-elb": "1"})


class CloudNetwork(Component):
    """A VPC without public addresses on nodes.

    With `endpoints` nothing in it reaches the internet. With `nat` one gateway does for all zones: if its
    zone is lost, running copies go on serving, and new ones cannot start.
    """

    place: NetworkPlace

    def __init__(self, name: str, args: CloudNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {"cidr": args.cidr, "zones": list(args.zones), "egress": args.egress}
        super().__init__("aws:CloudNetwork", name, declared, opts)
        self._args = args
        self.vpc = ec2.Vpc(
            name,
            cidr_block=args.cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": name},
            opts=self.child(),
        )
        ec2.DefaultSecurityGroup(f"{name}-default", vpc_id=self.vpc.id, opts=self.child())
        blocks = subnet_blocks(args.cidr)
        table = ec2.RouteTable(
            f"{name}-private", vpc_id=self.vpc.id, tags={"Name": f"{name}-private"}, opts=self.child()
        )
        subnets: dict[str, pulumi.Input[str]] = {}
        needs: list[pulumi.Resource] = []
        for zone, block in zip(args.zones, blocks, strict=False):
            subnet = ec2.Subnet(
                f"{name}-{zone}",
                vpc_id=self.vpc.id,
                cidr_block=str(block),
                availability_zone=zone,
                map_public_ip_on_launch=False,
                tags={"Name": f"{name}-{zone}", **args.subnet_tags},
                opts=self.child(),
            )
            needs.append(
                ec2.RouteTableAssociation(
                    f"{name}-{zone}-routes", subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
                )
            )
            subnets[zone] = subnet.id
        needs += self._flow_log(name)
        needs += self._nat(name, table, blocks[_PUBLIC_BLOCK]) if args.egress == "nat" else []
        needs += self._endpoints(name, table, subnets)
        self.place = NetworkPlace(
            vpc_id=self.vpc.id,
            subnets=subnets,
            entrance=entrance_addresses(args.cidr, args.zones),
            needs=tuple(needs),
            route_table_id=table.id,
            s3_prefix_list=self.s3.prefix_list_id,
        )
        self.finish(vpcId=self.vpc.id)

    def _nat(self, name: str, private: ec2.RouteTable, block: ipaddress.IPv4Network) -> list[pulumi.Resource]:
        gateway = ec2.InternetGateway(f"{name}-internet", vpc_id=self.vpc.id, opts=self.child())
        public = ec2.Subnet(
            f"{name}-public",
            vpc_id=self.vpc.id,
            cidr_block=str(block),
            availability_zone=self._args.zones[0],
            map_public_ip_on_launch=False,
            tags={"Name": f"{name}-public"},
            opts=self.child(),
        )
        table = ec2.RouteTable(
            f"{name}-public", vpc_id=self.vpc.id, tags={"Name": f"{name}-public"}, opts=self.child()
        )
        ec2.RouteTableAssociation(
            f"{name}-public-routes", subnet_id=public.id, route_table_id=table.id, opts=self.child()
        )
        out = ec2.Route(
            f"{name}-public-out",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=self.child(),
        )
        address = ec2.Eip(f"{name}-nat", domain="vpc", tags={"Name": f"{name}-nat"}, opts=self.child())
        nat = ec2.NatGateway(
            f"{name}-nat",
            allocation_id=address.id,
            subnet_id=public.id,
            tags={"Name": name},
            opts=self.child(depends_on=[out]),
        )
        route = ec2.Route(
            f"{name}-private-out",
            route_table_id=private.id,
            destination_cidr_block="0.0.0.0/0",
            nat_gateway_id=nat.id,
            opts=self.child(),
        )
        return [route]

    def _endpoints(
        self, name: str, table: ec2.RouteTable, subnets: Mapping[str, pulumi.Input[str]]
    ) -> list[pulumi.Resource]:
        args = self._args
        policy = only_this_account(args.cloud.account)
        # Costs nothing, and keeps the weights off a NAT gateway, which is paid by the gigabyte.
        self.s3 = ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=self.vpc.id,
            vpc_endpoint_type="Gateway",
            service_name=f"com.amazonaws.{args.cloud.region}.s3",
            route_table_ids=[table.id],
            tags={"Name": f"{name}-s3"},
            opts=self.child(),
        )
        made: list[pulumi.Resource] = [self.s3]
        if args.egress != "endpoints":
            return made
        group = ec2.SecurityGroup(
            f"{name}-endpoints",
            vpc_id=self.vpc.id,
            description="HTTPS from the VPC to the endpoints of AWS services",
            ingress=[
                {"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_blocks": [args.cidr]},
            ],
            tags={"Name": f"{name}-endpoints"},
            opts=self.child(),
        )
        for service in args.services:
            made.append(
                ec2.VpcEndpoint(
                    f"{name}-{service.replace('.', '-')}",
                    vpc_id=self.vpc.id,
                    vpc_endpoint_type="Interface",
                    service_name=f"com.amazonaws.{args.cloud.region}.{service}",
                    private_dns_enabled=True,
                    subnet_ids=list(subnets.values()),
                    security_group_ids=[group.id],
                    policy=policy,
                    tags={"Name": f"{name}-{service}"},
                    opts=self.child(),
                )
            )
        return made

    def _flow_log(self, name: str) -> list[pulumi.Resource]:
        args = self._args
        logs = cloudwatch.LogGroup(
            f"{name}-flow",
            name=f"/spillway/{args.cloud.name}/flow",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.log_key,
            opts=self.child(),
        )
        role = iam.Role(
            f"{name}-flow",
            name=f"{args.cloud.name}-flow-logs",
            assume_role_policy=trust(FLOW_LOGS, account=args.cloud.account),
            opts=self.child(),
        )
        iam.RolePolicy(
            f"{name}-flow", role=role.id, policy=logs.arn.apply(flow_log_writer), opts=self.child()
        )
        flow = ec2.FlowLog(
            f"{name}-flow",
            vpc_id=self.vpc.id,
            traffic_type="ALL",
            log_destination=logs.arn,
            iam_role_arn=role.arn,
            tags={"Name": name},
            opts=self.child(),
        )
        return [flow]


def subnet_blocks(cidr: str) -> list[ipaddress.IPv4Network]:
    """The eight equal parts of a VPC's network."""
    return list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=_BLOCKS))


def entrance_addresses(cidr: str, zones: tuple[str, ...]) -> dict[str, str]:
    """Zone to the load balancer's private address in a new VPC, known before anything is made."""
    return {zone: str(block[_ENTRANCE_HOST]) for zone, block in zip(zones, subnet_blocks(cidr), strict=False)}
