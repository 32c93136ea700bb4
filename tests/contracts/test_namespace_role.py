"""docs/namespace-role.yaml is what a stack in one namespace needs: no less, and nothing to spare."""

from typing import Any

import pytest

from runtime.cluster import plural
from tests.support.stack_files import golden_resources, namespace_role

# What the documented Role marks as needed for a setting that the namespaced stack does not use.
OPTIONAL = {("gateway.networking.k8s.io", "httproutes"), ("policy", "poddisruptionbudgets")}
CLUSTER_SCOPED = {"Namespace", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "StorageClass"}
DECLARE = {"get", "list", "watch", "create", "patch", "delete"}


def objects(golden: str) -> list[dict[str, Any]]:
    """The Kubernetes objects that a stack declares."""
    return [one["inputs"] for one in golden_resources(golden) if "apiVersion" in one.get("inputs", {})]


@pytest.fixture
def declared() -> set[tuple[str, str]]:
    return {(str(one["apiVersion"]).rpartition("/")[0], plural(one["kind"])) for one in objects("namespaced")}


def test_the_role_grants_what_the_namespaced_stack_declares(declared: set[tuple[str, str]]) -> None:
    role = namespace_role()
    for resource in declared:
        assert role.get(resource) == DECLARE, resource


def test_the_role_lets_nothing_be_changed_that_no_stack_declares(declared: set[tuple[str, str]]) -> None:
    changeable = {
        resource for resource, verbs in namespace_role().items() if verbs & {"create", "patch", "delete"}
    }
    assert changeable == declared | OPTIONAL


def test_a_namespaced_stack_declares_nothing_outside_its_namespace() -> None:
    for one in objects("namespaced"):
        assert one["kind"] not in CLUSTER_SCOPED
        assert one["kind"] != "ResourceQuota", "the quota is the administrator's"
        assert one["metadata"]["namespace"] == "team-llm", one["kind"]


def test_the_role_says_no_star() -> None:
    for (group, resource), verbs in namespace_role().items():
        assert "*" not in {group, resource, *verbs}
