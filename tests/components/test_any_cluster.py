"""What the on-prem scenario declares on a cluster that is somebody else's, run against a mock engine."""

from typing import Any

import pytest

from stacks import onprem
from stacks.settings import parse
from tests.support.stack_files import platform_object, platform_settings
from tests.support.synth import Synthesized, synth

pytestmark = pytest.mark.usefixtures("kubeconfig")

CLAIM = "spillway.dev/claim"


def declared(stack: str, **changes: Any) -> Synthesized:
    settings = parse({**platform_object(stack), **changes}) if changes else platform_settings(stack)
    return synth(lambda: onprem.deploy(settings).export())


def pod_specs(result: Synthesized) -> list[dict[str, Any]]:
    """Every pod of the platform, those that KubeRay makes too."""
    pods: list[dict[str, Any]] = []
    for resource in result.resources:
        spec = resource.inputs.get("spec", {})
        if "template" in spec:
            pods.append(spec["template"]["spec"])
        if cluster := spec.get("rayClusterConfig"):
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            pods += [group["template"]["spec"] for group in groups]
    return pods


def egress(result: Synthesized, policy: str) -> list[dict[str, Any]]:
    return result.one("kubernetes:networking.k8s.io/v1:NetworkPolicy", policy).inputs["spec"]["egress"]


def test_every_pod_pulls_from_the_mirror_with_the_secrets() -> None:
    pods = pod_specs(declared("namespaced"))
    assert len(pods) == 4, "gateway, head, workers, check"
    for pod in pods:
        assert pod["imagePullSecrets"] == [{"name": "registry-credentials"}]
        for container in pod["containers"]:
            assert container["image"].startswith("registry.example.com/llm/")


def test_the_operator_that_is_installed_comes_from_the_mirror_too() -> None:
    values = declared("proxied").one("kubernetes:helm.sh/v3:Release").inputs["values"]
    assert values == {
        "image": {"repository": "registry.example.com:5000/kuberay/operator", "tag": "v1.6.2"},
        "imagePullSecrets": [{"name": "registry-credentials"}],
    }


def test_an_image_of_a_models_own_and_its_plain_pods_come_from_the_mirror_too() -> None:
    model = {
        **platform_object("proxied")["models"][0],
        "serving": "PlainVLLM",
        "image": "vllm/vllm-openai:v0.29.0",
    }
    pods = pod_specs(declared("proxied", models=[model]))
    (plain,) = [pod for pod in pods if pod["containers"][0]["name"] == "vllm"]
    assert plain["containers"][0]["image"] == "registry.example.com:5000/vllm/vllm-openai:v0.29.0"
    assert plain["imagePullSecrets"] == [{"name": "registry-credentials"}]
    environment = {entry["name"]: entry.get("value") for entry in plain["containers"][0]["env"]}
    assert environment["https_proxy"] == "http://proxy.example.com:3128"
    assert environment["SSL_CERT_FILE"] == "/etc/spillway/ca/bundle.pem"
    assert "private-ca" in [volume["name"] for volume in plain["volumes"]]


def test_a_downloading_model_may_reach_the_proxy() -> None:
    ports = [
        sorted(port["port"] for port in rule.get("ports", []))
        for rule in egress(declared("proxied"), "llm-allow-model-qwen3-8b")
    ]
    assert [443, 3128] in ports


def test_offline_no_policy_opens_a_way_to_the_internet() -> None:
    result = declared("namespaced")
    for policy in result.of("kubernetes:networking.k8s.io/v1:NetworkPolicy"):
        for rule in policy.inputs["spec"].get("egress", []):
            ports = {port["port"] for port in rule.get("ports", [])}
            assert "to" in rule or ports == {53}, policy.name
    (api,) = [
        rule
        for rule in egress(result, "llm-allow-model-qwen3-8b")
        if {port["port"] for port in rule.get("ports", [])} == {443, 6443}
    ]
    assert {peer["ipBlock"]["cidr"] for peer in api["to"]} >= {"10.0.0.0/8", "192.168.0.0/16"}


def test_the_namespaces_of_a_stack_bear_its_claim() -> None:
    result = declared("onprem")
    for name in ("llm", "kuberay-namespace"):
        metadata = result.one("kubernetes:core/v1:Namespace", name).inputs["metadata"]
        assert metadata["annotations"][CLAIM].startswith("organization/spillway/test:")


def test_in_a_namespace_of_others_a_configmap_bears_the_claim_and_comes_first() -> None:
    result = declared("namespaced")
    holder = result.one("kubernetes:core/v1:ConfigMap", "llm-claim")
    assert holder.inputs["metadata"]["annotations"][CLAIM].startswith("organization/spillway/test:")
    for policy in result.of("kubernetes:networking.k8s.io/v1:NetworkPolicy"):
        assert holder.name in policy.depends_on


def test_an_ingress_leads_to_the_gateway_and_is_the_endpoint() -> None:
    result = declared("namespaced")
    ingress = result.one("kubernetes:networking.k8s.io/v1:Ingress").inputs
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["llm.example.com"], "secretName": "llm-certificate"}]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == ("llm.example.com", "/")
    service = result.one("kubernetes:core/v1:Service").inputs
    assert path["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"number": service["spec"]["ports"][0]["port"]},
    }
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "600"
    assert result.outputs["endpoint"] == "https://llm.example.com"


def test_an_http_route_is_attached_to_the_gateway_that_exists() -> None:
    route = declared("proxied").one("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute").inputs["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    assert route["hostnames"] == ["llm.example.com", "models.example.com"]
    assert route["rules"] == [{"backendRefs": [{"name": "llm-gateway", "port": 80}]}]
