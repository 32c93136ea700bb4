"""The network around models: who gets in, by what, and what is written down about it."""

from typing import Final

from policies.enforcement import ADVISORY, ADVISORY_IN_DEV
from policies.frameworks import cis_eks, cis_kubernetes, fsbp, gdpr
from policies.node_pools import AUTO_SCALING_GROUP, INSTANCE, NODE_GROUP, read_node_pools
from policies.reading import Node, Presence, Unreadable, read
from policies.rule import (
    Answer,
    ConfigKey,
    Found,
    NotApplicable,
    Problem,
    Resource,
    Rule,
    Severity,
    Stack,
    StackRule,
)

SECURITY_GROUP: Final = "aws:ec2/securityGroup:SecurityGroup"
INGRESS_RULE: Final = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
VPC: Final = "aws:ec2/vpc:Vpc"
FLOW_LOG: Final = "aws:ec2/flowLog:FlowLog"
SUBNET: Final = "aws:ec2/subnet:Subnet"
ROUTE: Final = "aws:ec2/route:Route"
ROUTE_TABLE: Final = "aws:ec2/routeTable:RouteTable"
ROUTE_TABLE_ASSOCIATION: Final = "aws:ec2/routeTableAssociation:RouteTableAssociation"
INTERNET_GATEWAY: Final = "aws:ec2/internetGateway:InternetGateway"
VPC_ENDPOINT: Final = "aws:ec2/vpcEndpoint:VpcEndpoint"
NAT_GATEWAY: Final = "aws:ec2/natGateway:NatGateway"
LISTENER: Final = "aws:lb/listener:Listener"
LOAD_BALANCER: Final = "aws:lb/loadBalancer:LoadBalancer"
INGRESS: Final = "kubernetes:networking.k8s.io/v1:Ingress"
NAMESPACE: Final = "kubernetes:core/v1:Namespace"
NETWORK_POLICY: Final = "kubernetes:networking.k8s.io/v1:NetworkPolicy"

_WORLD: Final = frozenset({"0.0.0.0/0", "::/0"})
# vLLM, the gateway, Ray's dashboard, its GCS and its client; SSH. Who reaches Ray's dashboard runs code.
_INSIDE_PORTS: Final = (22, 6379, 8000, 8080, 8265, 10001)
_SERVICES: Final = ("s3", "ecr.api", "ecr.dkr", "logs", "sts")
_ENCRYPTED: Final = frozenset({"HTTPS", "TLS"})


def _check_ports(resource: Resource, config: Node) -> Found:
    given = config.child("insidePorts")
    inside = _INSIDE_PORTS if given.is_missing else tuple(one.integer() for one in given.items())
    root = read(resource.props)
    if resource.type == INGRESS_RULE:
        yield from _open_port(root, "ipProtocol", ("cidrIpv4", "cidrIpv6"), inside)
        return
    for rule in root.child("ingress").items():
        yield from _open_port(rule, "protocol", ("cidrBlocks", "ipv6CidrBlocks"), inside)


def _open_port(rule: Node, protocol: str, sources: tuple[str, ...], inside: tuple[int, ...]) -> Found:
    world = [
        source
        for key in sources
        if not (node := rule.child(key)).is_missing
        for source in ([node.text()] if isinstance(node.value, str) else node.texts())
        if source in _WORLD
    ]
    if not world:
        return
    every = rule.child(protocol).text() == "-1"
    first = 0 if every else rule.child("fromPort").integer()
    last = 65535 if every else rule.child("toPort").integer()
    reached = [port for port in inside if first <= port <= last]
    if reached:
        yield Problem(
            f"{rule.path or 'The rule'} opens port {', '.join(map(str, reached))} to {world[0]}.",
            "Name the networks or security groups that need it; clients come through the gateway.",
        )


def _check_flow_logs(stack: Stack, _: Node) -> Answer:
    networks = stack.of(VPC)
    return _without_flow_log(stack, networks) if networks else NotApplicable("It makes no VPC.")


def _without_flow_log(stack: Stack, networks: list[Resource]) -> Found:
    logged = {urn for log in stack.of(FLOW_LOG) for urn in log.dependencies}
    for network in networks:
        if network.urn not in logged:
            yield Problem(
                f"VPC {network.name} has no flow log, so nobody can tell later where data went.",
                "Declare an aws.ec2.FlowLog with trafficType ALL for it.",
                network.urn,
            )


def _check_endpoints(stack: Stack, config: Node) -> Answer:
    if not stack.of(VPC) or stack.of(NAT_GATEWAY):
        return NotApplicable("It makes no VPC without a way to the internet.")
    return _without_endpoint(stack, config)


