"""Load balancers and target groups, made in moto: they cost money, and the link ends at one."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from typing import Any

from rehearsal.aws.resources.kind import Aws, Properties, first, given, items, kind, name_of, tags_of


class LoadBalancer:
    """aws.lb.LoadBalancer. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        made = aws.client("elbv2").create_load_balancer(
            Name=name_of(inputs),
            Type=inputs.get("loadBalancerType") or "application",
            Scheme="internal" if inputs.get("internal") else "internet-facing",
            **tags_of(inputs),
            **given(inputs, SecurityGroups="securityGroups", IpAddressType="ipAddressType"),
            **self._subnets(inputs),
        )
        return str(made["LoadBalancers"][0]["LoadBalancerArn"])

    def _subnets(self, inputs: Properties) -> Properties:
        mapped = [item["subnetId"] for item in items(inputs, "subnetMappings")]
        return {"Subnets": mapped or items(inputs, "subnets")}

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("elbv2").describe_load_balancers(LoadBalancerArns=[id_])["LoadBalancers"]
        balancer = first(found)
        subnets = sorted(zone["SubnetId"] for zone in balancer["AvailabilityZones"])
        return {
            "name": balancer["LoadBalancerName"],
            "arn": id_,
            "arnSuffix": id_.partition(":loadbalancer/")[2],
            "dnsName": balancer["DNSName"],
            "vpcId": balancer["VpcId"],
            "zoneId": "Z26RNL4JYFTOTI",
            "internal": balancer["Scheme"] == "internal",
            "loadBalancerType": balancer["Type"],
            "ipAddressType": balancer.get("IpAddressType", "ipv4"),
            "subnets": known.get("subnets") or subnets,
            "subnetMappings": known.get("subnetMappings") or [{"subnetId": subnet} for subnet in subnets],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes subnets and security groups."""
        elb = aws.client("elbv2")
        if self._subnets(old) != self._subnets(new):
            elb.set_subnets(LoadBalancerArn=id_, **self._subnets(new))
        if new.get("securityGroups") and old.get("securityGroups") != new["securityGroups"]:
            elb.set_security_groups(LoadBalancerArn=id_, SecurityGroups=new["securityGroups"])

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("elbv2").delete_load_balancer(LoadBalancerArn=id_)


class TargetGroup:
    """aws.lb.TargetGroup. Its id is its ARN. Attributes are kept in the state only."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        port = {"Port": int(inputs["port"])} if inputs.get("port") else {}
        made = aws.client("elbv2").create_target_group(
            Name=name_of(inputs),
            **tags_of(inputs),
            **port,
            **given(inputs, Protocol="protocol", VpcId="vpcId", TargetType="targetType"),
            **_health_check(inputs),
        )
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("elbv2").describe_target_groups(TargetGroupArns=[id_])["TargetGroups"]
        group = first(found)
        return {
            "name": group["TargetGroupName"],
            "arn": id_,
            "arnSuffix": id_.rpartition(":")[2],
            "loadBalancerArns": group.get("LoadBalancerArns", []),
            "vpcId": group.get("VpcId", ""),
            "ipAddressType": "ipv4",
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the health check."""
        if checked := _health_check(new):
            aws.client("elbv2").modify_target_group(TargetGroupArn=id_, **checked)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; AWS refuses while a listener sends to it."""
        aws.client("elbv2").delete_target_group(TargetGroupArn=id_)


def _health_check(inputs: Properties) -> dict[str, Any]:
    """The health check as ELB's API takes it."""
    check: Properties = inputs.get("healthCheck") or {}
    numbers = {
        "HealthCheckIntervalSeconds": "interval",
        "HealthCheckTimeoutSeconds": "timeout",
        "HealthyThresholdCount": "healthyThreshold",
        "UnhealthyThresholdCount": "unhealthyThreshold",
    }
    return {
        **given(check, HealthCheckProtocol="protocol", HealthCheckPort="port", HealthCheckPath="path"),
        **{key: int(check[name]) for key, name in numbers.items() if check.get(name) is not None},
    }


class Listener:
    """aws.lb.Listener. Its id is its ARN."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one that forwards to the target groups of its actions."""
        made = aws.client("elbv2").create_listener(
            LoadBalancerArn=inputs["loadBalancerArn"],
            Port=int(inputs["port"]),
            DefaultActions=self._actions(inputs),
            **given(inputs, Protocol="protocol", SslPolicy="sslPolicy"),
            **self._certificate(inputs),
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def _certificate(self, inputs: Properties) -> Properties:
        arn = inputs.get("certificateArn")
        return {"Certificates": [{"CertificateArn": arn}]} if arn else {}

    def _actions(self, inputs: Properties) -> list[Properties]:
        return [
            {"Type": action["type"], **given(action, TargetGroupArn="targetGroupArn")}
            for action in inputs["defaultActions"]
        ]

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        listener = first(aws.client("elbv2").describe_listeners(ListenerArns=[id_])["Listeners"])
        return {
            "arn": id_,
            "loadBalancerArn": listener["LoadBalancerArn"],
            "port": listener["Port"],
            "protocol": listener["Protocol"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes port and actions."""
        aws.client("elbv2").modify_listener(
            ListenerArn=id_, Port=int(new["port"]), DefaultActions=self._actions(new)
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("elbv2").delete_listener(ListenerArn=id_)


KINDS = (
    kind(
        "aws:lb/loadBalancer:LoadBalancer",
        LoadBalancer(),
        "name namePrefix internal loadBalancerType customerOwnedIpv4Pool",
        "elbv2.SetSubnets elbv2.SetSecurityGroups elbv2.SetIpAddressType",
        name_length=32,
    ),
    kind(
        "aws:lb/targetGroup:TargetGroup",
        TargetGroup(),
        "name namePrefix port protocol protocolVersion targetType vpcId ipAddressType",
        "elbv2.ModifyTargetGroup elbv2.ModifyTargetGroupAttributes",
        name_length=32,
    ),
    kind("aws:lb/listener:Listener", Listener(), "loadBalancerArn", "elbv2.ModifyListener"),
)
