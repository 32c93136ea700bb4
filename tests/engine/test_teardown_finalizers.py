"""A teardown against a real API server: stuck finalizers are explained and left, and gone ones end clean."""

import io
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.cluster import ClusterApi, object_path
from runtime.ops.progress import Progress
from runtime.ops.teardown.certificate import Certificate
from runtime.ops.teardown.ledger import Site, resources_of
from runtime.ops.teardown.run import Reach, Teardown
from runtime.ops.teardown.waiting import Patience
from tests.support.torn_down import LABELS, MARK, state_of
from tests.support.waiting import wait_until

from .api_server import ApiServer

pytestmark = pytest.mark.engine

FINALIZER = "ray.io/rayservice-finalizer"
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rayservices.ray.io"},
    "spec": {
        "group": "ray.io",
        "scope": "Namespaced",
        "names": {"plural": "rayservices", "singular": "rayservice", "kind": "RayService"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}
TINY = object_path("ray.io/v1", "RayService", "llm", "tiny")


@pytest.fixture(name="api", scope="module")
def fixture_api(tmp_path_factory: pytest.TempPathFactory) -> Generator[ClusterApi]:
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        api = server.admin()
        api.write("POST", object_path("apiextensions.k8s.io/v1", "CustomResourceDefinition", None), CRD)
        served = object_path("ray.io/v1", "RayService", "llm")
        wait_until(lambda: api.get(served) is not None, "the kind is served")
        yield api


class Served:
    """The stack on that API server. Nothing but deletion happens there: no controller runs."""

    name = "dev"

    def __init__(self, api: ClusterApi, folder: Path) -> None:
        self.api, self.folder, self.exported = api, folder, state_of()
        namespace = {"name": "llm", "annotations": {"spillway.dev/claim": MARK}, "labels": LABELS}
        self._make("v1", "Namespace", None, namespace)
        served = {"name": "tiny", "namespace": "llm", "labels": LABELS, "finalizers": [FINALIZER]}
        self._make("ray.io/v1", "RayService", "llm", served)

    def _make(self, version: str, kind: str, namespace: str | None, metadata: dict[str, Any]) -> None:
        body = {"apiVersion": version, "kind": kind, "metadata": metadata}
        assert self.api.write("POST", object_path(version, kind, namespace), body) is not None

    def state(self) -> Mapping[str, Any]:
        return self.exported

    def settle(self) -> None: ...

    def unstage(self) -> None: ...

    def destroy(self) -> None:
        path = object_path("v1", "Namespace", None, "llm")
        self.api.write("DELETE", path, {})
        # Without a controller nobody finishes a namespace: what one does is done here.
        finished = {"metadata": {"name": "llm"}, "apiVersion": "v1", "kind": "Namespace", "spec": {}}
        self.api.write("PUT", f"{path}/finalize", finished)
        assert resources_of(self.exported)
        self.exported["deployment"]["resources"] = []

    def run(self) -> Certificate:
        reach: Callable[[Site, str | None], ClusterApi] = lambda site, content: self.api  # noqa: E731
        teardown = Teardown(
            self,
            self.folder,
            Reach(api=reach, clients=lambda cloud: lambda service: None),
            Progress(io.StringIO()),
            patience=Patience(step_s=1.0, look_s=0.1),
        )
        certificate = teardown.run()
        assert certificate is not None
        return certificate


def test_a_finalizer_that_nobody_removes_is_explained_and_its_removal_ends_the_teardown(
    api: ClusterApi, tmp_path: Path
) -> None:
    stack = Served(api, tmp_path)
    first = stack.run()
    assert not first.clean
    (held, _) = first.sweeps[-1].problems
    assert f"RayService llm/tiny is held: finalizer {FINALIZER} is removed by the KubeRay operator" in held
    assert {one.id for one in first.sweeps[-1].left} == {"llm", "llm/tiny"}
    there = api.metadata("ray.io/v1", "RayService", "llm", "tiny")
    assert there is not None
    assert there["finalizers"] == [FINALIZER]
    assert there["deletionTimestamp"]

    # What the message names as the last resort, as kubectl sends it.
    api.write("PATCH", TINY, {"metadata": {"finalizers": None}})
    second = stack.run()
    assert second.clean, second.text()
    assert api.metadata("v1", "Namespace", None, "llm") is None