def _without_endpoint(stack: Stack, config: Node) -> Found:
    given = config.child("services")
    wanted = list(_SERVICES) if given.is_missing else given.texts()
    names = [read(one.props).child("serviceName").text() for one in stack.of(VPC_ENDPOINT)]
    missing = [service for service in wanted if not any(name.endswith(f".{service}") for name in names)]
    if missing:
        yield Problem(
            f"The VPC has neither NAT nor private endpoints for {', '.join(missing)}.",
            "Declare an aws.ec2.VpcEndpoint for each of them.",
        )


def _check_subnets(stack: Stack, _: Node) -> Answer:
    machines = stack.of(NODE_GROUP, AUTO_SCALING_GROUP, INSTANCE)
    return _in_public_subnets(stack, machines) if machines else NotApplicable("It starts no machines.")


def _in_public_subnets(stack: Stack, machines: list[Resource]) -> Found:
    public = _public_subnets(stack)
    names = {one.urn: one.name for one in stack.resources}
    for machine in machines:
        try:
            accelerated = any(pool.has_accelerators() for pool in read_node_pools(machine) or [])
        except Unreadable as problem:
            yield problem
            continue
        # By what it waits for: ids of new subnets are not known at a preview.
        for subnet in machine.dependencies:
            if accelerated and subnet in public:
                yield Problem(
                    f"{machine.name} may start machines with accelerators in subnet {names[subnet]}, "
                    f"{public[subnet]}.",
                    "Put them into subnets with neither public addresses nor a route to an internet gateway.",
                    machine.urn,
                )


def _public_subnets(stack: Stack) -> dict[str, str]:
    """Subnets of the stack that are on the internet, by URN, each with why."""
    gateways = {one.urn for one in stack.of(INTERNET_GATEWAY)}
    tables = {one.urn for one in stack.of(ROUTE_TABLE)}
    # A table has its routes in it, or each is a resource of its own.
    leading_out = {one.urn for one in stack.of(ROUTE_TABLE) if _leads_out(one, gateways)}
    for route in stack.of(ROUTE):
        if _leads_out(route, gateways):
            leading_out |= tables.intersection(route.dependencies)
    routed = {
        urn
        for one in stack.of(ROUTE_TABLE_ASSOCIATION)
        if leading_out.intersection(one.dependencies)
        for urn in one.dependencies
    }
    found: dict[str, str] = {}
    for subnet in stack.of(SUBNET):
        if subnet.urn in routed:
            found[subnet.urn] = "which has a route to an internet gateway"
        elif read(subnet.props).child("mapPublicIpOnLaunch").boolean(default=False):
            found[subnet.urn] = "which gives machines public addresses"
    return found


def _leads_out(resource: Resource, gateways: set[str]) -> bool:
    if gateways.intersection(resource.dependencies):
        return True
    root = read(resource.props)
    routes = root.child("routes")
    # Those of a table that names none are not known before `up`: AWS fills them in.
    listed = routes.items() if routes.presence is Presence.KNOWN else []
    named = [root.child("gatewayId"), *(route.child("gatewayId") for route in listed)]
    return any(isinstance(one.value, str) and one.value.startswith("igw-") for one in named)


def _check_tls(stack: Stack, _: Node) -> Answer:
    doors = stack.of(LISTENER, INGRESS)
    return _in_plain_text(stack, doors) if doors else NotApplicable("It makes no listener and no Ingress.")


def _in_plain_text(stack: Stack, doors: list[Resource]) -> Found:
    inside = {one.urn for one in stack.of(LOAD_BALANCER) if read(one.props).child("internal").value is True}
    for door in doors:
        root = read(door.props)
        if door.type == INGRESS:
            if not root.child("spec", "tls").items():
                yield Problem(
                    f"Ingress {door.name} has no spec.tls, so API keys and prompts travel in plain text.",
                    "Name a certificate's Secret in gateway.route, or end TLS there by your own class.",
                    door.urn,
                )
        # Behind an internal load balancer only the link's networks are, and the VPN encrypts.
        elif root.child("protocol").text() not in _ENCRYPTED and not inside.intersection(door.dependencies):
            yield Problem(
                f"Listener {door.name} speaks {root.child('protocol').text()} and its load balancer is not "
                "known to be internal.",
                "Use TLS with a policy of TLS 1.2 or newer, or set internal: true.",
                door.urn,
            )


def _check_policies(stack: Stack, _: Node) -> Answer:
    names = stack.of(NAMESPACE)
    return _without_policy(stack, names) if names else NotApplicable("It declares no namespace.")


