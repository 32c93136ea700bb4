"""What a stack opens to the internet, and the AWS regions that it is in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

from runtime.stack_resources import UNKNOWN, StackResource

_ANYWHERE: Final = frozenset({"0.0.0.0/0", "::/0"})
# By either annotation a load balancer stays inside the VPC.
_INTERNAL: Final = {
    "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
}
_BLOCKS: Final = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def regions(resources: Iterable[StackResource]) -> frozenset[str]:
    """The AWS regions that the stack's providers name."""
    named = (one.inputs.get("region") for one in resources if one.type == "pulumi:providers:aws")
    return frozenset(region for region in named if isinstance(region, str))


def openings(resources: Iterable[StackResource]) -> frozenset[str]:
    """Everything that somebody outside could reach, in words; what is not known counts as open."""
    return frozenset(words for one in resources for words in _openings(one))


def _openings(one: StackResource) -> Iterator[str]:
    inputs = one.inputs
    match one.type:
        case "aws:eks/cluster:Cluster":
            network = _mapping(inputs.get("vpcConfig"))
            # AWS' default is public, from everywhere.
            if network.get("endpointPublicAccess", True) is not False:
                cidrs = _cidrs(network.get("publicAccessCidrs", ["0.0.0.0/0"]))
                yield f"Kubernetes API of {one.name}, from {', '.join(cidrs)}"
        case "aws:lb/loadBalancer:LoadBalancer":
            if inputs.get("internal", False) is not True:
                yield f"load balancer {one.name}"
        case "aws:ec2/subnet:Subnet":
            if inputs.get("mapPublicIpOnLaunch", False) is not False:
                yield f"machines in subnet {one.name} get public addresses"
        case "aws:ec2/securityGroup:SecurityGroup":
            for rule in map(_mapping, _sequence(inputs.get("ingress"))):
                yield from _ports(
                    one, rule, [*_cidrs(rule.get("cidrBlocks")), *_cidrs(rule.get("ipv6CidrBlocks"))]
                )
        case "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
            yield from _ports(one, inputs, _cidrs([inputs.get("cidrIpv4"), inputs.get("cidrIpv6")]))
        case "aws:ec2/securityGroupRule:SecurityGroupRule":
            if inputs.get("type") == "ingress":
                cidrs = [*_cidrs(inputs.get("cidrBlocks")), *_cidrs(inputs.get("ipv6CidrBlocks"))]
                yield from _ports(one, inputs, cidrs)
        case "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":
            if lifted := [key for key in _BLOCKS if inputs.get(key, False) is not True]:
                yield f"public access block {one.name} without {', '.join(lifted)}"
        case "kubernetes:core/v1:Service":
            yield from _service(one)
        case "kubernetes:networking.k8s.io/v1:Ingress":
            rules = map(_mapping, _sequence(_mapping(inputs.get("spec")).get("rules")))
            yield f"Ingress {one.name} for {', '.join(str(rule.get('host', 'any host')) for rule in rules)}"
        case _:
            return


def _service(one: StackResource) -> Iterator[str]:
    spec = _mapping(one.inputs.get("spec"))
    annotations = _mapping(_mapping(one.inputs.get("metadata")).get("annotations"))
    internal = any(annotations.get(key) == value for key, value in _INTERNAL.items())
    if spec.get("type") in {"LoadBalancer", UNKNOWN} and not internal:
        yield f"load balancer of Service {one.name}"


def _ports(one: StackResource, rule: Mapping[str, object], cidrs: Sequence[str]) -> Iterator[str]:
    if any(cidr in _ANYWHERE or cidr == "not known yet" for cidr in cidrs):
        first, last = rule.get("fromPort"), rule.get("toPort")
        ports = (
            "all ports" if first is None else f"port {first}" if first == last else f"ports {first}-{last}"
        )
        yield f"{ports} of {one.name}, from {', '.join(cidrs)}"


def _cidrs(value: object) -> list[str]:
    if value is UNKNOWN:
        return ["not known yet"]
    return ["not known yet" if one is UNKNOWN else str(one) for one in _sequence(value) if one is not None]


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()
