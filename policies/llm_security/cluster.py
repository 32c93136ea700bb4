"""The EKS control plane and its nodes: who reaches them, what is encrypted, what is logged."""

from typing import Final

from policies.enforcement import ADVISORY_IN_DEV
from policies.frameworks import cis_eks, fsbp, gdpr
from policies.node_pools import NODE_GROUP
from policies.reading import Node, read
from policies.rule import ConfigKey, Found, Problem, Resource, Rule, Severity

CLUSTER: Final = "aws:eks/cluster:Cluster"
SUBNET: Final = "aws:ec2/subnet:Subnet"
LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
NODE_CLASS: Final = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"

_WORLD: Final = ("0.0.0.0/0", "::/0")
_LOGS: Final = ("api", "audit", "authenticator")
# In standard support on the date of runtime/versions.py; extended support costs six times as much.
_SUPPORTED: Final = ("1.33", "1.34", "1.35")
# Pods that use Pod Identity need one hop; two let a pod reach the node's own role.
_HOPS: Final = 1


def _check_endpoint(resource: Resource, _: Node) -> Found:
    vpc = read(resource.props).child("vpcConfig")
    private, public = vpc.child("endpointPrivateAccess"), vpc.child("endpointPublicAccess")
    if not private.boolean(default=False):
        yield Problem(
            f"{private.path} is false, so nodes reach the Kubernetes API over the internet.",
            f"Set {private.path} to true.",
        )
    if not public.boolean(default=True):
        return
    networks = vpc.child("publicAccessCidrs")
    open_to = [one for one in networks.texts() if one in _WORLD] if not networks.is_missing else [_WORLD[0]]
    if open_to:
        yield Problem(
            f"{networks.path} opens the Kubernetes API to {', '.join(open_to)}.",
            "Name your own networks in cloud.cluster.publicAccessCidrs, or none.",
        )


def _check_secrets(resource: Resource, _: Node) -> Found:
    encryption = read(resource.props).child("encryptionConfig")
    if encryption.is_missing or "secrets" not in encryption.child("resources").texts():
        yield Problem(
            f"{encryption.path} does not encrypt Kubernetes' Secrets with a key of yours.",
            "Set encryptionConfig with resources [secrets] and the ARN of a KMS key.",
        )
    elif encryption.child("provider", "keyArn").is_missing:
        yield Problem(
            f"{encryption.path}.provider.keyArn is missing.", "Give it the ARN of a KMS key of the stack."
        )


def _check_logs(resource: Resource, _: Node) -> Found:
    enabled = read(resource.props).child("enabledClusterLogTypes")
    missing = [kind for kind in _LOGS if kind not in enabled.texts()]
    if missing:
        yield Problem(
            f"{enabled.path} leaves out {', '.join(missing)}, so nobody can tell later who did what.",
            f"Add {', '.join(missing)} to {enabled.path}.",
        )


def _check_version(resource: Resource, config: Node) -> Found:
    version = read(resource.props).child("version")
    given = config.child("supportedVersions")
    supported = list(_SUPPORTED) if given.is_missing else given.texts()
    if version.text() not in supported:
        yield Problem(
            f"{version.path} is {version.text()}. In standard support: {', '.join(supported)}.",
            "Upgrade one version at a time (docs/runbooks/upgrade.md), or correct supportedVersions of "
            "supported-kubernetes.",
        )


