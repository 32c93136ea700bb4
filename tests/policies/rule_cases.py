"""For every rule: a subject that complies, one with an unknown value, and one that it does not judge.

What violates it is the rule's own example, which its page shows too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from policies.rule import Resource, Stack, Step
from policies.waivers import Waiver
from tests.policies.kubernetes_objects import UNKNOWN_NUMBER, UNKNOWN_STRING

KARPENTER_POOL = "kubernetes:karpenter.sh/v1:NodePool"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
CLUSTER = "aws:eks/cluster:Cluster"
ENDPOINT = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
AWS = "pulumi:providers:aws"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SUBNET = "aws:ec2/subnet:Subnet"
NAMESPACE = "kubernetes:core/v1:Namespace"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
QUOTA = "kubernetes:core/v1:ResourceQuota"
RBAC = "kubernetes:rbac.authorization.k8s.io/v1:"

OTHER = Resource("random:index/randomPassword:RandomPassword", "key", {"length": 40})


@dataclass(frozen=True)
class Case:
    """One rule's subjects.

    `unknown` holds a value that is not known and that `path` names in the message; None where the rule needs
    no value that could be unknown. `config` makes `complies` comply.
    """

    complies: Resource | Stack
    unknown: Resource | Stack | None
    path: str = ""
    elsewhere: Resource | Stack = OTHER
    config: Mapping[str, object] = field(default_factory=dict[str, object])


def group(**changes: object) -> Resource:
    """A node group that complies."""
    return Resource(
        NODE_GROUP,
        "l40s",
        {
            "capacityType": "SPOT",
            "instanceTypes": ["g6e.4xlarge"],
            "labels": {"spillway.dev/node-group": "l40s"},
            "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 0},
            "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
            **changes,
        },
        urn="group",
    )


def scaling(**sizes: object) -> dict[str, object]:
    """A node group's sizes."""
    return {"scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 0, **sizes}}


def of(kind: str, **props: object) -> Resource:
    """Any resource."""
    return Resource(kind, "subject", props, urn=f"urn:{kind}")


def task(**container: object) -> Resource:
    """A task definition of ECS with one container."""
    listed = [{"name": "envoy", "image": "envoy:1", **container}]
    return of("aws:ecs/taskDefinition:TaskDefinition", containerDefinitions=json.dumps(listed))


def cluster(**changes: object) -> Resource:
    """An EKS cluster that complies."""
    return of(
        CLUSTER,
        **{
            "version": "1.35",
            "vpcConfig": {"endpointPrivateAccess": True, "endpointPublicAccess": False},
            "enabledClusterLogTypes": ["api", "audit", "authenticator"],
            "encryptionConfig": {"provider": {"keyArn": UNKNOWN_STRING}, "resources": ["secrets"]},
            "deletionProtection": True,
            **changes,
        },
    )


def deployment(container: Mapping[str, object] | None = None, **spec: object) -> Resource:
    """A Deployment whose one container complies."""
    good: dict[str, object] = {
        "name": "vllm",
        "image": "registry.example.com/llm/vllm@sha256:" + "0" * 64,
        "env": [{"name": "VLLM_NO_USAGE_STATS", "value": "1"}],
        "command": ["vllm", "serve", "/model"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        **(container or {}),
    }
    body = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True},
        "nodeSelector": {"spillway.dev/node-group": "l40s"},
        "containers": [good],
        **spec,
    }
    props = {
        "metadata": {"name": "vllm", "namespace": "llm"},
        "spec": {"replicas": 2, "template": {"spec": body}},
    }
    return Resource(DEPLOYMENT, "vllm", props, urn="deployment")


def karpenter(limits: object) -> Resource:
    """A Karpenter pool of L40S."""
    types = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["g6e.4xlarge"]}
    return of(KARPENTER_POOL, spec={"template": {"spec": {"requirements": [types]}}, "limits": limits})


def document(*statements: Mapping[str, object]) -> str:
    """A policy document."""
    return json.dumps({"Statement": [dict(one) for one in statements]})


def tags(**given: str) -> dict[str, Any]:
    """A provider's defaultTags, as the engine hands them over."""
    return {"defaultTags": json.dumps({"tags": {f"spillway:{key}": value for key, value in given.items()}})}


