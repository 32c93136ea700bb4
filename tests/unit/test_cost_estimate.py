"""Billing rules, one resource at a time: surge, ceilings, fractions, unknowns, and types without a rule."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from rehearsal.aws.resources import KINDS
from runtime.cost.amounts import Band, Charge
from runtime.cost.estimate import FREE, RULES, Estimate, estimate
from runtime.cost.inventory import EKS_PROVIDER
from runtime.cost.summary import money
from runtime.stack_resources import UNKNOWN, StackResource

PREFIX = "urn:pulumi:dev::demo::"
AWS = f"{PREFIX}pulumi:providers:aws::aws"
EKS = f"{PREFIX}pulumi:providers:kubernetes::{EKS_PROVIDER}"
ON_PREM = f"{PREFIX}pulumi:providers:kubernetes::cluster"
PARENT = f"{PREFIX}spillway:x:Part::part"
PROVIDER = StackResource(urn=AWS, type="pulumi:providers:aws", name="aws", inputs={"region": "us-east-1"})
GROUP = "aws:eks/nodeGroup:NodeGroup"
TODAY = dt.date(2026, 7, 21)


def resource(kind: str, inputs: dict[str, Any], name: str = "it", **more: Any) -> StackResource:
    given: dict[str, Any] = {"provider": AWS, "parent": PARENT, **more}
    return StackResource(urn=f"{PREFIX}{kind}::{name}", type=kind, name=name, inputs=inputs, **given)


def of(*resources: StackResource, **parent: Any) -> Estimate:
    component = StackResource(urn=PARENT, type="spillway:x:Part", name="part", custom=False, inputs=parent)
    return estimate([PROVIDER, component, *resources], today=TODAY)


def group(types: list[str], least: int, most: int, **inputs: Any) -> StackResource:
    scaling = {"minSize": least, "desiredSize": least, "maxSize": most}
    given = {
        "instanceTypes": types,
        "scalingConfig": scaling,
        "subnetIds": ["a", "b", "c"],
        "updateConfig": {"maxUnavailable": 1, "updateStrategy": "MINIMAL"},
        **inputs,
    }
    return resource(GROUP, given)


def nodes(found: Estimate) -> Charge:
    """The charge for the nodes themselves; the other one is their disks."""
    return next(one for one in found.charges if "volume" not in one.item)


def amounts(charge: Charge) -> tuple[str, str, str]:
    assert charge.amount is not None
    return money(charge.amount.floor), money(charge.amount.expected), money(charge.amount.ceiling)


def test_every_type_that_the_project_declares_of_aws_has_a_rule_or_a_reason_to_be_free() -> None:
    assert [token for token in KINDS if token not in RULES and token not in FREE] == []
    assert set(RULES) & set(FREE) == set()


def test_four_p5en_nodes_at_most_show_what_they_cost_although_none_runs_at_rest() -> None:
    found = of(group(["p5en.48xlarge"], 0, 4))
    assert amounts(nodes(found)) == ("$0.00", "$0.00", "$253.18")
    monthly = nodes(found).count * Band.same(Decimal("63.296") * 730)
    assert money(monthly.ceiling) == "$184,824.32"
    assert [(one.accelerator, one.count.ceiling) for one in found.devices] == [("nvidia-h200", 32)]


@pytest.mark.parametrize(
    ("update", "most"),
    [
        ({"maxUnavailable": 1, "updateStrategy": "MINIMAL"}, 4),
        # Twice three zones.
        ({"maxUnavailable": 1}, 10),
        ({"maxUnavailable": 1, "updateStrategy": "DEFAULT"}, 10),
        ({"maxUnavailable": 9}, 13),
        (None, 10),
    ],
)
def test_the_ceiling_of_a_node_group_counts_the_surge_of_an_update(update: Any, most: int) -> None:
    found = of(group(["g6e.xlarge"], 0, 4, updateConfig=update))
    assert [one.count.ceiling for one in found.charges] == [most, most * 20]


def test_of_several_types_the_cheapest_is_the_floor_and_the_dearest_the_ceiling() -> None:
    # g6e.xlarge 1.861, g6e.4xlarge 3.00424
    found = of(group(["g6e.4xlarge", "g6e.xlarge"], 1, 2))
    assert amounts(nodes(found)) == ("$1.86", "$3.00", "$6.01")


def test_spot_is_priced_on_demand_and_says_so() -> None:
    found = of(group(["g6e.xlarge"], 0, 1, capacityType="SPOT"))
    assert amounts(nodes(found))[2] == "$1.86"
    assert any("spot" in note for note in nodes(found).notes)


def test_a_share_of_a_device_counts_as_a_share() -> None:
    found = of(group(["g6f.large"], 1, 3))
    assert [one.count for one in found.devices] == [
        Band(Decimal("0.125"), Decimal("0.125"), Decimal("0.375"))
    ]


def test_the_stack_files_own_price_wins() -> None:
    found = of(group(["g6e.xlarge"], 0, 2), usdPerHour="0.9")
    assert amounts(nodes(found))[2] == "$1.80"
    assert "usdPerHour" in nodes(found).notes[-1]


def test_a_type_without_a_price_is_unpriced_named_and_makes_no_figure() -> None:
    found = of(group(["trn2.48xlarge"], 1, 2))
    (charge,) = found.unpriced
    assert charge.amount is None
    assert "no list price of trn2.48xlarge in us-east-1" in charge.why_unpriced
    assert charge.count.ceiling == 2


@pytest.mark.parametrize(
    ("path", "inputs"),
    [
        ("scalingConfig.maxSize", {"scalingConfig": {"minSize": 0, "maxSize": UNKNOWN}}),
        ("scalingConfig", {"scalingConfig": UNKNOWN}),
        ("instanceTypes", {"instanceTypes": [UNKNOWN]}),
        ("scalingConfig.minSize", {"scalingConfig": {}}),
        ("scalingConfig.maxSize", {"scalingConfig": {"minSize": 0, "maxSize": "many"}}),
    ],
)
def test_what_is_not_known_yet_is_unpriced_and_names_the_property(path: str, inputs: Any) -> None:
    found = of(group(["g6e.xlarge"], 0, 4, **inputs))
    (charge,) = found.unpriced
    assert path in charge.why_unpriced
    assert not found.hourly.ceiling


def test_disks_are_those_of_the_launch_template_beside_the_group_while_ids_are_unknown() -> None:
    template = resource(
        "aws:ec2/launchTemplate:LaunchTemplate",
        {"blockDeviceMappings": [{"ebs": {"volumeSize": 300}}]},
        "t",
    )
    found = of(group(["g6e.xlarge"], 0, 2, launchTemplate={"id": UNKNOWN, "version": UNKNOWN}), template)
    assert [one.count.ceiling for one in found.charges] == [2, 600]


def test_a_disk_size_that_aws_fills_in_leaves_the_nodes_priced() -> None:
    found = of(group(["g6e.xlarge"], 0, 2, diskSize=UNKNOWN))
    assert amounts(nodes(found)) == ("$0.00", "$0.00", "$3.72")
    assert ["diskSize" in one.why_unpriced for one in found.unpriced] == [True]


def test_disks_of_a_launch_template_that_is_not_the_stacks_are_unpriced() -> None:
    found = of(group(["g6e.xlarge"], 0, 2, launchTemplate={"id": "lt-1", "version": "1"}))
    assert ["launch template" in one.why_unpriced for one in found.unpriced] == [True]


def test_a_type_without_a_rule_is_unpriced_and_named() -> None:
    found = of(resource("aws:rds/instance:Instance", {}))
    (charge,) = found.unpriced
    assert "no rule of what aws:rds/instance:Instance costs" in charge.why_unpriced


def test_resources_of_a_region_that_nobody_names_are_unpriced() -> None:
    found = estimate([resource("aws:ec2/natGateway:NatGateway", {})])
    assert ["no provider of the stack names a region" in one.why_unpriced for one in found.unpriced] == [True]
    assert estimate([resource("aws:ec2/natGateway:NatGateway", {})], region="us-east-1").unpriced == ()


def test_a_cluster_that_does_not_refuse_extended_support_may_cost_six_times_as_much() -> None:
    kind = "aws:eks/cluster:Cluster"
    refusing = of(resource(kind, {"upgradePolicy": {"supportType": "STANDARD"}}))
    assert amounts(refusing.charges[0]) == ("$0.10", "$0.10", "$0.10")
    assert amounts(of(resource(kind, {})).charges[0]) == ("$0.10", "$0.10", "$0.60")


def test_an_interface_endpoint_is_paid_in_each_zone_and_a_gateway_endpoint_is_free() -> None:
    kind = "aws:ec2/vpcEndpoint:VpcEndpoint"
    interface = of(resource(kind, {"vpcEndpointType": "Interface", "subnetIds": [UNKNOWN, UNKNOWN]}))
    assert amounts(interface.charges[0])[2] == "$0.02"
    assert [one.item for one in interface.by_use] == ["GB through an interface endpoint"]
    assert of(resource(kind, {"vpcEndpointType": "Gateway"})).charges == ()


def test_what_is_paid_by_use_is_named_with_its_price_and_in_no_sum() -> None:
    found = of(resource("aws:s3/bucket:Bucket", {}))
    assert [(one.item, one.usd, one.unit) for one in found.by_use] == [
        ("GB stored in S3", Decimal("0.023"), "GB-month")
    ]
    assert found.hourly == Band.same(0)


def pool(limits: dict[str, str] | None, types: list[str] | None) -> list[StackResource]:
    requirements = [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": types}]
    spec: dict[str, Any] = {
        "template": {
            "spec": {
                "nodeClassRef": {"name": "l40s"},
                "requirements": requirements if types else [],
            }
        },
        "limits": limits,
    }
    node_class = {
        "metadata": {"name": "l40s"},
        "spec": {"blockDeviceMappings": [{"ebs": {"volumeSize": "200Gi"}}]},
    }
    return [
        resource("kubernetes:karpenter.sh/v1:NodePool", {"spec": spec}, provider=EKS),
        resource("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass", node_class, provider=EKS),
    ]


def test_a_pool_of_karpenters_starts_as_many_nodes_as_its_limit_of_devices_lets_it() -> None:
    # Eight devices: two nodes with four of them, at 10.49264.
    found = of(*pool({"nvidia.com/gpu": "8"}, ["g6e.12xlarge"]))
    assert amounts(nodes(found)) == ("$0.00", "$0.00", "$20.99")
    assert [one.count.ceiling for one in found.charges] == [2, 400]


def test_a_pool_without_limits_has_no_ceiling_and_says_so() -> None:
    found = of(*pool(None, ["g6e.12xlarge"]))
    assert found.hourly.ceiling is None
    assert found.unbounded[0].name == "it"
    assert "set spec.limits" in found.unbounded[0].notes[0]
    assert found.exposure(dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC)) is None


def test_a_pool_of_any_type_is_unpriced_and_without_a_ceiling() -> None:
    found = of(*pool({"nvidia.com/gpu": "8"}, None))
    assert ["name no instance types" in one.why_unpriced for one in found.unpriced] == [True]
    assert len(found.unbounded) == 1


def burst(hours: float | None) -> StackResource:
    return resource("spillway:kubernetes:BurstController", {"burstHoursPerMonth": hours}, "burst")


def test_the_declared_hours_of_bursting_are_what_is_expected() -> None:
    # 73 node-hours of 730 are a tenth of a node: 0.1 x 1.861.
    found = of(group(["g6e.xlarge"], 0, 4), burst(73))
    assert nodes(found).count.expected == Decimal("0.1")
    assert amounts(nodes(found))[1] == "$0.19"


def test_the_declared_hours_are_shared_by_groups_after_their_sizes_and_never_above_them() -> None:
    small, large = group(["g6e.xlarge"], 0, 1), group(["g6.xlarge"], 1, 4)
    found = of(small, large, burst(730))
    assert [one.count.expected for one in found.charges if "volume" not in one.item] == [
        Decimal("0.25"),
        Decimal("1.75"),
    ]
    found = of(small, burst(10_000))
    assert nodes(found).count.expected == 1


def pods(device: str, count: str, product: str | None = None) -> dict[str, Any]:
    limits = {"cpu": "1", device: count}
    selector = {"nvidia.com/gpu.product": product} if product else None
    return {"spec": {"nodeSelector": selector, "containers": [{"resources": {"limits": limits}}]}}


def ray(strategy: str | None, least: int, most: int | None, **group_more: Any) -> dict[str, Any]:
    template = pods("nvidia.com/gpu", "2", "NVIDIA-L40S")
    group = {"minReplicas": least, "maxReplicas": most, "template": template, **group_more}
    return {
        "spec": {
            "upgradeStrategy": {"type": strategy},
            "rayClusterConfig": {"workerGroupSpecs": [group]},
        }
    }


@pytest.mark.parametrize(
    ("strategy", "most"),
    [("NewCluster", 12), (None, 12), ("NewClusterWithIncrementalUpgrade", 12), ("None", 6)],
)
def test_an_upgrade_of_a_ray_service_on_prem_doubles_its_accelerators(
    strategy: str | None, most: int
) -> None:
    kind = "kubernetes:ray.io/v1:RayService"
    found = of(resource(kind, ray(strategy, 1, 3), provider=ON_PREM), usdPerGpuHour="2.50")
    (charge,) = found.charges
    assert charge.accelerator == "nvidia-l40s"
    assert (charge.count.floor, charge.count.ceiling) == (2, most)
    assert amounts(charge) == ("$5.00", "$5.00", money(Decimal(most) * Decimal("2.50")))


def test_hosts_of_a_copy_count_and_missing_bounds_are_unbounded() -> None:
    kind = "kubernetes:ray.io/v1:RayService"
    found = of(resource(kind, ray("None", 1, 3, numOfHosts=2, replicas=2), provider=ON_PREM))
    assert found.charges[0].count == Band(Decimal(4), Decimal(8), Decimal(12))
    assert of(resource(kind, ray("None", 1, None), provider=ON_PREM)).unbounded


def test_pods_on_eks_cost_nothing_beside_their_nodes() -> None:
    found = of(resource("kubernetes:ray.io/v1:RayService", ray(None, 1, 3), provider=EKS))
    assert found.charges == ()


@pytest.mark.parametrize(
    ("strategy", "most"),
    [
        (None, 5),
        ({"type": "Recreate"}, 4),
        ({"rollingUpdate": {"maxSurge": 0}}, 4),
        ({"rollingUpdate": {"maxSurge": "50%"}}, 6),
    ],
)
def test_a_rolling_update_of_a_deployment_adds_its_surge(strategy: Any, most: int) -> None:
    template = pods("habana.ai/gaudi", "1")
    spec = {"replicas": 4, "strategy": strategy, "template": template}
    found = of(
        resource("kubernetes:apps/v1:Deployment", {"spec": spec}, provider=ON_PREM),
        accelerator="intel-gaudi3",
    )
    assert found.charges[0].count == Band(Decimal(4), Decimal(4), Decimal(most))
    assert found.charges[0].accelerator == "intel-gaudi3"


def test_accelerators_of_a_kind_that_is_not_counted_are_unpriced_and_named() -> None:
    job = resource(
        "kubernetes:batch/v1:Job", {"spec": {"template": pods("nvidia.com/gpu", "1")}}, provider=ON_PREM
    )
    assert ["pods of a Job are not counted" in one.why_unpriced for one in of(job).unpriced] == [True]


@pytest.mark.parametrize(
    ("provider", "kind", "annotations", "item"),
    [
        (EKS, "LoadBalancer", None, "classic load balancer"),
        (
            EKS,
            "LoadBalancer",
            {"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"},
            "network load balancer",
        ),
        (EKS, "ClusterIP", None, None),
        (ON_PREM, "LoadBalancer", None, None),
    ],
)
def test_a_load_balancer_service_on_eks_is_paid_for(
    provider: str, kind: str, annotations: Any, item: str | None
) -> None:
    inputs = {"metadata": {"annotations": annotations}, "spec": {"type": kind}}
    found = of(resource("kubernetes:core/v1:Service", inputs, provider=provider))
    assert [one.item for one in found.charges] == ([item] if item else [])


def test_a_claim_on_eks_that_names_no_volume_is_a_disk() -> None:
    spec = {"resources": {"requests": {"storage": "50Gi"}}}
    kind = "kubernetes:core/v1:PersistentVolumeClaim"
    found = of(resource(kind, {"spec": spec}, provider=EKS))
    assert [(one.item, one.count.floor) for one in found.charges] == [("GiB of gp3 volume", 50)]
    assert of(resource(kind, {"spec": {**spec, "volumeName": "weights"}}, provider=EKS)).charges == ()
    assert of(resource(kind, {"spec": spec}, provider=ON_PREM)).charges == ()


def endpoint(variants: list[dict[str, Any]], **inputs: Any) -> list[StackResource]:
    configuration = {"name": "conf", "productionVariants": variants}
    return [
        resource("aws:sagemaker/endpointConfiguration:EndpointConfiguration", configuration, "conf"),
        resource("aws:sagemaker/endpoint:Endpoint", {"name": "ep", "endpointConfigName": UNKNOWN, **inputs}),
    ]


VARIANT = {"variantName": "a", "instanceType": "ml.g6e.12xlarge", "initialInstanceCount": 1}


def test_an_endpoint_counts_its_fleet_twice_for_a_blue_green_update() -> None:
    # 13.1158 an hour, scaled to three, and as many again while they are replaced.
    scaling = {"status": "ENABLED", "minInstanceCount": 0, "maxInstanceCount": 3}
    found = of(*endpoint([{**VARIANT, "managedInstanceScaling": scaling}]))
    assert amounts(found.charges[0]) == ("$0.00", "$13.12", "$78.69")
    assert [(one.place, one.accelerator, one.count.ceiling) for one in found.devices] == [
        ("SageMaker", "nvidia-l40s", 24)
    ]


def test_what_scales_an_endpoint_from_outside_counts() -> None:
    target = resource(
        "aws:appautoscaling/target:Target",
        {
            "serviceNamespace": "sagemaker",
            "resourceId": "endpoint/ep/variant/a",
            "minCapacity": 1,
            "maxCapacity": 4,
        },
    )
    found = of(*endpoint([VARIANT]), target)
    assert found.charges[0].count == Band(Decimal(1), Decimal(1), Decimal(8))


def test_an_endpoint_whose_configuration_is_not_the_stacks_is_unpriced() -> None:
    found = of(resource("aws:sagemaker/endpoint:Endpoint", {"endpointConfigName": "another"}))
    assert ["configuration" in one.why_unpriced for one in found.unpriced] == [True]


def test_the_exposure_is_the_ceiling_until_the_stack_expires_and_nothing_after() -> None:
    found = of(group(["p5en.48xlarge"], 0, 4, diskSize=0))
    now = dt.datetime(2026, 7, 21, 12, tzinfo=dt.UTC)
    assert money(found.exposure(now, now + dt.timedelta(hours=36))) == "$9,114.62"
    assert found.exposure(now, now - dt.timedelta(hours=1)) == 0


def test_old_prices_are_warned_of_with_their_number_and_the_oldest_day() -> None:
    inputs: dict[str, Any] = {}
    nat = [PROVIDER, resource("aws:ec2/natGateway:NatGateway", inputs)]
    (warning,) = estimate(nat, today=dt.date(2024, 8, 1)).warnings
    assert "1 of 1 prices are over 30 days old, the oldest from 2024-07-01" in warning
    assert estimate(nat, today=dt.date(2024, 7, 31)).warnings == ()
