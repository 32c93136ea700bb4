"""Stack rules under the real engine, where the cluster of a Kubernetes provider is yet to be made.

At the first preview of an EKS stack the provider has no kubeconfig, so the engine shows stack rules no
outputs of what is on the cluster. A random value stands for what AWS would answer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehearsal.tools import Toolbox
from tests.support.stack_files import ROOT

pytestmark = pytest.mark.engine

PROGRAM = """
import pulumi, pulumi_kubernetes as kubernetes, pulumi_random as random

made = random.RandomPassword("made-by-up", length=8)
provider = kubernetes.Provider("eks", kubeconfig=made.result)
options = pulumi.ResourceOptions(provider=provider)
kubernetes.core.v1.Namespace("llm", metadata={"name": "llm"}, opts=options)
if pulumi.Config().get_bool("closed"):
    spec = {"pod_selector": {}, "policy_types": ["Ingress"]}
    metadata = {"name": "closed", "namespace": "llm"}
    kubernetes.networking.v1.NetworkPolicy("closed", metadata=metadata, spec=spec, opts=options)
"""

Pulumi = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path, pulumi_cli: Path, pulumi_env: dict[str, str]) -> Pulumi:
    """Runs the CLI on the program and returns what it said."""
    folder = tmp_path / "project"
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "demo", "runtime": runtime}))
    (folder / "__main__.py").write_text(PROGRAM)
    provider = Toolbox.load(["pulumi"]).path("pulumi-resource-kubernetes")
    path = os.pathsep.join([str(provider.parent), pulumi_env["PATH"]])

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [pulumi_cli, *arguments, "--non-interactive"],
            cwd=folder,
            env={**pulumi_env, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout

    run("stack", "init", "dev")
    return run


def test_what_is_on_a_cluster_that_is_not_there_yet_is_judged_by_its_inputs(pulumi: Pulumi) -> None:
    preview = ("preview", "--policy-pack", str(ROOT / "policies" / "pack"))
    said = pulumi(*preview)
    assert "Namespace llm has no NetworkPolicy that selects all pods" in said
    assert "[mandatory] [severity: high]  network-policy" in said

    pulumi("config", "set", "closed", "true")
    said = pulumi(*preview)
    assert "kubernetes:networking.k8s.io/v1:NetworkPolicy" in said
    assert "network-policy  (" not in said
