"""One Kubernetes cluster of a stack: whether it is the right one, what of the stack is there, and its end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, Protocol
from urllib.parse import quote

from runtime.cluster import object_path
from runtime.labels import MODEL_LABEL, PLATFORM_LABEL
from runtime.ops.deletions import ObjectReference
from runtime.ops.progress import Step
from runtime.ops.teardown import finalizers
from runtime.ops.teardown.findings import Finding
from runtime.ops.teardown.ledger import CLAIM, Site, mapping
from runtime.ops.teardown.waiting import Patience, StepError

Json = dict[str, Any]

# The owners first: each takes the ones below along, and its operator has to see it go.
_RAY = (
    ("ray.io/v1", "RayCronJob"),
    ("ray.io/v1", "RayService"),
    ("ray.io/v1", "RayJob"),
    ("ray.io/v1", "RayCluster"),
)
_DECLARED = {"RayService", "Deployment"}
_KARPENTER = "karpenter.sh/v1"


class Api(Protocol):
    """What is asked of a cluster: a ClusterApi, or a test's stand-in."""

    def get(self, path: str, accept: str = "application/json") -> Json | None:
        """Returns what is at a path, or None if nothing is."""
        ...

    def write(self, method: Literal["POST", "PUT", "PATCH", "DELETE"], path: str, body: Json) -> Json | None:
        """Writes; None if nothing is at the path."""
        ...

    def metadata(self, api_version: str, kind: str, namespace: str | None, name: str) -> Json | None:
        """Returns an object's metadata, or None."""
        ...


class NotOursError(Exception):
    """A cluster is not the one that the stack is on; the text is the whole message."""


