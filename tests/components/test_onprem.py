"""What the on-prem scenario declares, run against a mock engine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks import onprem
from stacks.cluster import connect
from stacks.settings import PlatformSettings, SettingsError, parse
from tests.support.stack_files import platform_object, platform_settings
from tests.support.synth import Synthesized, generated, synth

pytestmark = pytest.mark.usefixtures("kubeconfig")

RAY_SERVICE = "kubernetes:ray.io/v1:RayService"
SECRET = "kubernetes:core/v1:Secret"
NO_OTHER_ACCELERATORS = {
    "requests.amd.com/gpu": "0",
    "requests.gpu.intel.com/i915": "0",
    "requests.habana.ai/gaudi": "0",
}


_MADE: dict[str, Synthesized] = {}


def declared(settings: PlatformSettings) -> Synthesized:
    """Several tests look at one variant; none of them changes it."""
    variant = settings.model_dump_json()
    if variant not in _MADE:
        _MADE[variant] = synth(lambda: onprem.deploy(settings).export())
    return _MADE[variant]


def changed(stack: str, **changes: Any) -> PlatformSettings:
    return parse({**platform_object(stack), **changes})


@pytest.fixture
def local() -> Synthesized:
    return declared(platform_settings("local"))


def test_one_ray_service_per_model_is_waited_for_until_it_serves(local: Synthesized) -> None:
    service = local.one(RAY_SERVICE)
    annotations = service.inputs["metadata"]["annotations"]
    assert annotations["pulumi.com/waitFor"] == (
        '["condition=Ready", "jsonpath={.status.numServeEndpoints}"]'
    )
    assert annotations["pulumi.com/timeoutSeconds"] == "900"
    assert service.custom_timeouts["create"] == service.custom_timeouts["update"] == "900s"


def test_ray_services_are_deleted_in_the_background_because_foreground_stalls_the_finalizer(
    local: Synthesized,
) -> None:
    annotations = local.one(RAY_SERVICE).inputs["metadata"]["annotations"]
    assert annotations["pulumi.com/deletionPropagationPolicy"] == "background"


def test_models_depend_on_the_operator_so_that_a_destroy_keeps_it_until_their_finalizers_are_done(
    local: Synthesized,
) -> None:
    component = local.one("spillway:kubernetes:ModelService")
    assert local.one(RAY_SERVICE).parent == component.name
    assert local.one("kubernetes:helm.sh/v3:Release").name in component.depends_on


def test_no_custom_resource_definition_is_a_resource_because_the_engine_logs_every_byte_of_it(
    local: Synthesized,
) -> None:
    assert not [resource for resource in local.resources if "CustomResourceDefinition" in resource.type]
    assert not [resource for resource in local.resources if "yaml" in resource.type]


def test_an_existing_operator_is_used_and_not_installed() -> None:
    result = declared(changed("local", kuberay={"install": "existing"}))
    assert not result.of("kubernetes:helm.sh/v3:Release")
    assert result.of(RAY_SERVICE)


def test_a_chart_path_is_taken_from_the_project_and_a_repository_by_name() -> None:
    by_path = declared(platform_settings("local")).one("kubernetes:helm.sh/v3:Release").inputs
    assert (Path("stacks") / by_path["chart"]).resolve() == Path(
        "rehearsal/charts/kuberay-operator"
    ).resolve()
    assert "repositoryOpts" not in by_path
    by_name = declared(platform_settings("onprem")).one("kubernetes:helm.sh/v3:Release").inputs
    assert by_name["chart"] == "kuberay-operator"
    assert by_name["repositoryOpts"]["repo"].startswith("https://")
    assert by_name["version"] == "1.6.2"


def test_the_namespace_enforces_restricted_pod_security(local: Synthesized) -> None:
    for name in ("llm", "kuberay-namespace"):
        labels = local.one("kubernetes:core/v1:Namespace", name).inputs["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_network_policies_deny_by_default_and_open_only_named_ports(local: Synthesized) -> None:
    policies = {
        policy.inputs["metadata"]["name"]: policy.inputs["spec"]
        for policy in local.of("kubernetes:networking.k8s.io/v1:NetworkPolicy")
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(policies) == {
        "default-deny",
        "allow-dns",
        "allow-gateway",
        "allow-serving-check",
        "allow-model-tiny",
    }
    ingress = policies["allow-model-tiny"]["ingress"]
    assert [sorted(port["port"] for port in rule.get("ports", [])) for rule in ingress] == [
        [],
        [8000],
        [8265],
        [8000, 8265],
    ]
    assert policies["allow-model-tiny"]["egress"] == [
        {"to": [{"podSelector": {"matchLabels": _model("tiny")}}]}
    ]


def test_a_hugging_face_model_may_reach_the_hub_and_an_autoscaler_the_api_server() -> None:
    result = declared(platform_settings("onprem"))
    spec = result.one("kubernetes:networking.k8s.io/v1:NetworkPolicy", "llm-allow-model-qwen3-8b").inputs[
        "spec"
    ]
    ports = [sorted(port["port"] for port in rule.get("ports", [])) for rule in spec["egress"]]
    assert ports == [[], [443], [443, 6443]]


def test_the_quota_holds_what_the_models_may_use_and_an_upgrades_surge() -> None:
    onprem_quota = declared(platform_settings("onprem")).one("kubernetes:core/v1:ResourceQuota")
    assert onprem_quota.inputs["spec"]["hard"] == {
        "pods": "200",
        "requests.nvidia.com/gpu": "4",
        **NO_OTHER_ACCELERATORS,
    }
    local = declared(platform_settings("local")).one("kubernetes:core/v1:ResourceQuota")
    assert local.inputs["spec"]["hard"]["requests.nvidia.com/gpu"] == "0"
    limited = declared(changed("onprem", quota={"cpu": "64", "memory": "256Gi", "accelerators": 5}))
    assert limited.one("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"] == {
        "pods": "200",
        "limits.cpu": "64",
        "limits.memory": "256Gi",
        "requests.nvidia.com/gpu": "5",
        **NO_OTHER_ACCELERATORS,
    }


def test_api_keys_are_in_secrets_and_nowhere_else(local: Synthesized) -> None:
    key = "sk-" + generated("llm-gateway-key-default", 40)
    for resource in local.resources:
        if resource.type != SECRET:
            assert key not in str(resource.inputs), resource
    data = local.one(SECRET, "llm-gateway-api-keys").inputs["stringData"]
    assert _plain(data) == {"default": key}
    assert key in str(local.one(SECRET, "llm-gateway-envoy-keys").inputs)


def test_each_client_gets_a_key_of_its_own() -> None:
    result = declared(
        changed("local", gateway={**platform_object("local")["gateway"], "clients": ["a", "b"]})
    )
    data = _plain(result.one(SECRET, "llm-gateway-api-keys").inputs["stringData"])
    assert sorted(data) == ["a", "b"]


def test_the_gateway_routes_every_model_to_the_service_that_kuberay_makes(local: Synthesized) -> None:
    files = local.one("kubernetes:core/v1:ConfigMap", "llm-gateway-config").inputs["data"]
    clusters = yaml.safe_load(files["clusters.yaml"])
    assert "tiny-serve-svc.llm.svc.cluster.local" in str(clusters)
    assert "spillway-tiny" in str(clusters)


def test_the_gateway_runs_under_restricted_pod_security_with_a_read_only_root(local: Synthesized) -> None:
    pod = local.one("kubernetes:apps/v1:Deployment").inputs["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    security = pod["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_up_ends_with_a_check_that_a_changed_model_runs_again() -> None:
    def job(settings: PlatformSettings) -> str:
        return declared(settings).one("kubernetes:batch/v1:Job").inputs["metadata"]["name"]

    model = platform_object("local")["models"][0]
    before = job(platform_settings("local"))
    assert before == job(platform_settings("local"))
    assert before != job(changed("local", models=[{**model, "maxSequences": 7}]))


def test_a_changed_gateway_is_checked_again_and_a_new_bootstrap_gets_new_pods() -> None:
    def job_and_pods(settings: PlatformSettings) -> tuple[str, str]:
        result = declared(settings)
        pods = result.one("kubernetes:apps/v1:Deployment").inputs["spec"]["template"]["metadata"]
        return result.one("kubernetes:batch/v1:Job").inputs["metadata"]["name"], str(pods)

    gateway = platform_object("local")["gateway"]
    job, pods = job_and_pods(platform_settings("local"))
    smaller = job_and_pods(changed("local", gateway={**gateway, "maxRequestBytes": 4096}))
    assert smaller[0] != job
    assert smaller[1] == pods, "Envoy follows its routes and listeners without new pods"
    assert "spillway.dev/envoy-bootstrap" in pods


def test_the_check_runs_in_the_models_image_unless_one_is_named_for_it() -> None:
    def image_and_name(settings: PlatformSettings) -> tuple[str, str]:
        job = declared(settings).one("kubernetes:batch/v1:Job").inputs
        [container] = job["spec"]["template"]["spec"]["containers"]
        return container["image"], job["metadata"]["name"]

    image, name = image_and_name(platform_settings("local"))
    assert image == platform_settings("local").ray.image
    own = f"registry.example.com/spillway-serving-check@sha256:{'0' * 64}"
    named, another_name = image_and_name(changed("local", checkImage=own))
    assert named == own
    assert another_name != name, "a Job's template cannot be changed in place"


@pytest.mark.parametrize("chart", ["/opt/charts/kuberay", "oci://registry.example/kuberay"])
def test_an_absolute_chart_is_taken_as_it_is(chart: str) -> None:
    kuberay = {**platform_object("local")["kuberay"], "chart": chart}
    release = declared(changed("local", kuberay=kuberay)).one("kubernetes:helm.sh/v3:Release")
    assert release.inputs["chart"] == chart


def test_the_check_waits_for_the_model_and_the_gateway(local: Synthesized) -> None:
    needs = local.one("spillway:kubernetes:ServingCheck").depends_on
    assert "tiny" in needs
    assert "llm-gateway-service" in needs


def test_a_model_waits_for_its_own_network_policy_and_not_for_those_of_the_others() -> None:
    (model,) = platform_object("local")["models"]
    models = [{**model, "name": name, "servedName": name} for name in ("one", "two")]
    service = declared(changed("local", models=models)).one("spillway:kubernetes:ModelService", "one")
    assert "llm-allow-model-one" in service.depends_on
    assert "llm-allow-model-two" not in service.depends_on


def test_a_host_folder_becomes_a_read_only_volume_and_claim() -> None:
    model = platform_object("local")["models"][0]
    model.update(source={"hostFolder": "/data/llama"}, engineArguments={})
    result = declared(changed("local", models=[model]))
    volume = result.one("kubernetes:core/v1:PersistentVolume").inputs["spec"]
    assert volume["hostPath"] == {"path": "/data/llama", "type": "Directory"}
    assert volume["accessModes"] == ["ReadOnlyMany"]
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    claim = result.one("kubernetes:core/v1:PersistentVolumeClaim").inputs
    assert claim["metadata"]["name"] == volume["claimRef"]["name"] == "tiny-weights"


@pytest.fixture
def gaudi() -> Synthesized:
    model = {
        "name": "llama",
        "source": {"huggingFace": "meta-llama/Llama-3.1-8B"},
        "accelerator": "intel-gaudi3",
        "image": "registry.example/vllm-gaudi:0.29.0",
    }
    return declared(changed("onprem", models=[*platform_object("onprem")["models"], model]))


def test_a_plain_model_is_a_deployment_with_service_and_budget_beside_ray_models(gaudi: Synthesized) -> None:
    deployment = gaudi.one("kubernetes:apps/v1:Deployment", "llama")
    assert deployment.parent == gaudi.one("spillway:kubernetes:PlainVLLM").name
    assert deployment.custom_timeouts["create"] == "7200s"
    pod = deployment.inputs["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/vllm-gaudi:0.29.0"
    service = gaudi.one("kubernetes:core/v1:Service", "llama-service").inputs
    assert service["metadata"]["name"] == "llama-vllm"
    assert service["spec"]["selector"] == deployment.inputs["spec"]["selector"]["matchLabels"]
    budget = gaudi.one("kubernetes:policy/v1:PodDisruptionBudget").inputs["spec"]
    assert budget["selector"]["matchLabels"] == service["spec"]["selector"]
    assert gaudi.one(RAY_SERVICE).name == "qwen3-8b"


def test_a_plain_model_does_not_wait_for_the_operator_and_the_gateway_finds_it(gaudi: Synthesized) -> None:
    needs = gaudi.one("spillway:kubernetes:PlainVLLM").depends_on
    assert gaudi.one("kubernetes:helm.sh/v3:Release").name not in needs
    clusters = gaudi.one("kubernetes:core/v1:ConfigMap", "llm-gateway-config").inputs["data"]["clusters.yaml"]
    assert "llama-vllm.llm.svc.cluster.local" in clusters
    assert "qwen3-8b-serve-svc.llm.svc.cluster.local" in clusters


def test_only_gateway_and_check_reach_a_plain_model(gaudi: Synthesized) -> None:
    policy = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    spec = gaudi.one(policy, "llm-allow-model-llama").inputs["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["ingress"]] == [[8000], [8000]]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[443]]
    check = gaudi.one(policy, "llm-allow-serving-check").inputs["spec"]["egress"][1]
    assert [port["port"] for port in check["ports"]] == [8000, 8265]


def test_the_check_of_a_plain_model_asks_vllm_and_knows_no_token_of_ray(gaudi: Synthesized) -> None:
    pod = gaudi.one("kubernetes:batch/v1:Job", "llama-check").inputs["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert environment["MODEL_URL"] == "http://llama-vllm.llm.svc:8000"
    assert environment["CONTEXT_LENGTH"] == "4096"
    assert not {"RAY_AUTH_TOKEN_FILE", "DASHBOARD_URL"} & set(environment)
    assert pod["containers"][0]["image"] == "registry.example/vllm-gaudi:0.29.0"


def test_the_quota_holds_a_plain_models_copies_and_one_for_its_upgrade(gaudi: Synthesized) -> None:
    hard = gaudi.one("kubernetes:core/v1:ResourceQuota").inputs["spec"]["hard"]
    assert hard["requests.habana.ai/gaudi"] == "2"
    assert hard["requests.nvidia.com/gpu"] == "4"


def test_outputs_are_the_contract_and_keys_are_secret(local: Synthesized) -> None:
    assert set(local.outputs) == {
        "endpoint",
        "model",
        "models",
        "apiKey",
        "apiKeys",
        "apiKeySecret",
        "namespace",
    }
    assert local.outputs["endpoint"] == "http://localhost:12345"
    assert local.outputs["models"] == ["spillway-tiny"]
    for name in ("apiKey", "apiKeys"):
        assert "4dabf18193072939515e22adb298388d" in local.outputs[name], f"{name} is not secret"


def test_without_a_load_balancer_the_endpoint_is_the_one_inside_the_cluster() -> None:
    assert declared(platform_settings("onprem")).outputs["endpoint"] == "http://llm-gateway.llm.svc:80"


def test_every_resource_names_its_provider(local: Synthesized) -> None:
    settings = yaml.safe_load(Path("Pulumi.yaml").read_text())["config"]
    assert settings["pulumi:disable-default-providers"] == {"value": ["*"]}
    for resource in local.resources:
        if resource.type.startswith(("kubernetes:", "random:")):
            assert resource.provider, resource


def test_a_missing_kubeconfig_is_one_message_before_anything_is_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    with pytest.raises(SettingsError, match=r"cluster: no kubeconfig at /nowhere/kubeconfig; set cluster\."):
        connect(platform_settings("local").cluster)


def _model(name: str) -> dict[str, str]:
    return {"spillway.dev/model": name}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A secret's value; the mock engine keeps secrets wrapped."""
    return dict(value.get("value", value))


def test_an_update_does_not_wait_for_a_quota_to_be_counted_which_the_provider_limits_to_a_minute(
    local: Synthesized,
) -> None:
    quota = local.one("kubernetes:core/v1:ResourceQuota")
    assert quota.inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


def test_a_stack_without_a_model_of_rays_has_no_operator_and_no_token() -> None:
    result = declared(platform_settings("intel-gaudi3"))
    assert not result.of("kubernetes:helm.sh/v3:Release")
    assert not result.of("spillway:kubernetes:RayToken")
    assert result.of("spillway:kubernetes:PlainVLLM")
