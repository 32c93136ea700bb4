"""What the hybrid scenario declares, run against a mock engine."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from rehearsal.aws import contract
from rehearsal.aws.checking import check
from runtime.node_groups import NODE_GROUP_LABEL
from runtime.ops.stage import StagingPlan
from stacks.cloud_staging import staging_plan
from stacks.settings import parse
from tests.support.stack_files import declare, golden_resources, platform_object
from tests.support.synth import Synthesized, synth

pytestmark = pytest.mark.usefixtures("kubeconfig")

RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
CLUSTER = "aws:eks/cluster:Cluster"
VPC = "aws:ec2/vpc:Vpc"
TAG = "aws:autoscaling/tag:Tag"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
RELEASE = "kubernetes:helm.sh/v3:Release"

EXISTING = {
    "vpcId": "vpc-0123456789abcdef0",
    "cidr": "10.20.0.0/16",
    "subnets": [
        {"id": "subnet-0123456789abcdef0", "zone": "us-east-1a", "entranceAddress": "10.20.0.10"},
        {"id": "subnet-0123456789abcdef1", "zone": "us-east-1b", "entranceAddress": "10.20.32.10"},
    ],
}


@cache
def _declared(platform: str) -> Synthesized:
    return synth(lambda: declare(parse(json.loads(platform))))


def declared(platform: dict[str, Any]) -> Synthesized:
    """Several tests look at one variant; none of them changes it."""
    return _declared(json.dumps(platform))


def with_cloud(**changes: Any) -> Synthesized:
    platform = platform_object("hybrid")
    return declared({**platform, "cloud": {**platform["cloud"], **changes}})


def with_group(**changes: Any) -> Synthesized:
    group = platform_object("hybrid")["cloud"]["nodeGroups"][0]
    platform = platform_object("hybrid")
    cloud = {**platform["cloud"], "nodeGroups": [{**group, **changes}]}
    return declared({**platform, "cloud": cloud, "burst": {"ceilingUsdPerHour": 200}})


@pytest.fixture
def hybrid() -> Synthesized:
    return declared(platform_object("hybrid"))


# Order


def test_a_destroy_takes_ray_before_nodes_before_the_cluster_before_the_network(hybrid: Synthesized) -> None:
    ray = hybrid.one(RAY_SERVICE, "qwen3-8b-burst")
    gpus = hybrid.one(NODE_GROUP, "llm-burst-l40s")
    cluster, vpc = hybrid.one(CLUSTER), hybrid.one(VPC)
    link = hybrid.one("aws:ec2/vpnConnection:VpnConnection")
    for first, then in ((ray, gpus), (gpus, cluster), (cluster, vpc), (cluster, link)):
        assert then.urn in hybrid.before(first), f"{first.name} must go before {then.name}"
        assert first.urn not in hybrid.before(then)


def test_what_ends_a_ray_service_and_its_nodes_outlives_it(hybrid: Synthesized) -> None:
    before = hybrid.before(hybrid.one(RAY_SERVICE, "qwen3-8b-burst"))
    for release in ("llm-burst-kuberay", "llm-burst-autoscaler", "llm-burst-device-plugin"):
        assert hybrid.one(RELEASE, release).urn in before


def test_nothing_on_prem_but_the_burst_controller_waits_for_anything_of_aws(hybrid: Synthesized) -> None:
    of_aws = {one.urn for one in hybrid.resources if one.type.startswith(("aws:", "spillway:aws:"))}
    controller = hybrid.one("spillway:kubernetes:BurstController").name
    here = [one for one in hybrid.resources if "::cluster::" in one.provider]
    own = [one for one in here if one.parent != controller]
    assert own
    assert len(own) < len(here)
    for resource in own:
        assert not hybrid.before(resource) & of_aws, resource.name


def test_nothing_is_declared_in_the_cluster_before_access_and_system_nodes_are_there(
    hybrid: Synthesized,
) -> None:
    needed = {
        hybrid.one(NODE_GROUP, "llm-burst-system").urn,
        hybrid.one("aws:eks/accessPolicyAssociation:AccessPolicyAssociation").urn,
    }
    for resource in hybrid.resources:
        if "::eks::" in resource.provider:
            assert needed <= hybrid.before(resource), resource.name


def test_nodes_join_only_after_their_network_plugin_and_role_are_there(hybrid: Synthesized) -> None:
    before = hybrid.before(hybrid.one(NODE_GROUP, "llm-burst-l40s"))
    assert hybrid.one("aws:eks/addon:Addon", "llm-burst-vpc-cni").urn in before
    for attachment in hybrid.of("aws:iam/rolePolicyAttachment:RolePolicyAttachment"):
        assert attachment.urn in before


# Cluster


def test_the_cluster_is_private_encrypted_logged_and_opened_by_access_entries_only(
    hybrid: Synthesized,
) -> None:
    cluster = hybrid.one(CLUSTER).inputs
    assert cluster["vpcConfig"]["endpointPrivateAccess"] is True
    assert cluster["vpcConfig"]["endpointPublicAccess"] is False
    assert cluster["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    assert cluster["encryptionConfig"]["resources"] == ["secrets"]
    assert len(cluster["enabledClusterLogTypes"]) == 5
    assert cluster["upgradePolicy"] == {"supportType": "STANDARD"}
    assert cluster["deletionProtection"] is True
    entry = hybrid.one("aws:eks/accessEntry:AccessEntry").inputs
    assert entry["principalArn"] == "arn:aws:iam::123456789012:role/platform"


def test_on_prem_reaches_the_private_api(hybrid: Synthesized) -> None:
    rule = hybrid.one(INGRESS_RULE, "llm-burst-api-0").inputs
    assert rule["securityGroupId"] == "sg-llm-burst"
    assert (rule["cidrIpv4"], rule["fromPort"]) == ("10.0.0.0/16", 443)


def test_public_access_is_for_the_networks_that_are_named() -> None:
    cluster = {**platform_object("hybrid")["cloud"]["cluster"], "publicAccessCidrs": ["198.51.100.0/24"]}
    config = with_cloud(cluster=cluster).one(CLUSTER).inputs["vpcConfig"]
    assert config["endpointPublicAccess"] is True
    assert config["publicAccessCidrs"] == ["198.51.100.0/24"]


def test_the_kubeconfig_holds_no_secret_and_takes_on_the_role() -> None:
    role = "arn:aws:iam::123456789012:role/deploy"
    made = with_cloud(assumeRole={"roleArn": role, "externalId": "spillway"})
    config = json.loads(made.one("pulumi:providers:kubernetes", "eks").inputs["kubeconfig"])
    command = config["users"][0]["user"]["exec"]
    assert command["args"][-2:] == ["--role-arn", role]
    assert set(config["users"][0]["user"]) == {"exec"}
    (assumed,) = json.loads(made.one("pulumi:providers:aws").inputs["assumeRoles"])
    assert assumed["roleArn"] == role
    assert assumed["externalId"] == "spillway"


def test_the_provider_refuses_other_accounts_and_tags_everything(hybrid: Synthesized) -> None:
    provider = hybrid.one("pulumi:providers:aws").inputs
    assert json.loads(provider["allowedAccountIds"]) == ["123456789012"]
    tags = json.loads(provider["defaultTags"])["tags"]
    assert tags["spillway:platform"] == "llm-burst"
    assert tags["spillway:owner"] == "ml-platform"
    assert tags["spillway:environment"] == "staging"
    assert tags["spillway:expires"] == "30d"


# Nodes


def test_gpu_nodes_are_none_at_rest_and_their_number_is_the_autoscalers(hybrid: Synthesized) -> None:
    group = hybrid.one(NODE_GROUP, "llm-burst-l40s")
    assert group.inputs["scalingConfig"] == {"minSize": 0, "desiredSize": 0, "maxSize": 4}
    assert group.ignored_changes == ("scalingConfig.desiredSize",)
    assert group.inputs["amiType"] == "AL2023_x86_64_NVIDIA"
    assert group.inputs["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert group.inputs["updateConfig"]["updateStrategy"] == "MINIMAL", "an update must not go above max"
    assert group.inputs["launchTemplate"]["version"] == "1", "a pinned number, not $Latest"


@pytest.mark.parametrize("name", ["llm-burst-l40s", "llm-burst-system"])
def test_nodes_need_tokens_for_metadata_which_pods_cannot_reach_and_have_encrypted_disks(
    hybrid: Synthesized, name: str
) -> None:
    template = hybrid.one(TEMPLATE, name).inputs
    assert template["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }
    disk = template["blockDeviceMappings"][0]["ebs"]
    assert disk["encrypted"] == "true"
    assert disk["volumeType"] == "gp3"
    assert disk["kmsKeyId"]


def test_the_autoscaler_knows_an_empty_groups_nodes_by_its_tags(hybrid: Synthesized) -> None:
    tags = {
        one.inputs["tag"]["key"]: one.inputs["tag"]["value"]
        for one in hybrid.of("aws:autoscaling/tag:Tag")
        if one.inputs["autoscalingGroupName"] == "asg-llm-burst-l40s"
    }
    template = "k8s.io/cluster-autoscaler/node-template"
    assert tags == {
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/llm-burst": "owned",
        f"{template}/label/{NODE_GROUP_LABEL}": "l40s",
        f"{template}/label/nvidia.com/gpu.product": "NVIDIA-L40S",
        f"{template}/taint/nvidia.com/gpu": "present:NoSchedule",
        f"{template}/resources/nvidia.com/gpu": "1",
    }
    assert (
        tags[f"{template}/label/{NODE_GROUP_LABEL}"]
        == hybrid.one(NODE_GROUP, "llm-burst-l40s").inputs["labels"][NODE_GROUP_LABEL]
    )


def test_the_controller_calls_a_node_group_as_the_autoscaler_does(
    hybrid: Synthesized,
) -> None:
    (text,) = (
        resource.inputs["data"]["config.json"]
        for resource in hybrid.of("kubernetes:core/v1:ConfigMap")
        if resource.inputs["metadata"]["name"] == "llm-burst-controller-config"
    )
    named = hybrid.one(NODE_GROUP, "llm-burst-l40s").inputs["nodeGroupName"]
    assert [group["nodeGroup"] for group in json.loads(text)["groups"]] == [named]


@pytest.mark.parametrize(("capacity", "called"), [("onDemand", "ON_DEMAND"), ("spot", "SPOT")])
def test_nodes_are_bought_as_the_group_says(capacity: str, called: str) -> None:
    assert with_group(capacity=capacity).one(NODE_GROUP, "llm-burst-l40s").inputs["capacityType"] == called


def test_a_capacity_block_is_used_and_never_bought() -> None:
    block = "cr-0123456789abcdef0"
    made = with_group(capacity="capacityBlock", reservationId=block, zones=["us-east-1a"])
    template = made.one(TEMPLATE, "llm-burst-l40s").inputs
    assert template["instanceMarketOptions"] == {"marketType": "capacity-block"}
    target = template["capacityReservationSpecification"]["capacityReservationTarget"]
    assert target == {"capacityReservationId": block}
    assert made.one(NODE_GROUP, "llm-burst-l40s").inputs["capacityType"] == "CAPACITY_BLOCK"
    assert len(made.one(NODE_GROUP, "llm-burst-l40s").inputs["subnetIds"]) == 1
    assert not [one for one in made.resources if "CapacityBlock" in one.type]


def test_a_fabric_is_every_adapter_in_one_placement_group_and_one_zone() -> None:
    made = with_group(instanceTypes=["g6e.48xlarge"], efa=True, zones=["us-east-1b"])
    template = made.one(TEMPLATE, "llm-burst-l40s").inputs
    cards = template["networkInterfaces"]
    assert [card["networkCardIndex"] for card in cards] == [0, 1, 2, 3]
    assert {card["interfaceType"] for card in cards} == {"efa"}
    assert made.one("aws:ec2/placementGroup:PlacementGroup").inputs["strategy"] == "cluster"
    assert len(made.one(NODE_GROUP, "llm-burst-l40s").inputs["subnetIds"]) == 1
    rules = [one for one in made.of(INGRESS_RULE) if one.inputs["ipProtocol"] == "-1"]
    assert [one.inputs["referencedSecurityGroupId"] for one in rules] == [
        one.inputs["securityGroupId"] for one in rules
    ]


def test_pods_of_a_copy_over_nodes_take_adapters_that_a_plugin_offers_on_those_nodes() -> None:
    platform = platform_object("hybrid")
    platform["models"][0]["spill"] |= {
        "maxReplicas": 1,
        "tensorParallel": 8,
        "pipelineParallel": 2,
        "worker": {"cpu": "64", "memory": "512Gi"},
    }
    group = {
        "name": "l40s",
        "instanceTypes": ["g6e.48xlarge"],
        "max": 2,
        "efa": True,
        "zones": ["us-east-1b"],
    }
    platform["cloud"]["nodeGroups"] = [group]
    platform["burst"] = {"ceilingUsdPerHour": 200}
    made = declared(platform)
    cluster = made.one(RAY_SERVICE, "qwen3-8b-burst").inputs["spec"]["rayClusterConfig"]
    workers = next(one for one in cluster["workerGroupSpecs"] if one["groupName"] == "workers")
    (container,) = workers["template"]["spec"]["containers"]
    for kind in ("limits", "requests"):
        assert container["resources"][kind]["vpc.amazonaws.com/efa"] == "4"
    values = made.one(RELEASE, "llm-burst-efa-plugin").inputs["values"]
    assert values["supportedInstanceLabels"] == {"keys": [NODE_GROUP_LABEL], "values": ["l40s"]}
    tags = [one.inputs["tags"][0] if "tags" in one.inputs else one.inputs["tag"] for one in made.of(TAG)]
    offered = "k8s.io/cluster-autoscaler/node-template/resources/vpc.amazonaws.com/efa"
    assert {tag["key"]: tag["value"] for tag in tags}[offered] == "4"
    here = made.one(RAY_SERVICE, "qwen3-8b").inputs
    assert "vpc.amazonaws.com/efa" not in json.dumps(here)


def test_without_a_fabric_nothing_asks_for_adapters(hybrid: Synthesized) -> None:
    assert "vpc.amazonaws.com/efa" not in json.dumps([one.inputs for one in hybrid.resources])
    assert "llm-burst-efa-plugin" not in [one.name for one in hybrid.of(RELEASE)]


# Network


def test_tls_goes_from_gateway_to_gateway_through_a_load_balancer_that_does_not_open_it() -> None:
    authority = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    made = with_cloud(
        tls={"serverName": "spill.llm.internal", "certificateSecret": "spill-tls", "authority": authority}
    )
    listener = made.one("aws:lb/listener:Listener").inputs
    assert (listener["port"], listener["protocol"]) == (443, "TCP")
    assert made.one("aws:lb/targetGroup:TargetGroup").inputs["healthCheck"]["protocol"] == "HTTPS"
    own = made.one("kubernetes:apps/v1:Deployment", "llm-burst-gateway").inputs["spec"]["template"]["spec"]
    mounted = {one["name"]: one["mountPath"] for one in own["containers"][0]["volumeMounts"]}
    secret = {one["name"]: one["secret"] for one in own["volumes"] if "secret" in one}
    assert secret["certificate"] == {"secretName": "spill-tls"}
    files = made.one("kubernetes:core/v1:ConfigMap", "llm-burst-gateway-config").inputs["data"]
    assert f"{mounted['certificate']}/tls.crt" in files["certificate.yaml"]
    here = made.one("kubernetes:core/v1:ConfigMap", "llm-gateway-config").inputs["data"]
    clusters = {one["name"]: one for one in yaml.safe_load(here["clusters.yaml"])["resources"]}
    spill = clusters["Qwen/Qwen3-8B/spill"]
    assert spill["transport_socket"]["typed_config"]["sni"] == "spill.llm.internal"
    assert "transport_socket" not in clusters["Qwen/Qwen3-8B/onprem"]
    port = spill["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert port["socket_address"]["port_value"] == 443
    assert made.outputs["cloudEntrance"][0].endswith(":443")


def test_a_vpc_without_internet_has_endpoints_and_no_gateway(hybrid: Synthesized) -> None:
    assert not hybrid.of("aws:ec2/natGateway:NatGateway")
    assert not hybrid.of("aws:ec2/internetGateway:InternetGateway")
    services = {one.inputs["serviceName"].rpartition("us-east-1.")[2] for one in hybrid.of(ENDPOINT)}
    assert {"s3", "ecr.api", "ecr.dkr", "sts", "eks", "eks-auth", "ec2", "autoscaling"} <= services
    assert not [one for one in hybrid.of("aws:ec2/subnet:Subnet") if one.inputs["mapPublicIpOnLaunch"]]


def test_a_nat_gateway_takes_the_place_of_the_endpoints_but_not_of_the_free_one() -> None:
    network = {"new": {**platform_object("hybrid")["cloud"]["network"]["new"], "egress": "nat"}}
    made = with_cloud(network=network)
    assert [one.inputs["serviceName"] for one in made.of(ENDPOINT)] == ["com.amazonaws.us-east-1.s3"]
    routes = {one.name: one.inputs for one in made.of("aws:ec2/route:Route")}
    assert "natGatewayId" in routes["llm-burst-network-private-out"]
    assert "gatewayId" in routes["llm-burst-network-public-out"]


def test_the_default_group_is_closed_and_all_traffic_is_logged(hybrid: Synthesized) -> None:
    default = hybrid.one("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup").inputs
    assert not {"ingress", "egress"} & set(default)
    assert hybrid.one("aws:ec2/flowLog:FlowLog").inputs["trafficType"] == "ALL"
    for group in hybrid.of("aws:cloudwatch/logGroup:LogGroup"):
        assert group.inputs["kmsKeyId"]
        assert group.inputs["retentionInDays"] == 90


def test_of_an_existing_vpc_nothing_is_changed() -> None:
    made = with_cloud(network={"existing": EXISTING}, link={"existing": True})
    for kind in ("vpc", "subnet", "routeTable", "vpcEndpoint", "flowLog", "defaultSecurityGroup"):
        assert not [one for one in made.resources if one.type.startswith(f"aws:ec2/{kind}:")], kind
    ids = [subnet["id"] for subnet in EXISTING["subnets"]]  # pyright: ignore
    assert made.one(CLUSTER).inputs["vpcConfig"]["subnetIds"] == ids


# Entrance and link


def test_the_entrance_is_private_at_fixed_addresses_and_lets_in_on_prem_only(hybrid: Synthesized) -> None:
    balancer = hybrid.one("aws:lb/loadBalancer:LoadBalancer").inputs
    assert balancer["internal"] is True
    addresses = [mapping["privateIpv4Address"] for mapping in balancer["subnetMappings"]]
    assert addresses == ["10.20.0.10", "10.20.32.10"]
    opened = [one.inputs for one in hybrid.of(INGRESS_RULE) if "cidrIpv4" in one.inputs]
    assert sorted((rule["cidrIpv4"], rule["fromPort"], rule["toPort"]) for rule in opened) == [
        ("10.0.0.0/16", 80, 80),
        ("10.0.0.0/16", 443, 443),
    ]


def test_the_on_prem_gateway_finds_the_entrance_by_a_name_of_its_own_cluster(hybrid: Synthesized) -> None:
    slices = hybrid.one("kubernetes:discovery.k8s.io/v1:EndpointSlice")
    assert slices.inputs["metadata"]["labels"]["kubernetes.io/service-name"] == "llm-spill"
    assert [one["addresses"] for one in slices.inputs["endpoints"]] == [["10.20.0.10"], ["10.20.32.10"]]
    files = hybrid.one("kubernetes:core/v1:ConfigMap", "llm-gateway-config").inputs["data"]
    assert "llm-spill.llm.svc.cluster.local" in files["clusters.yaml"]
    policy = hybrid.one("kubernetes:networking.k8s.io/v1:NetworkPolicy", "llm-spill-allow").inputs["spec"]
    assert [peer["ipBlock"]["cidr"] for peer in policy["egress"][0]["to"]] == [
        "10.20.0.10/32",
        "10.20.32.10/32",
    ]


def test_both_gateways_have_the_same_key_and_it_is_in_secrets_only(hybrid: Synthesized) -> None:
    (password,) = [one for one in hybrid.resources if one.name == "llm-spill-key-letters"]
    letters = (password.name.replace("-", "") * 40)[:40]
    holders = {one.name for one in hybrid.resources if letters in str(one.inputs)}
    assert holders == {"llm-gateway-envoy-keys", "llm-burst-gateway-api-keys", "llm-burst-gateway-envoy-keys"}


def test_the_node_port_of_the_gateway_is_the_one_behind_the_entrance(hybrid: Synthesized) -> None:
    (port,) = hybrid.one("kubernetes:core/v1:Service", "llm-burst-port-service").inputs["spec"]["ports"]
    assert port["nodePort"] == hybrid.one("aws:lb/targetGroup:TargetGroup").inputs["port"]
    attached = hybrid.one("aws:autoscaling/attachment:Attachment").inputs
    assert attached["autoscalingGroupName"] == "asg-llm-burst-system"


def test_static_routes_of_a_vpn_are_those_on_prem() -> None:
    made = with_cloud(link={"vpn": {"deviceAddress": "203.0.113.10", "routing": "static"}})
    routes = made.of("aws:ec2/vpnConnectionRoute:VpnConnectionRoute")
    assert [one.inputs["destinationCidrBlock"] for one in routes] == ["10.0.0.0/16"]
    assert made.one("aws:ec2/vpnConnection:VpnConnection").inputs["staticRoutesOnly"] is True


def test_direct_connect_announces_the_vpc_and_nothing_else() -> None:
    made = with_cloud(link={"directConnect": {"gatewayId": "5a2b1c3d-0000-4000-8000-0123456789ab"}})
    attached = made.one("aws:directconnect/gatewayAssociation:GatewayAssociation").inputs
    assert attached["allowedPrefixes"] == ["10.20.0.0/16"]
    assert not made.of("aws:ec2/vpnConnection:VpnConnection")


# Serving


def test_the_same_model_is_served_there_from_what_was_staged_with_no_copy_at_rest(
    hybrid: Synthesized,
) -> None:
    def llm(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        spec = hybrid.one(RAY_SERVICE, name).inputs["spec"]
        (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
        return application["args"]["llm_configs"][0], spec

    here, _ = llm("qwen3-8b")
    away, spec = llm("qwen3-8b-burst")
    assert away["model_loading_config"]["model_id"] == here["model_loading_config"]["model_id"]
    assert away["model_loading_config"]["model_source"] == "/models/volume"
    assert away["engine_kwargs"] == here["engine_kwargs"]
    assert (
        away["deployment_config"]["max_queued_requests"] == here["deployment_config"]["max_queued_requests"]
    )
    workers = next(
        one for one in spec["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "workers"
    )
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 4)
    pod = workers["template"]["spec"]
    assert pod["nodeSelector"][NODE_GROUP_LABEL] == "l40s"
    assert pod["containers"][0]["image"].endswith("/llm-burst/rayproject/ray-llm:2.60.0-py312-cu130")


def test_weights_are_mounted_read_only_from_the_models_own_folder(hybrid: Synthesized) -> None:
    volume = hybrid.one("kubernetes:core/v1:PersistentVolume").inputs["spec"]
    assert volume["accessModes"] == ["ReadOnlyMany"]
    assert "read-only" in volume["mountOptions"]
    assert "prefix models/qwen3-8b/current/" in volume["mountOptions"]
    assert volume["csi"]["driver"] == "s3.csi.aws.com"


def test_a_model_without_spill_is_nowhere_on_the_eks_side() -> None:
    platform = platform_object("hybrid")
    private = {key: value for key, value in platform["models"][0].items() if key != "spill"}
    private |= {"name": "private", "servedName": "org/private", "source": {"path": "/models/private"}}
    made = declared({**platform, "models": [*platform["models"], private]})
    for resource in made.resources:
        if "::eks::" in resource.provider or resource.type.startswith("aws:"):
            assert "private" not in json.dumps(resource.inputs).replace("privateDns", "").replace(
                "llm-burst-network-private", ""
            ).replace("privateIpv4", "").replace("PrivateAccess", ""), resource.name
    assert made.one(RAY_SERVICE, "private")


def test_every_image_of_the_eks_side_is_in_a_repository_with_tags_that_never_move(
    hybrid: Synthesized,
) -> None:
    repositories = {one.inputs["name"]: one.inputs for one in hybrid.of("aws:ecr/repository:Repository")}
    for repository in repositories.values():
        assert repository["imageTagMutability"] == "IMMUTABLE"
        assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
        assert repository["encryptionConfigurations"][0]["encryptionType"] == "KMS"
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com/"
    text = json.dumps([one.inputs for one in hybrid.resources if "::eks::" in one.provider])
    pulled = {part.partition(":")[0].partition('"')[0] for part in text.split(registry)[1:]}
    assert pulled == set(repositories)


def test_images_can_be_pulled_from_where_they_are() -> None:
    made = with_cloud(images="asGiven")
    assert not made.of("aws:ecr/repository:Repository")
    assert "dkr.ecr" not in json.dumps([one.inputs for one in made.resources if "::eks::" in one.provider])


def test_the_bucket_is_versioned_encrypted_private_and_over_tls_only(hybrid: Synthesized) -> None:
    versions = hybrid.one("aws:s3/bucketVersioning:BucketVersioning").inputs
    assert versions["versioningConfiguration"] == {"status": "Enabled"}
    closed = hybrid.one("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock").inputs
    assert all(closed[key] for key in closed if key != "bucket")
    encryption = hybrid.one(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    ).inputs
    assert encryption["rules"][0]["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
    assert "aws:SecureTransport" in hybrid.one("aws:s3/bucketPolicy:BucketPolicy").inputs["policy"]
    assert hybrid.one("aws:s3/bucket:Bucket").inputs["forceDestroy"] is False


def test_the_foundation_is_what_staging_and_link_need_and_no_node_or_cluster() -> None:
    made = with_cloud(declare="foundation")
    assert not [one for one in made.resources if one.type.startswith("aws:eks/")]
    assert not [one for one in made.resources if "::eks::" in one.provider]
    whole = declared(platform_object("hybrid"))
    for kind in (
        "aws:ecr/repository:Repository",
        "aws:s3/bucket:Bucket",
        "aws:ec2/vpnConnection:VpnConnection",
    ):
        assert {one.name for one in made.of(kind)} == {one.name for one in whole.of(kind)} != set()


def test_the_second_up_adds_to_the_foundation_and_changes_nothing_of_it() -> None:
    first, whole = with_cloud(declare="foundation"), declared(platform_object("hybrid"))
    after = {one.urn: one for one in whole.resources}
    for one in first.resources:
        if one.type != "pulumi:providers:kubernetes":  # names the kubeconfig of a test
            assert after[one.urn].inputs == one.inputs, one.name


def test_what_has_to_be_staged_is_known_from_the_settings_alone(hybrid: Synthesized) -> None:
    settings = parse(platform_object("hybrid"))
    assert settings.cloud is not None
    plan = StagingPlan.read(staging_plan(settings, settings.cloud))
    assert StagingPlan.read(hybrid.outputs["cloudStaging"]) == plan
    assert plan.bucket == hybrid.one("aws:s3/bucket:Bucket").inputs["bucket"]
    namespace, _, name = (plan.state or "").partition("/")
    state = hybrid.one("kubernetes:core/v1:ConfigMap", name).inputs["metadata"]
    assert (state["namespace"], state["name"]) == (namespace, name)
    targets = {image.target for image in (*plan.images, *(model.image for model in plan.models))}
    repositories = {one.inputs["name"] for one in hybrid.of("aws:ecr/repository:Repository")}
    assert {target.partition("/")[2].partition(":")[0] for target in targets} == repositories


# Karpenter, switches, costs


def test_karpenter_takes_the_place_of_the_node_groups_with_limits_of_the_same_size() -> None:
    made = with_cloud(autoscaler={"kind": "karpenter"})
    assert [one.name for one in made.of(NODE_GROUP)] == ["llm-burst-system"]
    pool = made.one("kubernetes:karpenter.sh/v1:NodePool").inputs["spec"]
    assert pool["limits"] == {"nvidia.com/gpu": "4"}
    assert pool["disruption"]["consolidationPolicy"] == "WhenEmpty"
    nodes = made.one("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass").inputs["spec"]
    assert nodes["metadataOptions"] == {"httpTokens": "required", "httpPutResponseHopLimit": 1}
    queue = made.one("aws:sqs/queue:Queue").inputs
    assert queue["sqsManagedSseEnabled"] is True
    assert len(made.of("aws:cloudwatch/eventRule:EventRule")) == 5


def test_karpenters_nodes_go_while_it_still_runs_and_after_the_pods_on_them() -> None:
    made = with_cloud(autoscaler={"kind": "karpenter"})
    pool = made.one("kubernetes:karpenter.sh/v1:NodePool")
    assert pool.urn in made.before(made.one(RAY_SERVICE, "qwen3-8b-burst"))
    assert made.one(RELEASE, "llm-burst-karpenter").urn in made.before(pool)


def test_autoscaler_and_device_plugin_can_be_somebody_elses() -> None:
    none = {"install": "none"}
    made = with_cloud(autoscaler={"release": none}, devicePlugin=none)
    assert [one.name for one in made.of(RELEASE)] == ["kuberay", "llm-burst-kuberay"]


def test_a_budget_tells_at_eighty_and_a_hundred_percent_and_on_a_forecast(hybrid: Synthesized) -> None:
    budget = hybrid.one("aws:budgets/budget:Budget").inputs
    assert budget["limitAmount"] == "3000"
    told = [(one["threshold"], one["notificationType"]) for one in budget["notifications"]]
    assert told == [(80, "ACTUAL"), (100, "ACTUAL"), (100, "FORECASTED")]
    assert budget["costFilters"][0]["values"] == ["user:spillway:platform$llm-burst"]


# What the AWS double has to serve


def declared_types() -> set[str]:
    return {one["type"] for one in golden_resources("hybrid") if one["type"].startswith("aws:")}


def test_the_types_of_the_committed_stack_are_these() -> None:
    """The one list of AWS types that stack `hybrid` declares; switches add `SWITCHED`."""
    assert declared_types() == TYPES


TYPES = {
    "aws:autoscaling/attachment:Attachment",
    "aws:autoscaling/tag:Tag",
    "aws:budgets/budget:Budget",
    "aws:cloudwatch/logGroup:LogGroup",
    "aws:ec2/customerGateway:CustomerGateway",
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "aws:ec2/flowLog:FlowLog",
    "aws:ec2/launchTemplate:LaunchTemplate",
    "aws:ec2/routeTable:RouteTable",
    "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/subnet:Subnet",
    "aws:ec2/vpc:Vpc",
    "aws:ec2/vpcEndpoint:VpcEndpoint",
    "aws:ec2/vpnConnection:VpnConnection",
    "aws:ec2/vpnGateway:VpnGateway",
    "aws:ec2/vpnGatewayRoutePropagation:VpnGatewayRoutePropagation",
    "aws:ecr/repository:Repository",
    "aws:eks/accessEntry:AccessEntry",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
    "aws:eks/addon:Addon",
    "aws:eks/cluster:Cluster",
    "aws:eks/nodeGroup:NodeGroup",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    "aws:iam/role:Role",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:kms/alias:Alias",
    "aws:kms/key:Key",
    "aws:lb/listener:Listener",
    "aws:lb/loadBalancer:LoadBalancer",
    "aws:lb/targetGroup:TargetGroup",
    "aws:s3/bucket:Bucket",
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
    "aws:s3/bucketPolicy:BucketPolicy",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:s3/bucketVersioning:BucketVersioning",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
}
# Types that only other settings declare: NAT, static routes, Direct Connect, EFA, Karpenter.
SWITCHED = {
    "aws:cloudwatch/eventRule:EventRule",
    "aws:cloudwatch/eventTarget:EventTarget",
    "aws:directconnect/gatewayAssociation:GatewayAssociation",
    "aws:ec2/eip:Eip",
    "aws:ec2/internetGateway:InternetGateway",
    "aws:ec2/natGateway:NatGateway",
    "aws:ec2/placementGroup:PlacementGroup",
    "aws:ec2/route:Route",
    "aws:ec2/vpnConnectionRoute:VpnConnectionRoute",
    "aws:sqs/queue:Queue",
    "aws:sqs/queuePolicy:QueuePolicy",
}


@pytest.mark.parametrize(
    "made",
    [
        lambda: with_cloud(),
        lambda: with_cloud(autoscaler={"kind": "karpenter"}),
        lambda: with_group(instanceTypes=["g6e.48xlarge"], efa=True, zones=["us-east-1b"]),
    ],
)
def test_every_input_is_one_that_the_provider_takes(made: Callable[[], Synthesized]) -> None:
    for one in made().resources:
        if one.type.startswith("aws:"):
            assert check(one.inputs, contract.resource(one.type).inputs, one.type) == [], one.name


def test_every_switch_declares_only_types_of_the_two_lists() -> None:
    new = platform_object("hybrid")["cloud"]["network"]["new"]
    variants = [
        with_cloud(network={"new": {**new, "egress": "nat"}}, autoscaler={"kind": "karpenter"}),
        with_cloud(link={"vpn": {"deviceAddress": "203.0.113.10", "routing": "static"}}),
        with_cloud(link={"directConnect": {"gatewayId": "5a2b1c3d-0000-4000-8000-0123456789ab"}}),
        with_group(instanceTypes=["g6e.48xlarge"], efa=True, zones=["us-east-1b"]),
    ]
    seen = {one.type for made in variants for one in made.resources if one.type.startswith("aws:")}
    assert seen - TYPES == SWITCHED


def test_the_gateway_asks_the_burst_controller_whether_a_model_has_servers_there() -> None:
    result = declared(platform_object("hybrid"))
    files = result.one("kubernetes:core/v1:ConfigMap", "llm-gateway-config").inputs["data"]
    clusters = {one["name"]: one for one in yaml.safe_load(files["clusters.yaml"])["resources"]}
    asked = clusters["Qwen/Qwen3-8B/ready"]
    service = result.one("kubernetes:core/v1:Service", "llm-burst-controller-service").inputs
    address = asked["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert address["socket_address"] == {
        "address": f"{service['metadata']['name']}.llm.svc.cluster.local",
        "port_value": service["spec"]["ports"][0]["port"],
    }
    assert asked["health_checks"][0]["http_health_check"]["path"] == "/ready/Qwen/Qwen3-8B"
    allowed = result.one(
        "kubernetes:networking.k8s.io/v1:NetworkPolicy", "llm-burst-controller-allow-gateway"
    ).inputs["spec"]
    assert allowed["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "gateway"
    assert allowed["egress"][0]["ports"][0]["port"] == service["spec"]["ports"][0]["targetPort"]
