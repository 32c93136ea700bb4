"""The stand-in for Ray on simulated nodes: what it accepts, and what it says can be placed."""

from typing import Any

import pytest
import yaml

from rehearsal.site.simulated_ray import (
    DEPLOYING_S,
    ConfigError,
    Deployed,
    RayNode,
    applications,
    bundles,
    check_config,
    is_running,
    model_ids,
    placed,
    ray_nodes,
    started_with,
    unplaced,
)
from runtime.model import ModelSpec
from runtime.serving.ray_service import RayRuntime, ray_service_spec

RAY = RayRuntime(version="2.60.0", image="registry/ray-llm:2.60.0", auth_secret="llm-ray-auth")


def rendered(**changes: Any) -> dict[str, Any]:
    """The Serve config of a model, as the product renders it."""
    fields: dict[str, Any] = {"name": "llama", "source": {"path": "/m"}, "accelerator": "nvidia-h100"}
    spec = ray_service_spec(ModelSpec.model_validate({**fields, **changes}), RAY)
    return yaml.safe_load(str(spec["serveConfigV2"]))


def worker(cpus: float = 8, gpus: float = 1, kind: str = "H100") -> RayNode:
    return RayNode("worker", {"CPU": cpus, "GPU": gpus, f"accelerator_type:{kind}": 1.0})


def ray_start(arguments: str) -> dict[str, Any]:
    return {"command": ["/bin/bash", "-c", "--"], "args": [f"ulimit -n 65536; ray start {arguments} "]}


def pod(name: str, arguments: str, *, ready: bool = True, deleted: bool = False) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    metadata = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    return {
        "metadata": metadata,
        "spec": {"containers": [ray_start(arguments)]},
        "status": {"conditions": [condition]},
    }


def test_a_node_has_what_ray_start_was_told_and_nothing_else() -> None:
    told = (
        """--num-cpus=8 --num-gpus=4 --resources='{"accelerator_type:H100":1}' --metrics-export-port=8080"""
    )
    assert started_with(ray_start(told)) == {"CPU": 8.0, "GPU": 4.0, "accelerator_type:H100": 1.0}
    assert started_with(ray_start("--num-cpus=8")) == {"CPU": 8.0}


def test_resources_in_a_quoted_string_of_json_are_read_too() -> None:
    assert started_with(ray_start("""--resources='"{\\"HPU\\": 8}"'""")) == {"HPU": 8.0}


def test_only_ready_pods_that_stay_are_nodes() -> None:
    pods = [pod("a", "--num-cpus=1"), pod("b", "", ready=False), pod("c", "", deleted=True)]
    assert [node.name for node in ray_nodes(pods)] == ["a"]


def test_each_device_of_a_copy_is_a_bundle_and_the_replica_shares_the_first() -> None:
    config = rendered(tensorParallel=2, pipelineParallel=2)
    (llm,) = config["applications"][0]["args"]["llm_configs"]
    first, *others = bundles(llm)
    assert first == {"CPU": 2.0, "GPU": 1.0, "accelerator_type:H100": 0.001}
    assert others == [{"CPU": 1.0, "GPU": 1.0, "accelerator_type:H100": 0.001}] * 3


def test_what_the_product_renders_is_placed_on_the_pods_that_it_renders() -> None:
    assert unplaced(rendered(tensorParallel=4), [worker(cpus=6, gpus=4)]) is None


@pytest.mark.parametrize(
    ("node", "lacks"),
    [
        (RayNode("w", {"CPU": 8.0}), "GPU"),
        (worker(kind="A100"), "accelerator_type:H100"),
        (worker(cpus=1), "CPU"),
    ],
)
def test_a_device_that_ray_was_not_told_of_leaves_the_model_unplaced(node: RayNode, lacks: str) -> None:
    said = unplaced(rendered(), [node])
    assert said is not None
    assert lacks in said
    assert "cannot be scheduled" in said


