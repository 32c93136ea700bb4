"""The entrance of the EKS side: an internal load balancer with fixed private addresses, for on-prem only."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import autoscaling, ec2, lb, vpc

from components.aws.account import CloudAccount
from components.aws.network import NetworkPlace
from components.base import Component

PORT = 80
TLS_PORT = 443
# In Kubernetes' range of node ports, so the gateway's Service can ask for it.
NODE_PORT = 30080


@dataclass(frozen=True, kw_only=True)
class EntranceArgs:
    """Arguments of Entrance.

    Attributes:
        cloud: Account, region and names.
        place: The VPC, its subnets and the addresses for the load balancer.
        on_prem_cidrs: Networks that may come in.
        tls: Whether the gateway behind it speaks TLS, which goes through the load balancer unopened.
    """

    cloud: CloudAccount
    place: NetworkPlace
    on_prem_cidrs: tuple[str, ...]
    tls: bool = False


class Entrance(Component):
    """A network load balancer that Pulumi owns, so that nothing in the cluster makes one of its own.

    It never has a public address. Its security group lets in the on-prem networks, and out to the node port
    alone. The addresses are fixed, so on-prem needs no DNS of AWS to find it, and firewalls can name them.
    """

    security_group_id: pulumi.Output[str]
    target_group_arn: pulumi.Output[str]
    addresses: Mapping[str, str]
    needs: list[pulumi.Resource]

    def __init__(self, name: str, args: EntranceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        declared = {
            "addresses": dict(args.place.entrance),
            "onPremCidrs": list(args.on_prem_cidrs),
            "internal": True,
        }
        super().__init__("aws:Entrance", name, declared, opts)
        port = entrance_port(tls=args.tls)
        group = ec2.SecurityGroup(
            name,
            vpc_id=args.place.vpc_id,
            description="From on-prem to the gateway of the EKS side",
            tags={"Name": name},
            opts=self.child(),
        )
        for index, cidr in enumerate(args.on_prem_cidrs):
            vpc.SecurityGroupIngressRule(
                f"{name}-in-{index}",
                security_group_id=group.id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                opts=self.child(),
            )
        balancer = lb.LoadBalancer(
            name,
            name=args.cloud.name,
            load_balancer_type="network",
            internal=True,
            security_groups=[group.id],
            subnet_mappings=[
                {"subnet_id": subnet, "private_ipv4_address": args.place.entrance[zone]}
                for zone, subnet in args.place.subnets.items()
            ],
            # A zone whose nodes are lost is served by those of the others.
            enable_cross_zone_load_balancing=True,
            opts=self.child(depends_on=list(args.place.needs)),
        )
        targets = lb.TargetGroup(
            name,
            name=args.cloud.name,
            vpc_id=args.place.vpc_id,
            target_type="instance",
            protocol="TCP",
            port=NODE_PORT,
            # The node's kube-proxy answers for pods of any node.
            health_check={
                "protocol": "HTTPS" if args.tls else "HTTP",
                "path": "/healthz",
                "port": str(NODE_PORT),
                "interval": 10,
            },
            # Long answers end before a node is let go.
            deregistration_delay=300,
            opts=self.child(),
        )
        listener = lb.Listener(
            name,
            load_balancer_arn=balancer.arn,
            port=port,
            protocol="TCP",
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            opts=self.child(),
        )
        self.security_group_id, self.target_group_arn = group.id, targets.arn
        self.addresses = args.place.entrance
        self.needs = [listener]
        self.finish(dnsName=balancer.dns_name)


def entrance_port(*, tls: bool) -> int:
    """The port on which the entrance is reached from on-prem."""
    return TLS_PORT if tls else PORT


@dataclass(frozen=True, kw_only=True)
class EntranceTargetsArgs:
    """Arguments of EntranceTargets.

    Attributes:
        entrance_group: Security group of the entrance.
        target_group_arn: Where the nodes are registered.
        nodes_group: Security group of the nodes.
        autoscaling_group: Auto Scaling group of the system nodes.
    """

    entrance_group: pulumi.Input[str]
    target_group_arn: pulumi.Input[str]
    nodes_group: pulumi.Input[str]
    autoscaling_group: pulumi.Input[str]


class EntranceTargets(Component):
    """The system nodes behind the entrance, and the one port between the two."""

    def __init__(
        self, name: str, args: EntranceTargetsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("aws:EntranceTargets", name, {"nodePort": NODE_PORT}, opts)
        vpc.SecurityGroupEgressRule(
            f"{name}-out",
            security_group_id=args.entrance_group,
            referenced_security_group_id=args.nodes_group,
            ip_protocol="tcp",
            from_port=NODE_PORT,
            to_port=NODE_PORT,
            opts=self.child(),
        )
        vpc.SecurityGroupIngressRule(
            f"{name}-in",
            security_group_id=args.nodes_group,
            referenced_security_group_id=args.entrance_group,
            ip_protocol="tcp",
            from_port=NODE_PORT,
            to_port=NODE_PORT,
            opts=self.child(),
        )
        autoscaling.Attachment(
            name,
            autoscaling_group_name=args.autoscaling_group,
            lb_target_group_arn=args.target_group_arn,
            opts=self.child(),
        )
        self.finish(nodePort=NODE_PORT)
