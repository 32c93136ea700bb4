"""What pods are told about the way out of the cluster."""

from typing import Any

import pytest

from runtime.model import ModelSpec
from runtime.serving.ray_service import RayRuntime, ray_service_spec
from runtime.surroundings import CA_FILE, CA_FOLDER, CaBundle, Proxy, Surroundings

PROXY = Proxy(http="http://proxy.corp:3128", https="http://proxy.corp:3129", no_proxy=("10.0.0.0/8",))
AROUND = Surroundings(
    pull_secrets=("registry",),
    proxy=PROXY,
    ca_bundle=CaBundle(config_map="corporate-ca", key="ca.pem"),
)


def pods(source: dict[str, str], around: Surroundings) -> list[Any]:
    """The pod specs of head and worker."""
    model = ModelSpec.model_validate({"name": "m", "source": source, "accelerator": "nvidia-h100"})
    ray = RayRuntime(version="2.60.0", image="r:1", auth_secret="a", surroundings=around)
    cluster: Any = ray_service_spec(model, ray)["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def environment(pod: Any) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}


def test_a_proxy_is_named_in_upper_and_in_lower_case() -> None:
    values = PROXY.environment()
    assert values["HTTP_PROXY"] == values["http_proxy"] == "http://proxy.corp:3128"
    assert values["HTTPS_PROXY"] == values["https_proxy"] == "http://proxy.corp:3129"
    assert values["NO_PROXY"] == values["no_proxy"]
    assert len(values) == 6


def test_the_cluster_itself_is_never_reached_by_the_proxy() -> None:
    direct = PROXY.environment()["NO_PROXY"].split(",")
    assert {".svc", ".cluster.local", "localhost", "127.0.0.1", "kubernetes.default"} <= set(direct)
    assert "$(KUBERNETES_SERVICE_HOST)" in direct, "the Ray autoscaler asks the API server by its address"
    assert direct[-1] == "10.0.0.0/8"


def test_a_proxy_for_https_only_leaves_http_alone() -> None:
    values = Proxy(https="http://proxy.corp:3129").environment()
    assert "HTTP_PROXY" not in values
    assert "http_proxy" not in values


@pytest.mark.parametrize(
    ("proxy", "ports"),
    [
        (PROXY, (3128, 3129)),
        (Proxy(http="http://p:8080", https="http://p:8080"), (8080,)),
        (Proxy(http="http://p"), (80,)),
        (Proxy(https="https://p"), (443,)),
    ],
)
def test_a_proxys_ports_are_those_of_its_urls(proxy: Proxy, ports: tuple[int, ...]) -> None:
    assert proxy.ports == ports


def test_head_and_workers_of_a_downloaded_model_get_proxy_and_certificates() -> None:
    for pod in pods({"huggingFace": "a/b"}, AROUND):
        values = environment(pod)
        assert values["https_proxy"] == "http://proxy.corp:3129"
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            assert values[variable] == CA_FILE
        (volume,) = [one for one in pod["volumes"] if "configMap" in one]
        assert volume["configMap"] == {
            "name": "corporate-ca",
            "items": [{"key": "ca.pem", "path": CA_FILE.removeprefix(f"{CA_FOLDER}/")}],
        }
        mounts = pod["containers"][0]["volumeMounts"]
        assert {"name": volume["name"], "mountPath": CA_FOLDER, "readOnly": True} in mounts


def test_the_weights_are_mounted_beside_the_certificates() -> None:
    worker = pods({"huggingFace": "a/b"}, AROUND)[1]
    assert [volume["name"] for volume in worker["volumes"]] == ["hub-cache", "private-ca"]


def test_a_model_that_is_there_already_gets_neither() -> None:
    for pod in pods({"path": "/models/m"}, AROUND):
        assert not {"HTTPS_PROXY", "SSL_CERT_FILE"} & set(environment(pod))
        assert "volumes" not in pod


def test_every_ray_pod_pulls_with_the_secrets_whatever_its_model_comes_from() -> None:
    for source in ({"huggingFace": "a/b"}, {"path": "/models/m"}):
        for pod in pods(source, AROUND):
            assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_offline_no_pod_asks_the_hub() -> None:
    for pod in pods({"path": "/models/m"}, Surroundings(offline=True)):
        values = environment(pod)
        assert values["HF_HUB_OFFLINE"] == values["TRANSFORMERS_OFFLINE"] == "1"


def test_where_nothing_is_special_pods_are_told_nothing() -> None:
    for pod in pods({"huggingFace": "a/b"}, Surroundings()):
        assert "imagePullSecrets" not in pod
        assert not {"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "HF_HUB_OFFLINE"} & set(environment(pod))