def test_two_copies_do_not_share_a_device() -> None:
    config = rendered(replicas={"min": 2, "max": 2})
    assert unplaced(config, [worker()]) is not None
    assert unplaced(config, [worker(), worker()]) is None


def test_a_model_with_no_copy_at_its_least_needs_only_its_ingress() -> None:
    assert unplaced(rendered(replicas={"min": 0, "max": 2}), [RayNode("head", {"CPU": 1.0})]) is None


def test_an_application_deploys_before_it_runs() -> None:
    deployed = Deployed(rendered(), since=100.0)
    (early,) = applications(deployed, [worker()], 100.5)["applications"].values()
    (late,) = applications(deployed, [worker()], 100.0 + DEPLOYING_S)["applications"].values()
    assert (early["status"], late["status"]) == ("DEPLOYING", "RUNNING")
    assert {one["status"] for one in late["deployments"].values()} == {"HEALTHY"}
    assert late["deployed_app_config"] == deployed.config["applications"][0]


def test_an_application_that_fits_nowhere_never_runs_and_says_why() -> None:
    deployed = Deployed(rendered(), since=0.0)
    (found,) = applications(deployed, [], 1e6)["applications"].values()
    assert found["status"] == "DEPLOYING"
    assert "fits on none" in found["message"]
    assert not is_running(deployed, [], 1e6)


def test_a_head_without_a_config_has_no_applications() -> None:
    assert applications(None, [worker()], 0.0) == {"applications": {}}
    assert not is_running(None, [worker()], 0.0)


def test_the_models_of_a_config_are_those_that_clients_name() -> None:
    assert model_ids(rendered(servedName="meta/Llama")) == ["meta/Llama"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"applications": []}, "no applications"),
        ({"surprise": 1}, "unknown fields"),
        ({"applications": [{"import_path": "my.app:build"}]}, "only ray.serve.llm:build_openai_app"),
    ],
)
def test_a_config_that_it_does_not_know_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_config({**rendered(), **change})


def test_what_the_product_renders_is_accepted() -> None:
    check_config(rendered())


def external(**options: Any) -> dict[str, Any]:
    application = rendered()["applications"][0]
    application["external_scaler_enabled"] = True
    application["args"]["llm_configs"][0]["deployment_config"] = {"num_replicas": "0", **options}
    application["args"]["ingress_deployment_config"] = {"num_replicas": 1}
    return {"applications": [application]}


def test_a_number_from_outside_and_a_number_from_serve_do_not_go_together() -> None:
    check_config(external())
    with pytest.raises(ConfigError, match="not allowed when autoscaling_config"):
        check_config(external(autoscaling_config={"min_replicas": 0}))
    config = external()
    del config["applications"][0]["args"]["ingress_deployment_config"]["num_replicas"]
    with pytest.raises(ConfigError, match="Serve would scale it as well"):
        check_config(config)


def test_the_number_0_is_refused_and_the_text_0_is_not_as_in_ray() -> None:
    with pytest.raises(ConfigError, match="expected to larger than 0"):
        check_config(external(num_replicas=0))


def test_a_queue_of_0_is_refused_as_by_ray() -> None:
    with pytest.raises(ConfigError, match="max_queued_requests"):
        check_config(external(max_queued_requests=0))


def test_an_ingress_with_a_resource_of_its_own_fits_no_other_node() -> None:
    config = external()
    options = {
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0.5, "resources": {"spillway_ingress": 1}},
    }
    config["applications"][0]["args"]["ingress_deployment_config"] = options
    assert unplaced(config, [worker()]) is not None
    assert unplaced(config, [RayNode("ingress", {"CPU": 1.0, "spillway_ingress": 1.0})]) is None


def test_a_copy_of_which_one_bundle_finds_no_room_takes_none() -> None:
    config = rendered(tensorParallel=2, replicas={"min": 2, "max": 2})
    deployed = Deployed(config, since=0.0)
    nodes = [worker(cpus=9, gpus=3)]
    assert [one.node is not None for one in placed(deployed, nodes)["LLMServer:llama"]] == [True, False]
