"""The bare program: registers the resources of a file one after the other, and computes nothing.

No settings or rendering: every property stands in the file as it goes to the provider. That makes it the
floor of what a Python program with these resources costs, for the preview benchmark.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

TYPES: dict[str, type[pulumi.CustomResource]] = {
    "kubernetes:apps/v1:Deployment": kubernetes.apps.v1.Deployment,
    "kubernetes:batch/v1:Job": kubernetes.batch.v1.Job,
    "kubernetes:core/v1:ConfigMap": kubernetes.core.v1.ConfigMap,
    "kubernetes:core/v1:Namespace": kubernetes.core.v1.Namespace,
    "kubernetes:core/v1:ResourceQuota": kubernetes.core.v1.ResourceQuota,
    "kubernetes:core/v1:Secret": kubernetes.core.v1.Secret,
    "kubernetes:core/v1:Service": kubernetes.core.v1.Service,
    "kubernetes:helm.sh/v3:Release": kubernetes.helm.v3.Release,
    "kubernetes:networking.k8s.io/v1:NetworkPolicy": kubernetes.networking.v1.NetworkPolicy,
    "random:index/randomPassword:RandomPassword": random.RandomPassword,
}

cluster = kubernetes.Provider(
    "cluster",
    kubeconfig=os.environ["KUBECONFIG"],
    enable_config_map_mutable=True,
    enable_secret_mutable=True,
)
generated = random.Provider("random")
made: dict[str, pulumi.CustomResource] = {}
components: dict[str, pulumi.ComponentResource] = {}


def secret_from(names: list[str]) -> pulumi.Output[dict[str, str]]:
    """What a Secret of generated passwords holds; a preview knows none of them yet."""
    results = [cast("random.RandomPassword", made[name]).result for name in names]
    return pulumi.Output.all(*results).apply(lambda values: {"key": "".join(values)})


for resource in json.loads(Path(os.environ["BARE_RESOURCES"]).read_text()):
    kind, key, inputs = resource["type"], resource["key"], resource["inputs"]
    if resource["is_component"]:
        parent = pulumi.ResourceOptions(parent=components.get(resource["parent"]))
        components[key] = pulumi.ComponentResource(kind, resource["name"], inputs, parent)
        components[key].register_outputs(resource["outputs"])
        continue
    options = pulumi.ResourceOptions(
        parent=components.get(resource["parent"]),
        provider=generated if kind.startswith("random:") else cluster,
        depends_on=[made[name] for name in resource["depends_on"]],
        custom_timeouts=pulumi.CustomTimeouts(**resource["timeouts"]) if resource["timeouts"] else None,
    )
    if names := resource["secret_from"]:
        inputs["stringData"] = secret_from(names)
    made_by: Any = TYPES.get(kind)
    if made_by is None:
        group, _, name = kind.removeprefix("kubernetes:").rpartition(":")
        made[key] = kubernetes.apiextensions.CustomResource(
            resource["name"],
            api_version=group,
            kind=name,
            metadata=inputs["metadata"],
            spec=inputs["spec"],
            opts=options,
        )
    else:
        arguments = {re.sub("([A-Z])", r"_\1", field).lower(): value for field, value in inputs.items()}
        made[key] = made_by(resource["name"], opts=options, **arguments)