def endpoint(**changes: object) -> Resource:
    """A SageMaker endpoint that complies in production."""
    variant = {"variantName": "a", "instanceType": "ml.g6e.4xlarge", "initialInstanceCount": 2}
    return of(ENDPOINT, **{"kmsKeyArn": UNKNOWN_STRING, "productionVariants": [variant], **changes})


def variants(count: object) -> list[dict[str, object]]:
    """One variant of so many machines."""
    return [{"variantName": "a", "instanceType": "ml.g6e.4xlarge", "initialInstanceCount": count}]


VPC = Resource("aws:ec2/vpc:Vpc", "vpc", {}, urn="vpc")
NAMESPACE_LLM = Resource(NAMESPACE, "llm", {"metadata": {"name": "llm"}}, urn="namespace")
BUCKET = Resource("aws:s3/bucket:Bucket", "weights", {"bucket": "weights"}, urn="bucket")
CLOSED = of(
    NETWORK_POLICY,
    metadata={"namespace": "llm"},
    spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
)
COMPANIONS = tuple(
    Resource(f"aws:s3/{kind[0].lower()}{kind[1:]}:{kind}", "weights", {}, urn=kind, dependencies=("bucket",))
    for kind in (
        "BucketPublicAccessBlock",
        "BucketServerSideEncryptionConfiguration",
        "BucketVersioning",
        "BucketPolicy",
    )
)
RELEASE = Resource("kubernetes:helm.sh/v3:Release", "kuberay", {"chart": "kuberay-operator"}, urn="operator")
MODEL = Resource("kubernetes:ray.io/v1:RayService", "qwen3", {}, urn="model", parent="component")
COMPONENT = Resource("spillway:kubernetes:ModelService", "qwen3", {}, urn="component")
WAIVER = Waiver("image-digest", "urn:pulumi:prod::spillway::t::n", "why", "me", date(2027, 1, 31))
BEFORE = datetime(2027, 1, 31, 23, 59, tzinfo=UTC)
TRUSTED = {
    "Effect": "Allow",
    "Principal": {"Service": "pods.eks.amazonaws.com"},
    "Action": "sts:AssumeRole",
    "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
}
NO_STACK = Stack((OTHER,))

PRICED = of(AWS, region="us-east-1", **tags(expires="7d"))
UNKNOWN_SIZE = group(**scaling(maxSize=UNKNOWN_NUMBER))

