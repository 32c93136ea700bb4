"""What is rendered for KubeRay and Ray Serve LLM, one test for each trap that it must not fall into."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from runtime.model import ModelSpec, NodeToleration, Replicas
from runtime.serving.ray_service import (
    ExternalScaling,
    RayRuntime,
    deployment_name,
    ray_service_spec,
    serve_arguments,
)

RAY = RayRuntime(version="2.60.0", image="registry/ray-llm:2.60.0", auth_secret="llm-ray-auth")


def model(**changes: Any) -> ModelSpec:
    base: dict[str, Any] = {
        "name": "llama",
        "source": {"path": "/models/llama"},
        "accelerator": "nvidia-h100",
        "replicas": {"min": 1, "max": 4},
    }
    return ModelSpec.model_validate({**base, **changes})


def rendered(spec: ModelSpec) -> dict[str, Any]:
    return dict(ray_service_spec(spec, RAY))


def cluster(spec: ModelSpec) -> dict[str, Any]:
    return rendered(spec)["rayClusterConfig"]


def worker_group(spec: ModelSpec) -> dict[str, Any]:
    return cluster(spec)["workerGroupSpecs"][0]


def worker(spec: ModelSpec) -> dict[str, Any]:
    return worker_group(spec)["template"]["spec"]["containers"][0]


def serve(spec: ModelSpec) -> dict[str, Any]:
    return yaml.safe_load(rendered(spec)["serveConfigV2"])


def llm(spec: ModelSpec) -> dict[str, Any]:
    return serve(spec)["applications"][0]["args"]["llm_configs"][0]


def pod_templates(spec: ModelSpec) -> list[dict[str, Any]]:
    return [cluster(spec)["headGroupSpec"]["template"], worker_group(spec)["template"]]


def test_target_ongoing_requests_is_written_out_because_the_default_of_1e9_never_scales() -> None:
    arguments = serve(model(maxSequences=40))["applications"][0]["args"]
    deployment = arguments["llm_configs"][0]["deployment_config"]
    assert deployment["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 30,
    }
    ingress = arguments["ingress_deployment_config"]["autoscaling_config"]
    assert ingress["target_ongoing_requests"] == 160


def test_target_ongoing_requests_of_the_stack_file_wins() -> None:
    assert (
        llm(model(targetOngoingRequests=7))["deployment_config"]["autoscaling_config"][
            "target_ongoing_requests"
        ]
        == 7
    )


def test_queues_are_bounded() -> None:
    deployment = llm(model(maxSequences=8, maxQueuedRequests=3))["deployment_config"]
    assert (deployment["max_ongoing_requests"], deployment["max_queued_requests"]) == (8, 3)


def test_the_autoscaler_is_v2_in_writing_because_unset_means_v1_to_kuberay() -> None:
    spec = cluster(model())
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"


def test_a_fixed_number_of_replicas_runs_no_autoscaler() -> None:
    spec = cluster(model(replicas={"min": 2, "max": 2}))
    assert spec["enableInTreeAutoscaling"] is False
    assert "autoscalerOptions" not in spec


def test_only_a_head_with_an_autoscaler_gets_an_api_token() -> None:
    def mounts_token(spec: ModelSpec) -> list[bool]:
        return [template["spec"]["automountServiceAccountToken"] for template in pod_templates(spec)]

    assert mounts_token(model()) == [True, False]
    assert mounts_token(model(replicas={"min": 1, "max": 1})) == [False, False]


def test_token_authentication_is_written_out_with_its_secret() -> None:
    assert cluster(model())["authOptions"] == {"mode": "token", "secretName": "llm-ray-auth"}


def test_ray_version_is_always_set_because_it_drives_the_operators_probes() -> None:
    assert cluster(model())["rayVersion"] == "2.60.0"


def test_a_ray_version_without_a_tested_vllm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Ray 2\.55\.1 has no tested vLLM; allowed: 2\.60\.0"):
        RayRuntime(version="2.55.1", image="x:2.55.1", auth_secret="a")


def test_an_edit_of_min_or_max_replicas_changes_the_pods_because_kuberay_would_ignore_it() -> None:
    def pods(spec: ModelSpec) -> object:
        return worker_group(spec)["template"]

    before = model(replicas={"min": 1, "max": 2})
    for after in (model(replicas={"min": 1, "max": 3}), model(replicas={"min": 2, "max": 2})):
        assert pods(before) != pods(after)
    assert pods(before) == pods(model(replicas={"min": 1, "max": 2}))


def test_replicas_is_never_written_because_the_autoscaler_owns_it() -> None:
    assert "replicas" not in worker_group(model())


def test_the_head_runs_no_replicas_and_is_not_evicted() -> None:
    head = cluster(model())["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    annotations = head["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_a_proxy_runs_on_every_node_because_workers_without_one_never_get_ready() -> None:
    assert serve(model())["proxy_location"] == "EveryNode"


def test_a_group_tells_the_autoscaler_its_accelerator_type_so_that_it_can_start_from_zero() -> None:
    group = worker_group(model(tensorParallel=4, replicas={"min": 0, "max": 2}))
    assert group["minReplicas"] == 0
    assert group["resources"] == {"CPU": "8", "GPU": "4", "accelerator_type:H100": "1"}


@pytest.mark.parametrize(
    ("cpu", "tensor_parallel", "booked"), [("2", 1, "3"), ("500m", 1, "3"), ("8", 8, "10"), ("64", 8, "64")]
)
def test_ray_books_a_cpu_for_every_actor_because_one_too_few_waits_for_ever(
    cpu: str, tensor_parallel: int, booked: str
) -> None:
    spec = model(tensorParallel=tensor_parallel, worker={"cpu": cpu, "memory": "64Gi"})
    assert worker_group(spec)["resources"]["CPU"] == booked


def test_gpu_pods_ask_for_whole_devices_on_nodes_of_that_product() -> None:
    spec = model(tensorParallel=8)
    resources = worker(spec)["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "8"
    pod = worker_group(spec)["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("accelerator", "resource", "ray_type"),
    [
        ("amd-mi300x", "amd.com/gpu", "AMD-Instinct-MI300X-OAM"),
        ("intel-max-1550", "gpu.intel.com/i915", "Intel-GPU-Max-1550"),
    ],
)
def test_other_vendors_gpus_are_written_out_for_ray_because_kuberay_does_not_count_them_all(
    accelerator: str, resource: str, ray_type: str
) -> None:
    spec = model(accelerator=accelerator, tensorParallel=2, pipelineParallel=2, image="registry/ray-rocm:1")
    assert worker(spec)["resources"]["limits"][resource] == "2"
    assert worker_group(spec)["resources"]["GPU"] == "2"
    assert worker_group(spec)["resources"][f"accelerator_type:{ray_type}"] == "1"
    assert worker_group(spec)["rayStartParams"] == {}
    assert llm(spec)["accelerator_type"] == ray_type
    assert llm(spec)["placement_group_config"]["bundle_per_worker"] == {"CPU": 1, "GPU": 1}
    assert worker_group(spec)["numOfHosts"] * 2 == spec.accelerators_per_copy


def test_a_level_zero_device_is_a_card_so_that_ray_and_kubernetes_count_alike() -> None:
    spec = model(accelerator="intel-max-1550", image="registry/ray-xpu:1")
    assert {"name": "ZE_FLAT_DEVICE_HIERARCHY", "value": "COMPOSITE"} in worker(spec)["env"]


def test_an_image_of_the_models_own_is_on_head_and_workers_because_ray_must_be_the_same_on_both() -> None:
    spec = model(image="registry/other:1")
    images = [template["spec"]["containers"][0]["image"] for template in pod_templates(spec)]
    assert images == ["registry/other:1", "registry/other:1"]


def test_a_models_own_labels_and_taints_stand_beside_those_of_the_hardware_and_win() -> None:
    pod = worker_group(
        model(
            nodeSelector={"pool": "a", "nvidia.com/gpu.product": "NVIDIA-H100-PCIe"},
            tolerations=({"key": "team", "operator": "Equal", "value": "llm"},),
        )
    )["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "a", "nvidia.com/gpu.product": "NVIDIA-H100-PCIe"}
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "llm", "effect": "NoSchedule"},
    ]


def test_heads_go_to_the_nodes_that_are_named_for_them() -> None:
    ray = replace(
        RAY, head_node_selector={"pool": "cpu"}, head_tolerations=(NodeToleration(key="dedicated"),)
    )
    spec: Any = ray_service_spec(model(), ray)
    pod = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]
    assert "nodeSelector" not in pod_templates(model())[0]["spec"]


def test_pipeline_parallel_spreads_one_copy_over_that_many_hosts() -> None:
    spec = model(tensorParallel=8, pipelineParallel=2)
    assert worker_group(spec)["numOfHosts"] == 2
    assert llm(spec)["engine_kwargs"]["pipeline_parallel_size"] == 2


def test_cpu_models_use_cpu_bundles_and_no_extended_resource() -> None:
    spec = model(accelerator="cpu", replicas={"min": 1, "max": 1})
    assert llm(spec)["accelerator_config"] == {"kind": "cpu"}
    assert llm(spec)["placement_group_config"] == {"bundles": [{"CPU": 1}]}
    assert set(worker(spec)["resources"]["limits"]) == {"cpu", "memory"}
    assert "accelerator_type" not in llm(spec)


def test_every_pod_fits_restricted_pod_security() -> None:
    for template in pod_templates(model()):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_path_in_the_image_never_asks_the_hub() -> None:
    spec = model()
    assert llm(spec)["model_loading_config"]["model_source"] == "/models/llama"
    assert llm(spec)["runtime_env"]["env_vars"]["HF_HUB_OFFLINE"] == "1"


def test_a_hugging_face_model_keeps_its_revision_and_may_ask_the_hub() -> None:
    spec = model(source={"huggingFace": "Qwen/Qwen3-8B", "revision": "abc"}, huggingFaceTokenSecret="hub")
    assert llm(spec)["model_loading_config"]["model_source"] == "Qwen/Qwen3-8B"
    assert llm(spec)["engine_kwargs"]["revision"] == "abc"
    assert "HF_HUB_OFFLINE" not in llm(spec)["runtime_env"]["env_vars"]
    assert {"name": "HF_TOKEN_PATH", "value": "/run/spillway/hub/token"} in worker(spec)["env"]
    assert {"name": "hub-token", "mountPath": "/run/spillway/hub", "readOnly": True} in worker(spec)[
        "volumeMounts"
    ]
    assert {
        "name": "hub-token",
        "secret": {"secretName": "hub", "items": [{"key": "token", "path": "token"}]},
    } in worker_group(spec)["template"]["spec"]["volumes"]


def test_a_volume_is_mounted_read_only_and_the_path_is_inside_it() -> None:
    spec = model(source={"volumeClaim": "weights", "path": "/qwen3"})
    assert llm(spec)["model_loading_config"]["model_source"] == "/models/volume/qwen3"
    assert worker(spec)["volumeMounts"] == [
        {"name": "model", "mountPath": "/models/volume", "readOnly": True}
    ]
    assert worker_group(spec)["template"]["spec"]["volumes"] == [
        {"name": "model", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}
    ]


def test_a_changed_cluster_changes_the_serve_config_so_that_a_check_can_tell_the_clusters_apart() -> None:
    before, after = model(), model(worker={"cpu": "8", "memory": "65Gi"})
    assert llm(before)["engine_kwargs"] == llm(after)["engine_kwargs"]
    assert rendered(before)["serveConfigV2"] != rendered(after)["serveConfigV2"]


def test_without_upgrades_a_changed_cluster_leaves_the_serve_config_alone() -> None:
    before = model(upgrade="None")
    after = model(upgrade="None", worker={"cpu": "8", "memory": "65Gi"})
    assert rendered(before)["serveConfigV2"] == rendered(after)["serveConfigV2"]


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert rendered(model()) == rendered(model())


def test_devices_at_most_count_every_copy_and_every_host() -> None:
    spec = model(tensorParallel=8, pipelineParallel=2, replicas={"min": 0, "max": 3})
    assert spec.max_accelerators == 48
    assert model(accelerator="cpu", replicas={"min": 1, "max": 9}).max_accelerators == 0


def test_replicas_default_to_one() -> None:
    assert (Replicas().min, Replicas().max) == (1, 1)


def test_the_arguments_that_are_checked_are_those_in_the_text_that_the_operator_gets() -> None:
    (application,) = yaml.safe_load(rendered(model())["serveConfigV2"])["applications"]
    assert serve_arguments(model(), RAY) == application["args"]


BURST = replace(RAY, external=ExternalScaling(ingress_pods=2, drain_s=300, idle_s=240))


def burst_model(**changes: Any) -> ModelSpec:
    found = model(spill={"maxReplicas": 3}, **changes).in_cloud
    assert found is not None
    return found


def burst(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The application and the RayCluster of a model that the burst controller scales."""
    found: dict[str, Any] = dict(ray_service_spec(spec, BURST))
    (application,) = yaml.safe_load(found["serveConfigV2"])["applications"]
    return application, found["rayClusterConfig"]