def _check_nodes(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == SUBNET:
        public = root.child("mapPublicIpOnLaunch")
        if public.boolean(default=False):
            yield Problem(
                f"{public.path} is true, so machines in this subnet get public addresses.",
                f"Set {public.path} to false.",
            )
        return
    access = root.child("remoteAccess")
    if not access.is_missing and not access.child("sourceSecurityGroupIds").items():
        yield Problem(
            f"{access.path} lets everybody reach the nodes by SSH.",
            f"Remove {access.path}, or name sourceSecurityGroupIds.",
        )


def _check_metadata(resource: Resource, config: Node) -> Found:
    karpenter = resource.type == NODE_CLASS
    root = read(resource.props).child("spec") if karpenter else read(resource.props)
    options = root.child("metadataOptions")
    tokens, hops = options.child("httpTokens"), options.child("httpPutResponseHopLimit")
    if tokens.text(default="optional") != "required":
        yield Problem(
            f"{tokens.path} is not required, so any process that can be made to fetch a URL gets the "
            "node's credentials.",
            f"Set {tokens.path} to required.",
        )
    most = config.child("maxHops").integer(default=_HOPS)
    if hops.integer(default=1, minimum=1) > most:
        yield Problem(
            f"{hops.path} is {hops.integer()}, so pods reach the node's credentials. Allowed: {most}.",
            f"Set {hops.path} to {most} and give pods roles of their own by Pod Identity.",
        )
    for device in root.child("blockDeviceMappings").items():
        encrypted = device.child("ebs", "encrypted")
        if not device.child("ebs").is_missing and not encrypted.boolean(default=False):
            yield Problem(f"{encrypted.path} is not true.", f"Set {encrypted.path} to true, with a key.")


_OPEN_CLUSTER: Final = Resource(
    CLUSTER,
    "llm",
    {"version": "1.29", "vpcConfig": {"endpointPrivateAccess": False, "endpointPublicAccess": True}},
)

PRIVATE_CONTROL_PLANE: Final = Rule(
    name="private-control-plane",
    description="The Kubernetes API of EKS is reached privately, and by nobody from everywhere.",
    severity=Severity.CRITICAL,
    remediation="Set endpointPrivateAccess to true, and endpointPublicAccess to false or to named networks.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.4.1", "5.4.2"), *fsbp("EKS.1"), *gdpr(32)),
    check=_check_endpoint,
    types=frozenset({CLUSTER}),
    example=_OPEN_CLUSTER,
)

SECRETS_CMK: Final = Rule(
    name="secrets-cmk",
    description="Kubernetes' Secrets on EKS are encrypted with a key of the customer.",
    severity=Severity.HIGH,
    remediation="Set encryptionConfig with resources [secrets] and the ARN of a KMS key.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.3.1"), *fsbp("EKS.3"), *gdpr(32)),
    check=_check_secrets,
    types=frozenset({CLUSTER}),
    example=_OPEN_CLUSTER,
)

AUDIT_LOGS: Final = Rule(
    name="audit-logs",
    description="The EKS control plane keeps logs of the API, of audits and of authentication.",
    severity=Severity.HIGH,
    remediation="Add api, audit and authenticator to enabledClusterLogTypes.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("2.1.1"), *fsbp("EKS.8"), *gdpr(30, 32)),
    check=_check_logs,
    types=frozenset({CLUSTER}),
    example=_OPEN_CLUSTER,
)

SUPPORTED_KUBERNETES: Final = Rule(
    name="supported-kubernetes",
    description="EKS runs a Kubernetes version in standard support.",
    severity=Severity.MEDIUM,
    remediation="Upgrade one version at a time.",
    enforcement=ADVISORY_IN_DEV,
    controls=fsbp("EKS.2"),
    check=_check_version,
    types=frozenset({CLUSTER}),
    example=_OPEN_CLUSTER,
    config={
        "supportedVersions": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "pattern": "^1\\.[0-9]+$"},
                "default": list(_SUPPORTED),
                "description": "Versions in standard support.",
            },
            example=["1.34", "1.35"],
        )
    },
)

PRIVATE_NODES: Final = Rule(
    name="private-nodes",
    description="Nodes have no public addresses and no SSH from everywhere.",
    severity=Severity.HIGH,
    remediation="Set mapPublicIpOnLaunch to false, and remove remoteAccess.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("5.4.3"), *fsbp("EC2.15"), *gdpr(32)),
    check=_check_nodes,
    types=frozenset({SUBNET, NODE_GROUP}),
    example=Resource(SUBNET, "public", {"mapPublicIpOnLaunch": True}),
)

IMDSV2: Final = Rule(
    name="imdsv2",
    description="Nodes give their credentials to processes of the node only, and encrypt their disks.",
    severity=Severity.HIGH,
    remediation=(
        "Set metadataOptions.httpTokens to required and httpPutResponseHopLimit to 1.\n"
        "Set encrypted of every volume to true."
    ),
    controls=(*fsbp("EC2.170", "EC2.181"), *gdpr(32)),
    check=_check_metadata,
    types=frozenset({LAUNCH_TEMPLATE, NODE_CLASS}),
    example=Resource(LAUNCH_TEMPLATE, "nodes", {"blockDeviceMappings": [{"ebs": {"volumeSize": 100}}]}),
    config={
        "maxHops": ConfigKey(
            schema={
                "type": "integer",
                "minimum": 1,
                "default": _HOPS,
                "description": "Network hops to the metadata service. 2 lets pods reach it.",
            },
            example=2,
        )
    },
)
