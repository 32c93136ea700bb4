"""The versions that Spillway is tested with, each written once."""

KUBERAY = "1.6.2"
KUBERAY_IMAGE = f"quay.io/kuberay/operator:v{KUBERAY}"
ENVOY_IMAGE = "envoyproxy/envoy:v1.40.0"
