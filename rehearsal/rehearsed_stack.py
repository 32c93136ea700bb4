"""What a stack file becomes when it is rehearsed: what is not here is replaced, the rest stays as written."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rehearsal.aws import ACCOUNT
from rehearsal.site.images import RAY_IMAGE
from rehearsal.site.tiny_model import TINY_CONTEXT
from runtime import versions

# The chart in this repository; the published one's repository is not reachable from an embedded site.
OPERATOR_CHART = "rehearsal/charts/kuberay-operator"

# Nodes of a rehearsal are there in seconds, so everything that waits for nodes waits seconds too. What is
# decided from load, and what it may cost, stays as the stack file says.
REHEARSED_BURST: Mapping[str, Any] = MappingProxyType(
    {
        "tickSeconds": 1,
        "staleSeconds": 10,
        "coldStartSeconds": 5,
        "scaleOut": {"forSeconds": 2},
        "scaleIn": {"forSeconds": 8},
        "cooldownSeconds": 5,
        "zeroAfterSeconds": 60,
        "releaseSeconds": 15,
        "launches": {"failures": 3, "backOffSeconds": 10, "maxBackOffSeconds": 30, "timeoutSeconds": 60},
    }
)
# So few at a time that thirty clients are more than the site takes, on two cores.
REHEARSED_SEQUENCES = 8
# The tiny model as it runs on the CPU.
_ON_THE_CPU: Mapping[str, Any] = MappingProxyType(
    {
        "image": RAY_IMAGE,
        "accelerator": "cpu",
        "replicas": {"min": 1, "max": 1},
        "contextLength": 256,
        "engineArguments": {"max_num_batched_tokens": 256},
        "worker": {"cpu": "2", "memory": "10Gi", "cpuRequest": "250m", "memoryRequest": "4Gi"},
    }
)


def as_rehearsed(
    stack_file: dict[str, Any], weights: Path | None = None, canary: str | None = None
) -> dict[str, Any]:
    """The content of a stack file for the embedded site.

    It never names a cluster, and its chart and operator are the ones that are here; everything else stays
    as it is written.

    Args:
        stack_file: The content.
        weights: Folder with the tiny model's files. With it the first model runs on-prem as that one, on the
            CPU of this machine, under the name that it has; its copies in the cloud stay as they are.
        canary: Revision of the model that is called as one before it, on SageMaker endpoints.
    """
    platform: dict[str, Any] = dict(stack_file["config"]["spillway:platform"])
    if platform.get("scenario") == "sagemaker":
        return _with(stack_file, endpoints_as_rehearsed(platform, canary))
    cluster: dict[str, Any] = platform.get("cluster") or {}
    platform["cluster"] = {
        key: value for key, value in cluster.items() if key not in {"kubeconfig", "context"}
    }
    if platform.get("cloud"):
        platform["cloud"] = cloud_as_rehearsed(platform["cloud"])
        platform["burst"] = {**(platform.get("burst") or {}), **REHEARSED_BURST}
        platform["models"] = [{**model, "maxSequences": REHEARSED_SEQUENCES} for model in platform["models"]]
    if weights is not None:
        first, *others = platform["models"]
        platform["models"] = [_on_the_cpu(first, str(platform["ray"]["image"]), weights), *others]
    kuberay: dict[str, Any] = platform.get("kuberay") or {}
    if kuberay.get("install", "chart") == "chart":
        platform["kuberay"] = {
            **kuberay,
            "chart": OPERATOR_CHART,
            "repository": None,
            "version": versions.KUBERAY,
        }
    return _with(stack_file, platform)


def endpoints_as_rehearsed(platform: dict[str, Any], canary: str | None = None) -> dict[str, Any]:
    """A platform of SageMaker endpoints for the AWS double.

    It is in the double's account, and its models take as long prompts as the tiny one; instance types,
    counts, weights, schedules and what is kept stay as written.
    """
    account = str(platform.get("accountId", ACCOUNT))
    here: dict[str, Any] = json.loads(json.dumps(platform).replace(account, ACCOUNT))
    here["models"] = [
        {**model, "contextLength": min(int(model.get("contextLength", TINY_CONTEXT)), TINY_CONTEXT)}
        for model in here["models"]
    ]
    served: set[str] = set()
    models: list[dict[str, Any]] = here["models"]
    for model in models:
        name = str(model.get("servedName", model["name"]))
        if canary is not None and name in served:
            model["source"] = {**model["source"], "revision": canary}
        served.add(name)
    return here


def cloud_as_rehearsed(cloud: dict[str, Any]) -> dict[str, Any]:
    """The AWS side of a stack file for the AWS double.

    It is the double's account, the charts that nobody can pull are left out because stand-ins do their work,
    and a cluster that may be deleted at once.
    """
    account = str(cloud.get("accountId", ACCOUNT))
    here: dict[str, Any] = json.loads(json.dumps(cloud).replace(account, ACCOUNT))
    without: dict[str, Any] = {"install": "none"}
    return {
        **here,
        "cluster": {**here.get("cluster", {}), "deletionProtection": False},
        "autoscaler": {**here.get("autoscaler", {}), "release": without},
        "devicePlugin": without,
    }


def _with(stack_file: dict[str, Any], platform: dict[str, Any]) -> dict[str, Any]:
    return {**stack_file, "config": {**stack_file["config"], "spillway:platform": platform}}


def _on_the_cpu(model: dict[str, Any], image: str, weights: Path) -> dict[str, Any]:
    kept = ("accelerator", "tensorParallel", "pipelineParallel", "worker")
    on_prem = {key: model[key] for key in kept if key in model}
    spill: dict[str, Any] = model.get("spill") or {}
    there = {"spill": {"image": model.get("image", image), **on_prem, **spill}} if spill else {}
    here = {key: value for key, value in model.items() if key not in {*kept, "size"}}
    return {**here, **_ON_THE_CPU, **there, "source": {"hostFolder": str(weights)}}
