"""A stack in one namespace of a cluster of others: no cluster-admin, their operator, nothing taken over.

The identity is a ServiceAccount with just the Role that docs/any-cluster.md tells an administrator to apply.
The tests share the cluster and run in the order in which they stand.
"""

import base64
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.site.api import Json, object_path
from rehearsal.site.certificates import CLUSTER_CA, certificate_file
from rehearsal.site.toolbox import SiteTools
from runtime.cluster import ClusterApi, ForbiddenError, read_kubeconfig
from tests.support.stack_files import ROOT
from tests.support.stage import Stage

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(900)]

STACK = "test-others"
NAMESPACE = "team-llm"
RBAC = "rbac.authorization.k8s.io"
PLATFORM: dict[str, Any] = {
    "scenario": "onprem",
    "namespace": NAMESPACE,
    "owner": "ml-platform",
    "costCentre": "ml-1042",
    "environment": "prod",
    "cluster": {"access": "namespace"},
    "kuberay": {"install": "existing"},
    # The example that brought the operator has taught the site what stands in for this image.
    "ray": {"version": "2.60.0", "image": "rayproject/ray-llm:2.60.0-py312-cu130"},
    "models": [
        {
            "name": "small",
            "source": {"volumeClaim": "models", "path": "/small"},
            "accelerator": "nvidia-h100",
            "contextLength": 4096,
        }
    ],
}


class Team:
    """Somebody who may act in one namespace, and has a kubeconfig that says so."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.api = stage, stage.site.api()
        self.kubeconfig = stage.home / "team.kubeconfig"
        self.stack_file = ROOT / "stacks" / f"Pulumi.{STACK}.yaml"
        self.policy_file = ROOT / "policies" / "config" / f"{STACK}.json"

    def is_let_in(self) -> None:
        """What an administrator does once, in the words of docs/any-cluster.md."""
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        role = yaml.safe_load((ROOT / "docs" / "namespace-role.yaml").read_text())
        role["metadata"]["namespace"] = NAMESPACE
        self.api.apply(role)
        metadata = {"name": "spillway", "namespace": NAMESPACE}
        self.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        self.api.apply(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "spillway"},
                "subjects": [{"kind": "ServiceAccount", **metadata}],
            }
        )
        self.kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()))

    def _kubeconfig(self) -> Json:
        account = object_path("v1", "ServiceAccount", NAMESPACE, "spillway")
        request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = json.loads(self.api.request("POST", f"{account}/token", request))
        ca = certificate_file(self.stage.site.layout, CLUSTER_CA).read_bytes()
        server = yaml.safe_load(self.stage.site.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "others", "cluster": cluster}],
            "users": [{"name": "team", "user": {"token": answer["status"]["token"]}}],
            "contexts": [{"name": "others", "context": {"cluster": "others", "user": "team"}}],
            "current-context": "others",
        }

    def run(self, command: str, *, status: int = 0) -> str:
        variables = {"KUBECONFIG": str(self.kubeconfig)}
        return self.stage.run(command, "--stack", STACK, variables=variables, status=status)

    def objects(self, api_version: str, kind: str) -> list[str]:
        found = self.api.get(object_path(api_version, kind, NAMESPACE))["items"]
        return sorted(one["metadata"]["name"] for one in found)


@pytest.fixture(scope="module")
def team(tools: SiteTools, home: Path) -> Generator[Team]:
    del tools  # their being there is what makes `up` quick
    with Stage.on(f"others-{os.getpid()}", home) as stage:
        stage.rehearse("nvidia-h100")  # whose operator the team uses
        team = Team(stage)
        team.stack_file.write_text(yaml.safe_dump({"config": {"spillway:platform": PLATFORM}}))
        allowed = {"allowedAccelerators": ["nvidia-h100"]}
        # The site's stand-ins have no digests.
        policies = {"gpu-instance-allowlist": allowed, "image-digest": "advisory"}
        team.policy_file.write_text(json.dumps(policies))
        try:
            team.is_let_in()
            yield team
            stage.destroy("nvidia-h100")
        finally:
            team.stack_file.unlink()
            team.policy_file.unlink()


def test_an_object_of_others_is_not_taken_over_and_nothing_is_changed(team: Team) -> None:
    theirs: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "llm-gateway-config", "namespace": NAMESPACE},
        "data": {"of": "others"},
    }
    team.api.apply(theirs)
    said = team.run("up", status=1)
    assert f"ConfigMap {NAMESPACE}/llm-gateway-config exists and is not this stack's" in said
    assert (
        team.api.get(object_path("v1", "ConfigMap", NAMESPACE, "llm-gateway-config"))["data"]
        == theirs["data"]
    )
    assert team.objects("apps/v1", "Deployment") == []
    team.api.delete(object_path("v1", "ConfigMap", NAMESPACE, "llm-gateway-config"))


def test_the_role_is_enough_for_a_platform_that_serves(team: Team) -> None:
    said = team.run("up")
    assert "its own check got an answer from small through the gateway" in said
    assert team.objects("ray.io/v1", "RayService") == ["small"]
    with pytest.raises(ForbiddenError):
        ClusterApi(read_kubeconfig(team.kubeconfig, None)).get("/api/v1/namespaces/llm/secrets")


def test_a_second_up_by_the_same_identity_changes_nothing(team: Team) -> None:
    assert "pulumi up: 0 resources" in team.run("up")


def test_teardown_leaves_the_namespace_and_all_that_is_not_the_stacks(team: Team) -> None:
    said = team.run("down")
    assert "Nothing is left:" in said
    for api_version, kind in (("ray.io/v1", "RayService"), ("apps/v1", "Deployment"), ("v1", "Secret")):
        assert team.objects(api_version, kind) == []
    assert team.objects(f"{RBAC}/v1", "Role") == ["spillway"]
    assert team.stage.pods("llm"), "the neighbour's model still runs"
