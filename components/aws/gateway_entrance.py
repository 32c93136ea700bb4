"""The way from clients to the gateway's tasks: an internal load balancer, and security groups around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, lb, vpc

from components.aws.account import CloudAccount
from components.aws.network import NetworkPlace
from components.base import Component

PORT = 80
TLS_PORT = 443

# TLS 1.2 and 1.3, with forward secrecy and without old ciphers (Elastic Load Balancing, security policies).
_TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
# SIGTERM comes to a task only after it, and ends Envoy at once. Each connection carries one request: the last
# one comes while the load balancer still learns of it, takes a minute to send, and eight to be answered.
_DEREGISTRATION_S = 600


@dataclass(frozen=True, kw_only=True)
class GatewayEntranceArgs:
    """Arguments of GatewayEntrance.

    Attributes:
        cloud: Account, region and names.
        place: The VPC and its private subnets.
        cidr: The VPC's network, where the private endpoints of AWS' services are.
        allowed_cidrs: Networks that may come in.
        port: Envoy's port.
        health_port: Port of Envoy's `/ready`.
        certificate_arn: Certificate for TLS at the load balancer; None for plain TCP.
    """

    cloud: CloudAccount
    place: NetworkPlace
    cidr: str
    allowed_cidrs: Sequence[str]
    port: int
    health_port: int
    certificate_arn: str | None


class GatewayEntrance(Component):
    """A network load balancer in front of tasks, and what both may reach.

    Clients' networks reach the load balancer, it reaches the two ports of the tasks, and the tasks reach
    private endpoints of AWS' services, and S3, from which ECR serves layers. Nothing has a public address.
    """

    dns_name: pulumi.Output[str]
    arn_suffix: pulumi.Output[str]
    target_group_arn: pulumi.Output[str]
    target_group_suffix: pulumi.Output[str]
    tasks_group_id: pulumi.Output[str]
    needs: list[pulumi.Resource]

    def __init__(
        self, name: str, args: GatewayEntranceArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        tls = args.certificate_arn is not None
        declared = {"allowedCidrs": list(args.allowed_cidrs), "internal": True, "tls": tls}
        super().__init__("aws:GatewayEntrance", name, declared, opts)
        self._name, self._args = name, args
        door = self._group("entrance", "From clients to the gateway's load balancer, and to its tasks")
        tasks = self._group("tasks", "From the load balancer to the gateway's tasks; out to AWS' services")
        self.tasks_group_id = tasks.id
        self.needs = self._rules(door, tasks)
        balancer = lb.LoadBalancer(
            name,
            name=f"{args.cloud.name}-gateway",
            load_balancer_type="network",
            internal=True,
            security_groups=[door.id],
            subnets=list(args.place.subnets.values()),
            # A zone without a task is served by those of the others.
            enable_cross_zone_load_balancing=True,
            opts=self.child(depends_on=list(args.place.needs)),
        )
        targets = lb.TargetGroup(
            # Pulumi makes its name of this, of 32 characters at most with '-' and seven digits. One that is
            # replaced has a listener and a service on it, so the new one, of another name, is made first.
            f"{args.cloud.name}-gw",
            vpc_id=args.place.vpc_id,
            target_type="ip",
            protocol="TCP",
            port=args.port,
            health_check={
                "protocol": "HTTP",
                "path": "/ready",
                "port": str(args.health_port),
                "interval": 10,
                "healthy_threshold": 2,
                "unhealthy_threshold": 2,
            },
            deregistration_delay=_DEREGISTRATION_S,
            opts=self.child(),
        )
        listener = lb.Listener(
            name,
            load_balancer_arn=balancer.arn,
            port=TLS_PORT if tls else PORT,
            protocol="TLS" if tls else "TCP",
            certificate_arn=args.certificate_arn,
            ssl_policy=_TLS_POLICY if tls else None,
            default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
            opts=self.child(),
        )
        self.dns_name, self.arn_suffix = balancer.dns_name, balancer.arn_suffix
        self.target_group_arn, self.target_group_suffix = targets.arn, targets.arn_suffix
        self.needs = [*self.needs, listener]
        self.finish(dnsName=balancer.dns_name)

    def _group(self, who: str, what: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            f"{self._name}-{who}",
            vpc_id=self._args.place.vpc_id,
            description=what.replace("'", ""),
            tags={"Name": f"{self._name}-{who}"},
            opts=self.child(),
        )

    def _rules(self, door: ec2.SecurityGroup, tasks: ec2.SecurityGroup) -> list[pulumi.Resource]:
        args, name = self._args, self._name
        outside = TLS_PORT if args.certificate_arn else PORT
        made: list[pulumi.Resource] = [
            vpc.SecurityGroupIngressRule(
                f"{name}-clients-{index}",
                security_group_id=door.id,
                description="Clients",
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=outside,
                to_port=outside,
                opts=self.child(),
            )
            for index, cidr in enumerate(args.allowed_cidrs)
        ]
        for what, port in (("requests", args.port), ("health", args.health_port)):
            made += [
                vpc.SecurityGroupEgressRule(
                    f"{name}-{what}-out",
                    security_group_id=door.id,
                    description=f"To the tasks: {what}",
                    referenced_security_group_id=tasks.id,
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    opts=self.child(),
                ),
                vpc.SecurityGroupIngressRule(
                    f"{name}-{what}-in",
                    security_group_id=tasks.id,
                    description=f"From the load balancer: {what}",
                    referenced_security_group_id=door.id,
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    opts=self.child(),
                ),
            ]
        return [
            *made,
            vpc.SecurityGroupEgressRule(
                f"{name}-to-endpoints",
                security_group_id=tasks.id,
                description="Private endpoints of AWS services in the VPC",
                cidr_ipv4=args.cidr,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                opts=self.child(),
            ),
            vpc.SecurityGroupEgressRule(
                f"{name}-to-s3",
                security_group_id=tasks.id,
                description="Layers of images from S3, by the gateway endpoint of the VPC",
                prefix_list_id=args.place.s3_prefix_list,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                opts=self.child(),
            ),
        ]
