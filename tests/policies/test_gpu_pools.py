"""The hard caps of policies/gpu_cost: which accelerators, and how many in one pool."""

from collections.abc import Mapping
from typing import Any

import pytest

from policies.accelerators import family_of, judged_name, product_name
from policies.gpu_cost.pools import GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL
from policies.rule import Finding, NotApplicable, Resource, Rule, Severity, Verdict
from runtime.accelerators import ACCELERATORS
from tests.policies.kubernetes_objects import (
    DEPLOYMENT,
    H100,
    L4,
    RAY_SERVICE,
    UNKNOWN_NUMBER,
    UNKNOWN_STRING,
    deployment,
    pod,
    ray_cluster,
    ray_service,
)

GPU = {"nvidia.com/gpu": 1}
WORKER = "spec.rayClusterConfig.workerGroupSpecs[0]"


def judge(rule: Rule, resource_type: str, props: Mapping[str, object], **config: object) -> Verdict:
    return rule.evaluate(Resource(resource_type, "subject", props), config)


def allow(resource_type: str, props: Mapping[str, object], *names: str) -> Verdict:
    return judge(GPU_INSTANCE_ALLOWLIST, resource_type, props, allowedAccelerators=list(names))


def cap(resource_type: str, props: Mapping[str, object], limit: float = 8) -> Verdict:
    return judge(GPU_MAX_PER_POOL, resource_type, props, maxGpusPerPool=limit)


def only_finding(verdict: Verdict) -> Finding:
    assert isinstance(verdict, list), f"expected a violation, got {verdict}"
    assert len(verdict) == 1, [finding.message for finding in verdict]
    return verdict[0]


# --- gpu-instance-allowlist


def test_a_ray_worker_group_may_ask_for_an_allowed_accelerator() -> None:
    assert allow(RAY_SERVICE, ray_service(pod(GPU, H100)), "nvidia-h100") == []


def test_allowed_names_are_read_without_regard_to_case() -> None:
    assert allow(RAY_SERVICE, ray_service(pod(GPU, H100)), "NVIDIA-H100") == []


def test_an_accelerator_that_is_not_on_the_list_is_a_violation_that_says_how_to_allow_it() -> None:
    finding = only_finding(allow(RAY_SERVICE, ray_service(pod(GPU, H100)), "nvidia-l4", "cpu"))
    assert f'{WORKER}.template.spec.containers[0].resources.limits["nvidia.com/gpu"]' in finding.message
    assert "nvidia-h100, which is not allowed. Allowed accelerators: nvidia-l4." in finding.message
    assert 'Add "nvidia-h100" to allowedAccelerators' in finding.remediation
    assert finding.severity is Severity.HIGH


def test_without_configuration_only_cpu_is_allowed() -> None:
    finding = only_finding(judge(GPU_INSTANCE_ALLOWLIST, RAY_SERVICE, ray_service(pod(GPU, H100))))
    assert "Allowed accelerators: none, only CPU." in finding.message
    assert judge(GPU_INSTANCE_ALLOWLIST, RAY_SERVICE, ray_service(pod({"cpu": "4"}))) == []


def test_an_accelerator_without_a_product_fails_closed_whatever_the_list_says() -> None:
    finding = only_finding(allow(RAY_SERVICE, ray_service(pod(GPU)), "nvidia-l4", "nvidia-h100"))
    assert "without naming the product" in finding.message
    assert "nvidia.com/gpu.product" in finding.remediation


def affinity(*terms: list[dict[str, object]]) -> dict[str, object]:
    required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def expression(*products: str, operator: str = "In") -> dict[str, object]:
    return {"key": "nvidia.com/gpu.product", "operator": operator, "values": list(products)}


def test_every_product_that_an_affinity_admits_must_be_allowed() -> None:
    template = pod(
        GPU, affinity=affinity([expression("NVIDIA-L4")], [expression("NVIDIA-L4", "NVIDIA-L40S")])
    )
    assert allow(DEPLOYMENT, deployment(template), "nvidia-l4", "nvidia-l40s") == []
    assert "nvidia-l40s" in only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-l4")).message