class LiveSite:
    """A cluster that answers.

    Args:
        site: What the stack has there.
        api: Its API.

    Attributes:
        uid: By which it is known again, once `identify` has found out.
    """

    def __init__(self, site: Site, api: Api) -> None:
        self.site = site
        self.api = api
        self.uid: str | None = None

    def identify(self) -> str | None:
        """The UID by which the cluster is known again, once it is proven to be the stack's.

        Returns:
            None where nothing of the stack's can be on it, so that it does not matter whose it is.

        Raises:
            NotOursError: It is another stack's, or another cluster.
            ClusterError: It cannot be asked.
        """
        site = self.site
        if not site.claims:
            return None
        uid = self._uid()
        if site.uid is not None:
            if site.uid == uid:
                return uid
            what = "UID of kube-system" if site.own else "digest of its CA"
            raise NotOursError(
                f"cluster {site.name}: the one that answers is not the one that the stack was on (the {what} "
                f"is {uid or 'none'}, it was {site.uid}); name the right kubeconfig"
            )
        found = {namespace: self._claim_in(namespace) for namespace in site.claims}
        for namespace, claim in found.items():
            if claim and claim != site.claims[namespace]:
                raise NotOursError(
                    f"cluster {site.name}: namespace {namespace} bears the claim of "
                    f"{claim.rpartition(':')[0]}, with a state of its own; use the state that made it"
                )
        if not any(found.values()):
            raise NotOursError(
                f"cluster {site.name}: the state has namespace {', '.join(site.claims)}, and the cluster "
                "that answers has none of them with this stack's claim; name the right kubeconfig, or, if "
                f"that cluster is gone for good, say --gone {site.name}"
            )
        return uid

    def _uid(self) -> str:
        """That of kube-system; for a stack in others' namespaces a digest of the cluster's CA.

        Who may act in one namespace only may not ask for kube-system, and Kubernetes gives the CA to each
        namespace. One that is the stack's own goes, and its copy of the CA with it.
        """
        if self.site.own:
            system = self.api.metadata("v1", "Namespace", None, "kube-system")
            return str(mapping(system).get("uid") or "")
        bundle = self.api.get(object_path("v1", "ConfigMap", min(self.site.claims), "kube-root-ca.crt"))
        certificate = str(mapping(mapping(bundle).get("data")).get("ca.crt") or "")
        return f"sha256:{sha256(certificate.encode()).hexdigest()}" if certificate else ""

    def _claim_in(self, namespace: str) -> str | None:
        if namespace in self.site.own:
            metadata = self.api.metadata("v1", "Namespace", None, namespace)
        else:
            metadata = self.api.metadata("v1", "ConfigMap", namespace, f"{self.site.platform}-claim")
        return mapping(mapping(metadata).get("annotations")).get(CLAIM)

    def objects(self, kinds: Iterable[tuple[str, str]], *, labelled: str = "") -> list[ObjectReference]:
        """What of these kinds is in the stack's namespaces; in one of others', what bears its label."""
        return [
            ObjectReference(api_version, kind, str(namespace), str(item["metadata"]["name"]))
            for api_version, kind in kinds
            for namespace in self.site.claims
            for item in self._items(api_version, kind, namespace, labelled)
        ]

    def _items(self, api_version: str, kind: str, namespace: str | None, labelled: str) -> list[Json]:
        selectors = [labelled] if labelled else []
        if namespace is not None and namespace not in self.site.own:
            selectors.append(f"{PLATFORM_LABEL}={self.site.platform}")
        query = f"?labelSelector={quote(','.join(selectors))}" if selectors else ""
        found = self.api.get(f"{object_path(api_version, kind, namespace)}{query}")
        return list((found or {}).get("items") or ())

    # GPUs

    def switch_off_burst(self) -> list[str]:
        """Tells the burst controller to use no cloud, and ends it, so that nobody asks for nodes again."""
        done: list[str] = []
        for one in self.site.objects:
            if one.kind == "ConfigMap" and one.name.endswith("burst-controller-state"):
                off = {"data": {"switch": '{"mode":"off"}'}}
                if self.api.write("PATCH", _path(one), off) is not None:
                    done.append("the burst controller's switch is off")
            ended = {"spec": {"replicas": 0}}
            if (
                one.kind == "Deployment"
                and one.name.endswith("burst-controller")
                and self.api.write("PATCH", _path(one), ended) is not None
            ):
                done.append("the burst controller is ended")
        return done

    def close_pools(self) -> list[str]:
        """Lets Karpenter start no more nodes and end those that it has, which go with their pools."""
        pools = self._karpenter("NodePool")
        for one in pools:
            self.api.write("PATCH", _path(one), {"spec": {"limits": {"nodes": "0", "nvidia.com/gpu": "0"}}})
            self.api.write("DELETE", _path(one), _background())
        return [str(one) for one in pools]

    def _karpenter(self, kind: str) -> list[ObjectReference]:
        """The pools that the state has, or the nodes of them."""
        pools = {one.name for one in self.site.objects if one.kind == "NodePool"}
        if not pools:
            return []
        items = self._items(_KARPENTER, kind, None, "")
        if kind == "NodePool":
            items = [item for item in items if item["metadata"]["name"] in pools]
        else:
            items = [
                item
                for item in items
                if mapping(item["metadata"].get("labels")).get("karpenter.sh/nodepool") in pools
            ]
        return [ObjectReference(_KARPENTER, kind, None, str(item["metadata"]["name"])) for item in items]

    def end_pools(self, step: Step, patience: Patience) -> None:
        """Waits until Karpenter's pools and their nodes are gone. Raises StepError where one stays."""
        self.close_pools()
        self._await(step, lambda: [*self._karpenter("NodePool"), *self._karpenter("NodeClaim")], patience)

    # Models, load balancers, volumes

    def end_models(self, step: Step, patience: Patience) -> None:
        """Deletes what holds GPUs and waits for it, while the operator that has to see it go still runs.

        Raises:
            StepError: Something stays; each line says who holds it and what is safe to do.
        """
        servers = [("apps/v1", "Deployment")]
        for one in [*self.objects(_RAY), *self.objects(servers, labelled=MODEL_LABEL)]:
            # In others' namespaces one may delete what stacks declare; what that made goes with it.
            if one.namespace in self.site.own or one.kind in _DECLARED:
                # In the background: the clean-up Job that KubeRay's finalizer waits for must stay.
                self.api.write("DELETE", _path(one), _background())
        self._await(
            step, lambda: [*self.objects(_RAY), *self.objects(servers, labelled=MODEL_LABEL)], patience
        )

    def end_balancers(self, step: Step, patience: Patience) -> None:
        """Deletes what has a load balancer outside of the cluster, while its controller still runs."""
        for one in self._balanced():
            self.api.write("DELETE", _path(one), _background())
        self._await(step, self._balanced, patience)

    def _balanced(self) -> list[ObjectReference]:
        services = [
            ObjectReference("v1", "Service", namespace, str(item["metadata"]["name"]))
            for namespace in self.site.claims
            for item in self._items("v1", "Service", namespace, "")
            if item["spec"].get("type") == "LoadBalancer"
        ]
        return [*services, *self.objects([("networking.k8s.io/v1", "Ingress")])]

    def data(self) -> list[str]:
        """Claims with volumes in the stack's own namespaces: a destroy deletes them with the namespace."""
        declared = {
            (one.namespace, one.name) for one in self.site.objects if one.kind == "PersistentVolumeClaim"
        }
        found: list[str] = []
        for namespace in self.site.own:
            for item in self._items("v1", "PersistentVolumeClaim", namespace, ""):
                name = str(item["metadata"]["name"])
                if (namespace, name) not in declared:
                    size = mapping(mapping(item.get("status")).get("capacity")).get("storage", "unbound")
                    found.append(f"volume claim {namespace}/{name} ({size}) on cluster {self.site.name}")
        return found

    def end_volumes(self, step: Step, patience: Patience, *, delete_data: bool) -> None:
        """Deletes the claims in the stack's own namespaces and waits for the volumes that go with them.

        Raises:
            StepError: There is data and it may not be deleted, or a volume stays.
        """
        if (data := self.data()) and not delete_data:
            raise StepError([f"{one} would be lost; move it, or say --delete-data" for one in data])
        for namespace in self.site.own:
            for item in self._items("v1", "PersistentVolumeClaim", namespace, ""):
                one = ObjectReference("v1", "PersistentVolumeClaim", namespace, str(item["metadata"]["name"]))
                self.api.write("DELETE", _path(one), _background())
        claims = [("v1", "PersistentVolumeClaim")]
        self._await(
            step,
            lambda: [
                *(one for one in self.objects(claims) if one.namespace in self.site.own),
                *self.volumes(deleted_with_claim=True),
            ],
            patience,
        )

    def volumes(self, *, deleted_with_claim: bool = False) -> list[ObjectReference]:
        """Volumes that are, or were, bound in the stack's own namespaces and not declared in the state."""
        found: list[ObjectReference] = []
        if not self.site.own:
            return found  # and who may act in one namespace only may not ask for volumes
        declared = {one.name for one in self.site.objects if one.kind == "PersistentVolume"}
        for item in self._items("v1", "PersistentVolume", None, ""):
            spec, name = item["spec"], str(item["metadata"]["name"])
            bound = mapping(spec.get("claimRef")).get("namespace")
            goes = spec.get("persistentVolumeReclaimPolicy") == "Delete"
            if bound in self.site.own and name not in declared and (goes or not deleted_with_claim):
                found.append(ObjectReference("v1", "PersistentVolume", None, name))
        return found

    # What stays

    def leftovers(self) -> list[Finding]:
        """Everything of the stack that is still there, each by name."""
        site, found = self.site, list[Finding]()
        there = {
            name for name, claim in site.claims.items() if name in site.own and self._claim_in(name) == claim
        }
        for namespace in sorted(there):
            found.append(self._finding("namespace", namespace, billed=False))
        found += [
            self._finding(
                one.kind, f"{one.namespace}/{one.name}" if one.namespace else one.name, billed=False
            )
            for one in site.objects
            if one.kind != "Namespace"
            and (one.namespace not in site.own or one.namespace in there)
            and self.api.metadata(one.api_version, one.kind, one.namespace, one.name) is not None
        ]
        found += [self._finding("volume", one.name, billed=True) for one in self.volumes()]
        known = {(one.kind, one.id) for one in found}
        made = [*self.objects(_RAY), *self._balanced()] if there or len(site.own) < len(site.claims) else []
        for one in made:
            name = f"{one.namespace}/{one.name}"
            if (one.kind, name) not in known:
                found.append(self._finding(one.kind, name, billed=True))
        return found

    def _finding(self, kind: str, name: str, *, billed: bool) -> Finding:
        return Finding(kind=kind, id=name, where=f"cluster {self.site.name}", billed=billed)

    def _await(self, step: Step, look: "_Look", patience: Patience) -> None:
        def names() -> list[str]:
            return [str(one) for one in look()]

        patience.until_none(step, names, lambda: self.why(look()))

    def stuck(self) -> list[str]:
        """Why objects of the state that somebody has asked to go are still there, one line each."""
        lines: list[str] = []
        for one in self.site.objects:
            metadata = self.api.metadata(one.api_version, one.kind, one.namespace, one.name)
            if metadata is not None and metadata.get("deletionTimestamp"):
                lines += self.why([one])
        return lines

    def why(self, left: Sequence[ObjectReference]) -> list[str]:
        """Why each object does not go."""
        return [line for one in left if (line := self._why(one)) is not None]

    def _why(self, one: ObjectReference) -> str | None:
        found = self.api.get(_path(one))
        if found is None:
            return None
        metadata: Mapping[str, Any] = found["metadata"]
        where = f"cluster {self.site.name}: "
        if not metadata.get("deletionTimestamp"):
            return f"{where}{one} is there and nobody has asked for its deletion; run the same command again"
        return where + finalizers.explain(one, metadata, list(_conditions(found)))


class _Look(Protocol):
    def __call__(self) -> Sequence[ObjectReference]: ...


def _conditions(found: Json) -> Iterator[str]:
    conditions: Sequence[Mapping[str, Any]] = mapping(found.get("status")).get("conditions") or ()
    for condition in conditions:
        if condition.get("status") == "True" and condition.get("type", "").startswith("Namespace"):
            yield str(condition.get("message") or condition["type"])


def _path(one: ObjectReference) -> str:
    return object_path(one.api_version, one.kind, one.namespace, one.name)


def _background() -> Json:
    return {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