CASES: dict[str, Case] = {
    "gpu-pool-hourly-ceiling": Case(group(), UNKNOWN_SIZE, "scalingConfig.maxSize"),
    **{
        name: Case(Stack((PRICED, group())), Stack((PRICED, UNKNOWN_SIZE)), "scalingConfig.maxSize", NO_STACK)
        for name in ("gpu-hourly-ceiling", "gpu-monthly-expected", "gpu-exposure-to-ttl")
    },
    "expensive-extras": Case(Stack((PRICED, of("aws:ec2/natGateway:NatGateway"))), None, "", NO_STACK),
    "gpu-instance-allowlist": Case(
        group(),
        group(instanceTypes=[UNKNOWN_STRING]),
        "instanceTypes[0]",
        config={"allowedAccelerators": ["nvidia-l40s"]},
    ),
    "gpu-max-per-pool": Case(group(), group(**scaling(maxSize=UNKNOWN_NUMBER)), "scalingConfig.maxSize"),
    "gpu-autoscaler-bounded": Case(
        karpenter({"nvidia.com/gpu": "4"}),
        karpenter({"nvidia.com/gpu": UNKNOWN_STRING}),
        'spec.limits["nvidia.com/gpu"]',
    ),
    "gpu-scale-to-zero-dev": Case(group(), group(**scaling(minSize=UNKNOWN_NUMBER)), "scalingConfig.minSize"),
    "gpu-spot-required-dev": Case(group(), group(capacityType=UNKNOWN_STRING), "capacityType"),
    "gpu-quota-fit": Case(
        Stack((group(),)),
        Stack((group(**scaling(maxSize=UNKNOWN_NUMBER)),)),
        "scalingConfig.maxSize",
        NO_STACK,
        {"vcpuQuotas": {"L-3819A6DF": 64}},
    ),
    "gpu-capacity-fit": Case(
        Stack((group(), deployment())),
        Stack((group(**scaling(maxSize=UNKNOWN_NUMBER)), deployment())),
        "scalingConfig.maxSize",
        NO_STACK,
    ),
    "ttl-and-owner-tags": Case(
        of(AWS, **tags(stack="prod", owner="ml")), of(AWS, defaultTags=UNKNOWN_STRING), "defaultTags"
    ),
    "expiry-required": Case(
        of(AWS, **tags(expires="2027-01-31")), of(AWS, defaultTags=UNKNOWN_STRING), "defaultTags"
    ),
    "namespace-gpu-quota": Case(
        Stack(
            (
                NAMESPACE_LLM,
                deployment(),
                of(QUOTA, metadata={"namespace": "llm"}, spec={"hard": {"requests.nvidia.com/gpu": "4"}}),
            )
        ),
        Stack((NAMESPACE_LLM, of(QUOTA, metadata={"namespace": "llm"}, spec={"hard": UNKNOWN_STRING}))),
        "spec.hard",
        NO_STACK,
    ),
    "gpu-node-tainted": Case(group(), group(taints=UNKNOWN_STRING), "taints"),
    "private-control-plane": Case(
        cluster(),
        cluster(vpcConfig={"endpointPrivateAccess": UNKNOWN_STRING}),
        "vpcConfig.endpointPrivateAccess",
    ),
    "secrets-cmk": Case(cluster(), cluster(encryptionConfig=UNKNOWN_STRING), "encryptionConfig"),
    "audit-logs": Case(cluster(), cluster(enabledClusterLogTypes=UNKNOWN_STRING), "enabledClusterLogTypes"),
    "supported-kubernetes": Case(cluster(), cluster(version=UNKNOWN_STRING), "version"),
    "private-nodes": Case(
        of("aws:ec2/subnet:Subnet", mapPublicIpOnLaunch=False),
        of("aws:ec2/subnet:Subnet", mapPublicIpOnLaunch=UNKNOWN_STRING),
        "mapPublicIpOnLaunch",
    ),
    "imdsv2": Case(
        of(
            "aws:ec2/launchTemplate:LaunchTemplate",
            metadataOptions={"httpTokens": "required", "httpPutResponseHopLimit": 1},
            blockDeviceMappings=[{"ebs": {"encrypted": "true", "kmsKeyId": UNKNOWN_STRING}}],
        ),
        of(
            "aws:ec2/launchTemplate:LaunchTemplate",
            metadataOptions={"httpTokens": UNKNOWN_STRING},
        ),
        "metadataOptions.httpTokens",
    ),
    "gpu-subnets-private": Case(
        Stack((replace(group(), dependencies=("urn:" + SUBNET,)), of(SUBNET, mapPublicIpOnLaunch=False))),
        Stack(
            (
                replace(group(), dependencies=("urn:" + SUBNET,)),
                of(SUBNET, mapPublicIpOnLaunch=UNKNOWN_STRING),
            )
        ),
        "mapPublicIpOnLaunch",
        NO_STACK,
    ),
    "flow-logs": Case(
        Stack((VPC, Resource("aws:ec2/flowLog:FlowLog", "log", {}, dependencies=("vpc",)))),
        None,
        "",
        NO_STACK,
    ),
    "private-endpoints": Case(
        Stack((VPC, of("aws:ec2/vpcEndpoint:VpcEndpoint", serviceName="com.amazonaws.us-east-1.s3"))),
        Stack((VPC, of("aws:ec2/vpcEndpoint:VpcEndpoint", serviceName=UNKNOWN_STRING))),
        "serviceName",
        NO_STACK,
        {"services": ["s3"]},
    ),
    "no-public-inference-port": Case(
        of(
            "aws:ec2/securityGroup:SecurityGroup", ingress=[{"protocol": "tcp", "cidrBlocks": ["10.0.0.0/8"]}]
        ),
        of("aws:ec2/securityGroup:SecurityGroup", ingress=[{"cidrBlocks": [UNKNOWN_STRING]}]),
        "ingress[0].cidrBlocks[0]",
    ),
    "bucket-hardened": Case(
        of("aws:s3/bucketVersioning:BucketVersioning", versioningConfiguration={"status": "Enabled"}),
        of("aws:s3/bucketPolicy:BucketPolicy", policy=UNKNOWN_STRING),
        "policy",
    ),
    "bucket-complete": Case(Stack((BUCKET, *COMPANIONS)), None, "", NO_STACK),
    "kms-rotation": Case(
        of("aws:kms/key:Key", enableKeyRotation=True),
        of("aws:kms/key:Key", enableKeyRotation=UNKNOWN_STRING),
        "enableKeyRotation",
    ),
    "registry-hardened": Case(
        of(
            "aws:ecr/repository:Repository",
            imageScanningConfiguration={"scanOnPush": True},
            imageTagMutability="IMMUTABLE",
            encryptionConfigurations=[{"encryptionType": "KMS", "kmsKey": UNKNOWN_STRING}],
        ),
        of("aws:ecr/repository:Repository", imageScanningConfiguration=UNKNOWN_STRING),
        "imageScanningConfiguration",
    ),
    "sagemaker-isolated": Case(
        of("aws:sagemaker/model:Model", enableNetworkIsolation=True, vpcConfig={"subnets": UNKNOWN_STRING}),
        of("aws:sagemaker/model:Model", enableNetworkIsolation=UNKNOWN_STRING),
        "enableNetworkIsolation",
    ),
    "sagemaker-encrypted": Case(
        endpoint(
            productionVariants=[
                {"variantName": "a", "instanceType": "ml.m7i.2xlarge", "initialInstanceCount": 2}
            ]
        ),
        endpoint(productionVariants=[{"variantName": "a", "instanceType": UNKNOWN_STRING}]),
        "productionVariants[0].instanceType",
    ),
    "endpoint-redundant-prod": Case(
        endpoint(),
        endpoint(productionVariants=variants(UNKNOWN_NUMBER)),
        "productionVariants[0].initialInstanceCount",
    ),
    "capture-encrypted": Case(
        endpoint(dataCaptureConfig={"enableCapture": True, "kmsKeyId": UNKNOWN_STRING}),
        endpoint(dataCaptureConfig={"enableCapture": UNKNOWN_STRING}),
        "dataCaptureConfig.enableCapture",
    ),
    "capture-masked-prod": Case(
        endpoint(dataCaptureConfig={"enableCapture": False}),
        endpoint(dataCaptureConfig={"enableCapture": UNKNOWN_STRING}),
        "dataCaptureConfig.enableCapture",
    ),
    "ecs-hardened": Case(
        task(user="65532:65532", readonlyRootFilesystem=True, environment=[{"name": "ROUTES", "value": ""}]),
        of("aws:ecs/taskDefinition:TaskDefinition", containerDefinitions=UNKNOWN_STRING),
        "containerDefinitions",
    ),
    "notebook-closed": Case(
        of(
            "aws:sagemaker/notebookInstance:NotebookInstance",
            directInternetAccess="Disabled",
            rootAccess="Disabled",
            subnetId=UNKNOWN_STRING,
            kmsKeyId=UNKNOWN_STRING,
        ),
        of("aws:sagemaker/notebookInstance:NotebookInstance", directInternetAccess=UNKNOWN_STRING),
        "directInternetAccess",
    ),
    "jobs-encrypted": Case(
        of(
            "aws:sagemaker/dataQualityJobDefinition:DataQualityJobDefinition",
            jobResources={"clusterConfig": {"volumeKmsKeyId": UNKNOWN_STRING}},
            networkConfig={"enableInterContainerTrafficEncryption": True},
        ),
        of(
            "aws:sagemaker/dataQualityJobDefinition:DataQualityJobDefinition",
            jobResources={"clusterConfig": {"volumeKmsKeyId": "key"}},
            networkConfig=UNKNOWN_STRING,
        ),
        "networkConfig",
    ),
    "least-privilege": Case(
        of("aws:iam/role:Role", assumeRolePolicy=document(TRUSTED)),
        of("aws:iam/rolePolicy:RolePolicy", policy=UNKNOWN_STRING),
        "policy",
    ),
    "log-retention": Case(
        of("aws:cloudwatch/logGroup:LogGroup", retentionInDays=90, kmsKeyId=UNKNOWN_STRING),
        of("aws:cloudwatch/logGroup:LogGroup", retentionInDays=UNKNOWN_NUMBER),
        "retentionInDays",
    ),
    "tls-everywhere": Case(
        Stack((of("aws:lb/listener:Listener", protocol="TLS"),)),
        Stack((of("aws:lb/listener:Listener", protocol=UNKNOWN_STRING),)),
        "protocol",
        NO_STACK,
    ),
    "pod-baseline": Case(deployment(), deployment(hostIPC=UNKNOWN_STRING), "spec.template.spec.hostIPC"),
    "network-policy": Case(
        Stack((NAMESPACE_LLM, CLOSED)),
        Stack((NAMESPACE_LLM, of(NETWORK_POLICY, metadata={"namespace": "llm"}, spec=UNKNOWN_STRING))),
        "spec",
        NO_STACK,
    ),
    "secrets-as-files": Case(
        deployment(), deployment({"env": UNKNOWN_STRING}), "spec.template.spec.containers[0].env"
    ),
    "image-pinned": Case(
        deployment(),
        deployment({"image": UNKNOWN_STRING}),
        "spec.template.spec.containers[0].image",
        config={"allowedRegistries": ["registry.example.com/llm"]},
    ),
    "image-digest": Case(
        deployment(), deployment({"image": UNKNOWN_STRING}), "spec.template.spec.containers[0].image"
    ),
    "rbac-minimal": Case(
        of(f"{RBAC}Role", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]),
        of(f"{RBAC}RoleBinding", roleRef={"name": UNKNOWN_STRING}),
        "roleRef.name",
    ),
    "allowed-regions": Case(
        of(AWS, region="eu-central-1"),
        of(AWS, region=UNKNOWN_STRING),
        "region",
        config={"allowedRegions": ["eu-central-1"]},
    ),
    "no-cross-region-copy": Case(
        of("aws:kms/key:Key"), of("aws:kms/key:Key", multiRegion=UNKNOWN_STRING), "multiRegion"
    ),
    "model-origin-declared": Case(
        deployment({"command": ["vllm", "serve", "Qwen/Qwen3-8B", "--revision=abc"]}),
        deployment({"command": UNKNOWN_STRING}),
        "spec.template.spec.containers[0].command",
    ),
    "telemetry-off": Case(
        deployment(), deployment({"env": UNKNOWN_STRING}), "spec.template.spec.containers[0].env"
    ),
    "teardown-safe-order": Case(
        Stack((RELEASE, MODEL, replace(COMPONENT, dependencies=("operator",)))),
        Stack((of("kubernetes:helm.sh/v3:Release", chart=UNKNOWN_STRING), MODEL)),
        "chart",
        NO_STACK,
    ),
    "reclaim-delete-dev": Case(
        of(
            "kubernetes:storage.k8s.io/v1:StorageClass", provisioner="ebs.csi.aws.com", reclaimPolicy="Delete"
        ),
        of("kubernetes:storage.k8s.io/v1:StorageClass", reclaimPolicy=UNKNOWN_STRING),
        "reclaimPolicy",
    ),
    "protect-data-prod": Case(
        cluster(), of("aws:s3/bucket:Bucket", forceDestroy=UNKNOWN_STRING), "forceDestroy"
    ),
    "no-destructive-data": Case(
        Stack((), steps=(Step("update", "u", "aws:s3/bucket:Bucket"), Step("delete", "v", DEPLOYMENT))),
        None,
        "",
        NO_STACK,
    ),
    "waiver-valid": Case(Stack((), now=BEFORE, waivers=(WAIVER,)), None, "", NO_STACK),
    "waivers-in-force": Case(Stack((), now=BEFORE, waivers=(WAIVER,)), None, "", NO_STACK),
    "unknowns-accounted": Case(NO_STACK, None),
}
