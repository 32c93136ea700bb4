"""Whether a cluster has the KubeRay that `kuberay.install: existing` promises."""

import copy
from typing import Any

import pytest

from runtime.cluster import ForbiddenError, kuberay_problem

DISCOVERY = "/apis/ray.io/v1"
SCHEMA = "/openapi/v3/apis/ray.io/v1"
DEPLOYMENTS = (
    "/apis/apps/v1/namespaces/kuberay-system/deployments"
    "?labelSelector=app.kubernetes.io%2Fname%3Dkuberay-operator"
)


def schema(*, auth: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "properties": {
            "rayClusterConfig": {"properties": {"authOptions": {"properties": auth}}},
            "upgradeStrategy": {"properties": {"type": {"type": "string"}}},
        }
    }
    return {"components": {"schemas": {"io.ray.v1.RayService": {"properties": {"spec": spec}}}}}


def deployment(image: str, *arguments: str, available: int = 1) -> dict[str, Any]:
    container = {"image": image, "args": list(arguments)}
    return {
        "items": [
            {
                "metadata": {"name": "kuberay-operator"},
                "spec": {"template": {"spec": {"containers": [container]}}},
                "status": {"availableReplicas": available},
            }
        ]
    }


GOOD: dict[str, Any] = {
    DISCOVERY: {"resources": [{"name": "rayservices"}, {"name": "rayclusters"}]},
    SCHEMA: schema(auth={"mode": {}, "secretName": {}}),
    DEPLOYMENTS: deployment("quay.io/kuberay/operator:v1.6.2"),
}


class FakeCluster:
    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def get(self, path: str) -> dict[str, Any] | None:
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        return answer


def problem(**changes: Any) -> str:
    answers = copy.deepcopy(GOOD)
    for name, value in changes.items():
        answers[{"discovery": DISCOVERY, "schema": SCHEMA, "deployments": DEPLOYMENTS}[name]] = value
    return kuberay_problem(FakeCluster(answers), "kuberay-system", "llm") or ""


@pytest.mark.parametrize(
    "image",
    [
        "quay.io/kuberay/operator:v1.6.2",
        "registry.example:5000/kuberay/operator:v1.7.0",
        "site.local/kuberay-operator:1.6.2",
        "quay.io/kuberay/operator@sha256:" + "a" * 64,
    ],
)
def test_a_running_operator_of_a_supported_or_unknown_version_is_fine(image: str) -> None:
    assert problem(deployments=deployment(image)) == ""


def test_a_cluster_without_kuberay_is_told_what_to_install() -> None:
    assert "has no RayService of ray.io/v1; install KubeRay 1.6.2" in problem(discovery=None)


def test_an_old_definition_is_found_by_the_field_that_it_lacks() -> None:
    message = problem(schema=schema(auth={"mode": {}}))
    assert "no field rayClusterConfig.authOptions.secretName" in message
    assert "apply newer CRDs" in message


@pytest.mark.parametrize("tag", ["v1.5.1", "v1.6.1", "v0.6.0", "v2.0.0"])
def test_an_operator_of_an_unsupported_version_is_refused(tag: str) -> None:
    message = problem(deployments=deployment(f"quay.io/kuberay/operator:{tag}"))
    assert f"is {tag[1:]}; allowed: 1.6.2 or newer, below 2; upgrade it" in message


def test_an_operator_elsewhere_is_told_by_the_key_to_set() -> None:
    assert "set kuberay.namespace to where the operator runs" in problem(deployments={"items": []})


def test_an_operator_that_does_not_run_is_refused_because_nothing_would_be_made_or_deleted() -> None:
    assert "does not run" in problem(deployments=deployment("o:v1.6.2", available=0))


def test_an_operator_that_watches_other_namespaces_is_refused() -> None:
    message = problem(deployments=deployment("o:v1.6.2", "--watch-namespace=a,b"))
    assert "watches a, b only; add llm" in message
    assert problem(deployments=deployment("o:v1.6.2", "--watch-namespace=a,llm")) == ""


def test_an_identity_that_may_not_see_the_operator_is_content_with_the_definitions() -> None:
    assert problem(deployments=ForbiddenError("no")) == ""
    assert "secretName" in problem(deployments=ForbiddenError("no"), schema=schema(auth={}))