def test_a_model_that_is_scaled_from_outside_begins_with_no_copy_and_serve_scales_nothing() -> None:
    application, _ = burst(burst_model())
    assert application["external_scaler_enabled"] is True
    assert "autoscaling_config" not in str(application)
    # The text, because Ray refuses the number.
    assert application["args"]["llm_configs"][0]["deployment_config"]["num_replicas"] == "0"


def test_its_queue_is_bounded_and_a_copy_that_goes_ends_its_requests() -> None:
    application, _ = burst(burst_model(maxSequences=8, maxQueuedRequests=3))
    options = application["args"]["llm_configs"][0]["deployment_config"]
    assert (options["max_ongoing_requests"], options["max_queued_requests"]) == (8, 3)
    assert options["graceful_shutdown_timeout_s"] == 300


def test_the_ingress_takes_all_that_the_copies_and_their_queue_hold() -> None:
    application, _ = burst(burst_model(maxSequences=8, maxQueuedRequests=3))
    ingress = application["args"]["ingress_deployment_config"]
    assert ingress["num_replicas"] * ingress["max_ongoing_requests"] >= 3 * 8 + 3


def test_only_the_ingress_pods_can_hold_the_ingress() -> None:
    application, cluster = burst(burst_model())
    asked = application["args"]["ingress_deployment_config"]["ray_actor_options"]["resources"]
    workers, ingress = cluster["workerGroupSpecs"]
    assert set(asked) <= set(ingress["resources"])
    assert not set(asked) & set(workers["resources"])
    assert (ingress["minReplicas"], ingress["maxReplicas"]) == (2, 2)
    assert "nvidia.com/gpu" not in str(ingress)


def test_gpu_workers_begin_at_none_and_the_autoscaler_knows_what_they_would_have() -> None:
    _, cluster = burst(burst_model(tensorParallel=2))
    workers, _ = cluster["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 3)
    assert {"GPU": "2", "accelerator_type:H100": "1"}.items() <= workers["resources"].items()
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] == 240


def test_a_model_that_the_burst_does_not_scale_has_no_ingress_group() -> None:
    assert len(cluster(model())["workerGroupSpecs"]) == 1


def test_the_deployment_has_the_name_that_ray_gives_it() -> None:
    assert deployment_name(model(servedName="Qwen/Qwen2.5-7B")) == "LLMServer:Qwen--Qwen2_5-7B"


def test_a_queue_of_none_is_one_because_ray_takes_no_0() -> None:
    assert llm(model(maxQueuedRequests=0))["deployment_config"]["max_queued_requests"] == 1