def test_a_node_selector_and_an_affinity_must_both_be_allowed() -> None:
    template = pod(GPU, L4, affinity=affinity([expression("NVIDIA-L40S")]))
    assert "nvidia-l40s" in only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-l4")).message
    assert "for nvidia-l4," in only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-l40s")).message


def test_an_affinity_term_that_leaves_the_product_open_names_no_product() -> None:
    other: dict[str, object] = {"key": "zone", "operator": "Exists"}
    for term in ([other], [expression("NVIDIA-H100-PCIe", operator="NotIn")]):
        template = pod(GPU, affinity=affinity([expression("NVIDIA-L4")], term))
        finding = only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-l4"))
        assert "without naming the product" in finding.message


def test_a_node_label_of_an_accelerator_counts_as_asking_even_without_a_request() -> None:
    finding = only_finding(allow(DEPLOYMENT, deployment(pod({"cpu": 1}, H100)), "nvidia-l4"))
    assert "nvidia-h100" in finding.message


def test_a_request_for_zero_accelerators_asks_for_none() -> None:
    for zero in (0, 0.0, "0"):
        assert allow(DEPLOYMENT, deployment(pod({"nvidia.com/gpu": zero}))) == []


@pytest.mark.parametrize(
    ("limits", "selector", "name"),
    [
        (
            {"nvidia.com/mig-1g.10gb": 1},
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"},
            "nvidia-h100",
        ),
        ({"nvidia.com/gpu.shared": "1"}, {"nvidia.com/gpu.product": "Tesla-T4-SHARED"}, "nvidia-t4"),
        ({"nvidia.com/gpu": 1}, {"nvidia.com/gpu.product": "NVIDIA-RTX-A6000"}, "nvidia-rtx-a6000"),
        ({"nvidia.com/gpu": 1}, {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, "nvidia-h100"),
        ({"nvidia.com/gpu": 1}, {"karpenter.k8s.aws/instance-gpu-name": "l40s"}, "nvidia-l40s"),
        ({"amd.com/gpu": 1}, {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "amd-mi300x"),
        ({"gpu.intel.com/i915": 1}, {"gpu.intel.com/product": "Max_1550"}, "intel-max-1550"),
        ({"gpu.intel.com/xe": 1}, {"gpu.intel.com/product": "Max_1100"}, "intel-max-1100"),
        ({"habana.ai/gaudi": 8}, None, "intel-gaudi"),
        ({"aws.amazon.com/neuroncore": 2}, None, "aws-neuron"),
        ({"google.com/tpu": 4}, {"cloud.google.com/gke-tpu-accelerator": "tpu-v5e"}, "google-tpu-v5e"),
    ],
)
def test_every_supported_accelerator_is_recognised_by_its_resource_and_label(
    limits: Mapping[str, object], selector: Mapping[str, str] | None, name: str
) -> None:
    assert allow(DEPLOYMENT, deployment(pod(limits, selector)), name) == []
    assert name in only_finding(allow(DEPLOYMENT, deployment(pod(limits, selector)), "none")).message


@pytest.mark.parametrize(
    "resource",
    [
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-3g.40gb",
        "amd.com/gpu",
        "gpu.intel.com/i915",
        "gpu.intel.com/xe",
        "google.com/tpu",
    ],
)
def test_no_supported_accelerator_gets_by_without_a_product(resource: str) -> None:
    finding = only_finding(allow(DEPLOYMENT, deployment(pod({resource: 1})), "nvidia-l4"))
    assert "without naming the product" in finding.message


def test_a_label_of_another_vendor_does_not_name_the_product() -> None:
    template = pod({"amd.com/gpu": 1}, L4)
    assert (
        "without naming the product"
        in only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-l4")).message
    )


def test_the_registry_of_accelerators_and_the_rule_agree_on_names() -> None:
    for profile in ACCELERATORS.values():
        if profile.kubernetes_resource is None:
            continue
        template = pod({profile.kubernetes_resource: 1}, dict(profile.node_labels))
        assert allow(DEPLOYMENT, deployment(template), judged_name(profile.name)) == [], profile.name


@pytest.mark.parametrize("name", sorted(set(ACCELERATORS) - {"cpu"}))
def test_devices_of_every_accelerator_are_counted_in_deployments_and_ray_services(name: str) -> None:
    profile = ACCELERATORS[name]
    assert profile.kubernetes_resource is not None
    template = pod({profile.kubernetes_resource: "4", "hugepages-2Mi": "95000Mi"}, dict(profile.node_labels))
    for token, props in (
        (DEPLOYMENT, deployment(template, replicas=3)),
        (RAY_SERVICE, ray_service(template, maxReplicas=3)),
    ):
        assert cap(token, props, 12) == []
        assert "3 pods with 4 accelerators each, 12 in all" in only_finding(cap(token, props, 11)).message
        assert judged_name(name) in only_finding(allow(token, props, "none")).message


def test_no_label_tells_gaudis_apart_so_the_list_names_the_family_for_pods_and_intent_alike() -> None:
    intent = {"accelerator": "intel-gaudi3", "acceleratorsPerCopy": 8, "maxReplicas": 1}
    token = "spillway:kubernetes:PlainVLLM"
    assert allow(token, intent, "intel-gaudi") == []
    assert 'Add "intel-gaudi"' in only_finding(allow(token, intent, "intel-gaudi3")).remediation


def test_a_product_whose_label_names_two_models_takes_the_name_of_neither() -> None:
    nvidia = family_of("nvidia.com/gpu")
    assert nvidia is not None
    assert product_name(nvidia, "NVIDIA-L4-H100") == "nvidia-l4-h100"


@pytest.mark.parametrize(
    "resource", ["nvidia.com/hostdev", "nvidia.com/rdma_shared", "amd.com/nic", "cpu", "rdma/hca"]
)
def test_network_devices_and_cpu_are_no_accelerators(resource: str) -> None:
    assert family_of(resource) is None


def test_requests_in_init_containers_and_in_requests_are_seen() -> None:
    init = [{"name": "warm-up", "resources": {"requests": GPU}}]
    finding = only_finding(allow(DEPLOYMENT, deployment(pod(selector=H100, initContainers=init))))
    assert "initContainers[0].resources.requests" in finding.message


@pytest.mark.parametrize(
    ("template", "path"),
    [
        (pod({"nvidia.com/gpu": 1}, UNKNOWN_STRING), "nodeSelector"),
        (pod(GPU, {"nvidia.com/gpu.product": UNKNOWN_STRING}), 'nodeSelector["nvidia.com/gpu.product"]'),
        (
            pod(GPU, {"nvidia.com/gpu.product": f"NVIDIA-{UNKNOWN_STRING}"}),
            'nodeSelector["nvidia.com/gpu.product"]',
        ),
        ({"spec": {"containers": [{"resources": UNKNOWN_STRING}]}}, "containers[0].resources"),
        ({"spec": {"containers": UNKNOWN_STRING}}, "containers"),
        ({"spec": {"containers": [UNKNOWN_STRING]}}, "containers[0]"),
    ],
)
def test_an_unknown_that_decides_the_product_blocks_and_is_named(
    template: Mapping[str, object], path: str
) -> None:
    finding = only_finding(allow(DEPLOYMENT, deployment(template), "nvidia-h100"))
    assert f"spec.template.spec.{path} is not known until" in finding.message
    assert f"spec.template.spec.{path}" in finding.remediation


def test_an_unknown_amount_of_an_allowed_accelerator_does_not_concern_the_allow_list() -> None:
    template = pod({"nvidia.com/gpu": UNKNOWN_NUMBER}, H100)
    assert allow(DEPLOYMENT, deployment(template), "nvidia-h100") == []
    unnamed = pod({"nvidia.com/gpu": UNKNOWN_NUMBER})
    assert "without naming" in only_finding(allow(DEPLOYMENT, deployment(unnamed), "nvidia-h100")).message


def test_an_unknown_that_decides_nothing_is_ignored() -> None:
    template = pod({"cpu": UNKNOWN_NUMBER}, {"zone": UNKNOWN_STRING})
    template["spec"]["containers"][0]["image"] = UNKNOWN_STRING
    assert allow(DEPLOYMENT, deployment(template)) == []
    assert cap(DEPLOYMENT, deployment(template, replicas=UNKNOWN_NUMBER), 0) == []


# --- gpu-max-per-pool


def test_a_pool_may_grow_up_to_the_limit_but_not_beyond() -> None:
    worker = pod({"nvidia.com/gpu": "4"}, H100)
    assert cap(RAY_SERVICE, ray_service(worker, maxReplicas=2, numOfHosts=2), 16) == []
    finding = only_finding(cap(RAY_SERVICE, ray_service(worker, maxReplicas=2, numOfHosts=2), 15))
    assert f"{WORKER} may grow to 4 pods with 4 accelerators each, 16 in all" in finding.message
    assert "Allowed in one pool: 15." in finding.message
    assert finding.severity is Severity.CRITICAL


def test_without_configuration_a_pool_may_hold_one_server_of_eight() -> None:
    worker = pod(GPU, H100)
    assert judge(GPU_MAX_PER_POOL, RAY_SERVICE, ray_service(worker, maxReplicas=8)) == []
    finding = only_finding(judge(GPU_MAX_PER_POOL, RAY_SERVICE, ray_service(worker, maxReplicas=9)))
    assert "Allowed in one pool: 8." in finding.message


def test_the_head_is_a_pool_with_the_autoscaler_that_the_operator_adds() -> None:
    props = ray_service()
    cluster = props["spec"]["rayClusterConfig"]
    cluster["headGroupSpec"]["template"] = pod({"nvidia.com/gpu": 2})
    cluster["autoscalerOptions"] = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    finding = only_finding(cap(RAY_SERVICE, props, 2))
    assert (
        "spec.rayClusterConfig.headGroupSpec may grow to 1 pods with 3 accelerators each" in finding.message
    )


def test_an_accelerator_of_the_autoscaler_alone_is_seen_by_the_allow_list() -> None:
    props = ray_service()
    props["spec"]["rayClusterConfig"]["autoscalerOptions"] = {"resources": {"limits": GPU}}
    assert "autoscalerOptions.resources.limits" in only_finding(allow(RAY_SERVICE, props)).message


def test_each_worker_group_is_judged_for_itself() -> None:
    props = ray_service(pod({"nvidia.com/gpu": 8}), maxReplicas=1)
    groups = props["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups.append({"groupName": "more", "maxReplicas": 3, "template": pod({"nvidia.com/gpu": 4})})
    assert "workerGroupSpecs[1]" in only_finding(cap(RAY_SERVICE, props)).message


def test_the_cluster_is_found_in_every_ray_kind() -> None:
    cluster = ray_cluster(pod(GPU), maxReplicas=9)
    for kind, spec, path in [
        ("RayCluster", cluster, "spec.workerGroupSpecs[0]"),
        ("RayJob", {"rayClusterSpec": cluster}, "spec.rayClusterSpec.workerGroupSpecs[0]"),
        ("RayService", {"rayClusterConfig": cluster}, "spec.rayClusterConfig.workerGroupSpecs[0]"),
    ]:
        finding = only_finding(cap(f"kubernetes:ray.io/v1:{kind}", {"spec": spec}))
        assert finding.message.startswith(f"{path} may grow to 9 pods")


def test_a_ray_job_is_also_judged_by_the_pod_that_submits_it() -> None:
    props = {"spec": {"clusterSelector": {"a": "b"}, "submitterPodTemplate": pod({"nvidia.com/gpu": 9})}}
    assert (
        "spec.submitterPodTemplate may grow to 1 pods"
        in only_finding(cap("kubernetes:ray.io/v1:RayJob", props)).message
    )


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
def test_replicas_are_counted_and_one_if_not_given(kind: str) -> None:
    token = f"kubernetes:apps/v1:{kind}"
    template = pod({"nvidia.com/gpu": 2})
    assert cap(token, deployment(template), 2) == []
    assert (
        "3 pods with 2 accelerators" in only_finding(cap(token, deployment(template, replicas=3), 4)).message
    )


def test_pods_and_jobs_are_counted() -> None:
    assert "1 pods with 3" in only_finding(cap("kubernetes:core/v1:Pod", pod({"amd.com/gpu": 3}), 2)).message
    job = deployment(pod(GPU), parallelism=4)
    assert "4 pods with 1" in only_finding(cap("kubernetes:batch/v1:Job", job, 3)).message


def test_a_cron_job_with_accelerators_must_not_overlap() -> None:
    token = "kubernetes:batch/v1:CronJob"
    props: dict[str, Any] = {"spec": {"jobTemplate": {"spec": {"template": pod(GPU), "parallelism": 2}}}}
    assert "overlap" in only_finding(cap(token, props)).message
    props["spec"]["concurrencyPolicy"] = "Forbid"
    assert cap(token, props) == []
    assert "2 pods" in only_finding(cap(token, props, 1)).message


def test_a_daemon_set_with_accelerators_has_no_bound() -> None:
    token = "kubernetes:apps/v1:DaemonSet"
    assert "without bound" in only_finding(cap(token, deployment(pod(GPU)), 1000)).message
    assert cap(token, deployment(pod({"cpu": 1})), 0) == []


def test_containers_add_up_and_init_containers_count_only_if_they_ask_for_more() -> None:
    def asking(gpus: int, **more: object) -> dict[str, object]:
        return {"resources": {"limits": {"nvidia.com/gpu": gpus}}, **more}

    template = pod({"nvidia.com/gpu": 2})
    template["spec"]["containers"].append(asking(1))
    template["spec"]["initContainers"] = [asking(3)]
    assert cap(DEPLOYMENT, deployment(template), 3) == []
    template["spec"]["initContainers"] = [asking(4)]
    assert "with 4 acc" in only_finding(cap(DEPLOYMENT, deployment(template), 3)).message
    template["spec"]["initContainers"] = [asking(2, restartPolicy="Always"), asking(1)]
    assert "with 5 acc" in only_finding(cap(DEPLOYMENT, deployment(template), 3)).message
    template["spec"]["initContainers"] = [asking(2, restartPolicy="Always"), asking(4)]
    assert "with 6 acc" in only_finding(cap(DEPLOYMENT, deployment(template), 3)).message


def test_the_larger_of_limit_and_request_counts() -> None:
    for resources in (
        {"requests": {"amd.com/gpu": 3}},
        {"limits": {"amd.com/gpu": 1}, "requests": {"amd.com/gpu": 3}},
    ):
        template: dict[str, Any] = {"spec": {"containers": [{"resources": resources}]}}
        assert "with 3 acc" in only_finding(cap(DEPLOYMENT, deployment(template), 2)).message


@pytest.mark.parametrize(
    ("quantity", "accelerators"), [(2.0, 2), ("2", 2), ("2k", 2000), ("1500m", 2), ("1e1", 10), ("1Ki", 1024)]
)
def test_every_spelling_of_a_quantity_is_counted(quantity: object, accelerators: int) -> None:
    template = pod({"nvidia.com/gpu": quantity})
    assert f"with {accelerators} acc" in only_finding(cap(DEPLOYMENT, deployment(template), 0)).message


@pytest.mark.parametrize("quantity", ["many", "1.2.3", "-1", 1.5, True, "", {}])
def test_what_is_no_quantity_fails_closed(quantity: object) -> None:
    template = pod({"nvidia.com/gpu": quantity}, H100)
    finding = only_finding(cap(DEPLOYMENT, deployment(template), 1000))
    assert 'limits["nvidia.com/gpu"] is ' in finding.message


def test_slices_and_several_resources_count_as_whole_accelerators() -> None:
    template = pod({"nvidia.com/mig-1g.10gb": 3, "nvidia.com/gpu": 2, "nvidia.com/hostdev": 4})
    assert "with 5 acc" in only_finding(cap(DEPLOYMENT, deployment(template), 4)).message


@pytest.mark.parametrize(
    ("group", "path", "reason"),
    [
        ({}, "maxReplicas", "is missing"),
        ({"maxReplicas": UNKNOWN_NUMBER}, "maxReplicas", "is not known"),
        ({"maxReplicas": "lots"}, "maxReplicas", "is not a whole number"),
        ({"maxReplicas": -4}, "maxReplicas", "is below 0"),
        ({"maxReplicas": 1, "numOfHosts": UNKNOWN_NUMBER}, "numOfHosts", "is not known"),
        ({"maxReplicas": 1, "numOfHosts": 0}, "numOfHosts", "is below 1"),
    ],
)
def test_a_group_whose_bound_cannot_be_read_is_blocked_and_the_path_named(
    group: dict[str, object], path: str, reason: str
) -> None:
    finding = only_finding(cap(RAY_SERVICE, ray_service(pod(GPU), **group), 1000))
    assert finding.message.startswith(f"{WORKER}.{path} {reason}")
    assert "cannot tell whether the resource complies" in finding.message


def test_a_cpu_group_needs_no_bound() -> None:
    assert cap(RAY_SERVICE, ray_service(pod({"cpu": 4}), maxReplicas=UNKNOWN_NUMBER), 0) == []


@pytest.mark.parametrize("where", ["spec", "rayClusterConfig", "workerGroupSpecs"])
def test_an_unknown_above_the_groups_blocks_both_rules(where: str) -> None:
    props = ray_service(pod(GPU, H100), maxReplicas=1)
    if where == "spec":
        props["spec"] = UNKNOWN_STRING
    elif where == "rayClusterConfig":
        props["spec"]["rayClusterConfig"] = UNKNOWN_STRING
    else:
        props["spec"]["rayClusterConfig"]["workerGroupSpecs"] = UNKNOWN_STRING
    for verdict in (allow(RAY_SERVICE, props, "nvidia-h100"), cap(RAY_SERVICE, props)):
        assert isinstance(verdict, list)
        assert any(f"{where} is not known until" in finding.message for finding in verdict)


def test_a_violation_in_one_group_is_reported_beside_an_unknown_in_another() -> None:
    props = ray_service(pod(GPU), maxReplicas=9)
    groups = props["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups.append({"groupName": "unknown", "maxReplicas": UNKNOWN_NUMBER, "template": pod(GPU)})
    verdict = cap(RAY_SERVICE, props)
    assert isinstance(verdict, list)
    assert ["9 pods" in finding.message for finding in verdict] == [True, False]
    assert "workerGroupSpecs[1].maxReplicas is not known" in verdict[1].message


# --- both rules


def both(resource_type: str, props: Mapping[str, object]) -> list[Verdict]:
    return [allow(resource_type, props, "nvidia-h100"), cap(resource_type, props)]


def test_devices_taken_by_claim_fail_closed() -> None:
    template = pod(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}])
    for verdict in both(DEPLOYMENT, deployment(template)):
        finding = only_finding(verdict)
        assert "spec.template.spec.resourceClaims takes devices by claim (DRA)" in finding.message


@pytest.mark.parametrize(
    ("token", "props"),
    [
        ("kubernetes:helm.sh/v3:Release", {"values": {"model": {"resources": {"limits": GPU}}}}),
        (
            "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet",
            {"spec": {"workerTemplate": pod(GPU, H100)}},
        ),
        ("kubernetes:example.com/v1:Thing", {"spec": pod(resourceClaims=[{"name": "gpu"}])}),
        (DEPLOYMENT, deployment(pod(resources={"limits": GPU}))),
    ],
)
def test_an_accelerator_in_a_place_that_cannot_be_counted_fails_closed(
    token: str, props: Mapping[str, object]
) -> None:
    for verdict in both(token, props):
        assert "a part of a " in only_finding(verdict).message


@pytest.mark.parametrize(
    ("token", "props"),
    [
        ("aws:s3/bucket:Bucket", {"resources": {"limits": GPU}}),
        ("kubernetes:core/v1:Service", {"spec": {"ports": [{"port": 80}]}}),
        ("kubernetes:core/v1:Secret", {"data": UNKNOWN_STRING}),
        ("kubernetes:rbac.authorization.k8s.io/v1:Role", {"rules": [{"resources": ["pods"]}]}),
        ("kubernetes:core/v1:ResourceQuota", {"spec": {"hard": {"requests.nvidia.com/gpu": 4}}}),
        (
            "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
            {"spec": {"default": {"resources": {"limits": GPU}}}},
        ),
        # The chart's objects are resources of their own and are judged there.
        ("kubernetes:helm.sh/v4:Chart", {"values": {"resources": {"limits": GPU}}}),
    ],
)
def test_what_creates_no_pods_is_not_judged(token: str, props: Mapping[str, object]) -> None:
    for verdict in both(token, props):
        assert isinstance(verdict, NotApplicable)


def test_objects_inside_a_list_and_patches_are_judged_like_objects() -> None:
    items = {"items": [deployment(pod({"cpu": 1})), deployment(pod(GPU, L4), replicas=9)]}
    for verdict in both("kubernetes:apps/v1:DeploymentList", items):
        assert "items[1].spec" in only_finding(verdict).message
    assert (
        "items[1].spec may grow to 9 pods"
        in only_finding(cap("kubernetes:apps/v1:DeploymentList", items)).message
    )
    patch = deployment(pod(GPU, L4), replicas=9)
    for verdict in both("kubernetes:apps/v1:DeploymentPatch", patch):
        only_finding(verdict)


def test_a_patch_does_not_get_the_defaults_of_a_whole_object() -> None:
    token = "kubernetes:apps/v1:DeploymentPatch"
    assert "spec.replicas is missing" in only_finding(cap(token, deployment(pod(GPU)))).message
    assert "without the pod template" in only_finding(cap(token, {"spec": {"replicas": 100}})).message
    assert cap(token, {"metadata": {"labels": {"a": "b"}}}) == []


@pytest.mark.parametrize("kind", ["ModelService", "PlainVLLM"])
def test_the_intent_of_a_served_model_is_judged_before_its_objects_exist(kind: str) -> None:
    token = f"spillway:kubernetes:{kind}"
    props = {"model": "m", "accelerator": "nvidia-h100", "acceleratorsPerCopy": 4, "maxReplicas": 3}
    assert "nvidia-h100" in only_finding(allow(token, props)).message
    assert "12 in all" in only_finding(cap(token, props)).message
    assert (allow(token, props, "nvidia-h100"), cap(token, props, 12)) == ([], [])
    on_cpu = {"accelerator": "cpu", "acceleratorsPerCopy": 0, "maxReplicas": 100}
    assert (allow(token, on_cpu), cap(token, on_cpu, 0)) == ([], [])
    unknown = {"accelerator": UNKNOWN_STRING, "acceleratorsPerCopy": UNKNOWN_NUMBER}
    assert "accelerator is not known" in only_finding(allow(token, unknown)).message
    assert "acceleratorsPerCopy is not known" in only_finding(cap(token, unknown)).message


@pytest.mark.parametrize("value", [-1, 1.5, "8", True])
def test_a_limit_that_is_no_whole_number_blocks_instead_of_being_ignored(value: object) -> None:
    finding = only_finding(judge(GPU_MAX_PER_POOL, DEPLOYMENT, deployment(pod()), maxGpusPerPool=value))
    assert finding.message.startswith("The configuration of gpu-max-per-pool is wrong: maxGpusPerPool is ")


def test_a_wrong_configuration_is_not_reported_on_resources_without_pods() -> None:
    for config in ({"maxGpuPerPool": 1}, {"maxGpusPerPool": "8"}):
        verdict = judge(GPU_MAX_PER_POOL, "kubernetes:core/v1:Service", {}, **config)
        assert isinstance(verdict, NotApplicable)


@pytest.mark.parametrize("value", ["nvidia-l4", [1]])
def test_an_allow_list_that_is_no_list_of_names_blocks(value: object) -> None:
    verdict = judge(GPU_INSTANCE_ALLOWLIST, DEPLOYMENT, deployment(pod()), allowedAccelerators=value)
    assert "wrong: allowedAccelerators" in only_finding(verdict).message


def test_a_misspelt_key_is_named_with_the_allowed_ones() -> None:
    finding = only_finding(judge(GPU_MAX_PER_POOL, DEPLOYMENT, deployment(pod()), maxGpuPerPool=100))
    assert "unknown keys: maxGpuPerPool. Allowed: maxGpusPerPool." in finding.message