def _without_policy(stack: Stack, namespaces: list[Resource]) -> Found:
    closed = {
        (policy.provider, read(policy.props).child("metadata", "namespace").text(default="default"))
        for policy in stack.of(NETWORK_POLICY)
        if _closes_everything(read(policy.props).child("spec"))
    }
    for namespace in namespaces:
        name = read(namespace.props).child("metadata", "name").text()
        if name == "default":
            yield Problem(
                f"{namespace.name} is the namespace `default`, which everything without a namespace shares.",
                "Choose a namespace of the platform's own.",
                namespace.urn,
            )
        if (namespace.provider, name) not in closed:
            yield Problem(
                f"Namespace {name} has no NetworkPolicy that selects all pods, so everybody in the cluster "
                "reaches them.",
                "Declare a NetworkPolicy with an empty podSelector and Ingress in policyTypes.",
                namespace.urn,
            )


def _closes_everything(spec: Node) -> bool:
    selector = spec.child("podSelector")
    empty = not selector.is_missing and not selector.entries()
    return empty and "Ingress" in spec.child("policyTypes").texts() and not spec.child("ingress").items()


NO_PUBLIC_INFERENCE_PORT: Final = Rule(
    name="no-public-inference-port",
    description="The ports of vLLM, Ray and SSH are open to nobody on the internet.",
    severity=Severity.CRITICAL,
    remediation="Name the networks or security groups that need the port; clients come through the gateway.",
    controls=(*fsbp("EC2.18", "EC2.19"), *gdpr(32)),
    check=_check_ports,
    types=frozenset({SECURITY_GROUP, INGRESS_RULE}),
    example=Resource(
        INGRESS_RULE,
        "dashboard",
        {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "tcp", "fromPort": 8265, "toPort": 8265},
    ),
    config={
        "insidePorts": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "integer", "minimum": 1, "maximum": 65535},
                "default": list(_INSIDE_PORTS),
                "description": "Ports that the internet must not reach.",
            },
            example=[22, 8000, 8265],
        )
    },
)

FLOW_LOGS: Final = StackRule(
    name="flow-logs",
    description="Every VPC of the stack has flow logs.",
    severity=Severity.MEDIUM,
    remediation="Declare an aws.ec2.FlowLog for the VPC.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*fsbp("EC2.6"), *gdpr(30, 32)),
    check=_check_flow_logs,
    example=Stack((Resource(VPC, "llm", {"cidrBlock": "10.20.0.0/16"}, urn="vpc"),)),
)

PRIVATE_ENDPOINTS: Final = StackRule(
    name="private-endpoints",
    description="A VPC without a way to the internet has private endpoints of the services that nodes need.",
    severity=Severity.MEDIUM,
    remediation="Declare an aws.ec2.VpcEndpoint for each service.",
    enforcement=ADVISORY,
    controls=(*fsbp("EC2.55", "EC2.56"), *gdpr(32)),
    check=_check_endpoints,
    example=Stack((Resource(VPC, "llm", {"cidrBlock": "10.20.0.0/16"}),)),
    config={
        "services": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "default": list(_SERVICES),
                "description": "The ends of the endpoints' service names.",
            },
            example=["s3", "sagemaker.runtime"],
        )
    },
)

GPU_SUBNETS_PRIVATE: Final = StackRule(
    name="gpu-subnets-private",
    description="Machines with accelerators are in subnets that the internet does not reach.",
    severity=Severity.HIGH,
    remediation=(
        "Put them into subnets with mapPublicIpOnLaunch false and a route table without internet gateway.\n"
        "Subnets that the stack does not declare are not seen."
    ),
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.4.3"), *fsbp("EC2.15"), *gdpr(32)),
    check=_check_subnets,
    example=Stack(
        (
            Resource(SUBNET, "public", {"mapPublicIpOnLaunch": True}, urn="subnet"),
            Resource(
                NODE_GROUP,
                "l40s",
                {"instanceTypes": ["g6e.4xlarge"], "scalingConfig": {"minSize": 0, "maxSize": 4}},
                dependencies=("subnet",),
            ),
        )
    ),
)

TLS_EVERYWHERE: Final = StackRule(
    name="tls-everywhere",
    description="Whatever clients reach from outside of the platform's own networks speaks TLS.",
    severity=Severity.HIGH,
    remediation="Use TLS, or keep the load balancer internal.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.4.5"), *fsbp("ELB.18"), *gdpr(32)),
    check=_check_tls,
    example=Stack((Resource(LISTENER, "public", {"port": 80, "protocol": "HTTP"}),)),
)

NETWORK_POLICIES: Final = StackRule(
    name="network-policy",
    description="Every namespace of the stack refuses traffic that no NetworkPolicy allows.",
    severity=Severity.HIGH,
    remediation="Declare a NetworkPolicy with an empty podSelector and Ingress in policyTypes.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("4.3.2", "4.5.2"), *cis_kubernetes("5.3.2", "5.7.4"), *gdpr(32)),
    check=_check_policies,
    example=Stack((Resource(NAMESPACE, "llm", {"metadata": {"name": "llm"}}),)),
)
