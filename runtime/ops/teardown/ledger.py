"""What a stack was, read from its exported state before anything goes: where to look for what may be left."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import TypeAdapter

from runtime.labels import PLATFORM_LABEL
from runtime.ops.deletions import ObjectReference
from runtime.tenure import PLATFORM_TAG, STACK_TAG, Tenure

CLAIM = "spillway.dev/claim"
_EKS_CLUSTER = "aws:eks/cluster:Cluster"
# What every stack with SageMaker endpoints has, and no other: it never has an EKS cluster.
_HOSTING_KEYS = "spillway:aws:HostingKeys"
_STACK_CLAIM = "spillway:kubernetes:StackClaim"
_KUBERNETES_PROVIDER = "pulumi:providers:kubernetes"
_AWS_PROVIDER = "pulumi:providers:aws"


@dataclass(frozen=True)
class AwsResource:
    """A resource in AWS as the state knows it: its Pulumi type, and the id that the provider gave it."""

    type: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """An AWS account and region that a stack has something in.

    Attributes:
        account: Its 12 digits.
        region: The region.
        stack: Value of the tag `spillway:stack` there.
        platform: Value of the tag `spillway:platform`.
        clusters: Names of the EKS clusters; empty for a stack with SageMaker endpoints.
        role_arn: Role to take on, or None.
        external_id: What its trust policy asks for, or None.
        resources: Everything that the state has there.
    """

    account: str
    region: str
    stack: str
    platform: str
    clusters: tuple[str, ...] = ()
    role_arn: str | None = None
    external_id: str | None = None
    resources: tuple[AwsResource, ...] = ()

    def ids(self, type_: str) -> tuple[str, ...]:
        """Ids of the resources of one Pulumi type."""
        return tuple(one.id for one in self.resources if one.type == type_)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A Kubernetes cluster that a stack has something on.

    Attributes:
        name: Name of the Pulumi provider.
        kubeconfig: Path of the kubeconfig; None where the state has its content, which is not written down.
        context: Context in it.
        eks: Name of the EKS cluster that it is; None for any other cluster.
        platform: Value of the label `spillway.dev/platform`.
        claims: Namespace to the claim that it, or the ConfigMap in it, bears.
        own: Those of the namespaces that the stack made, and that go with it.
        objects: Everything that the state has there.
        uid: What tells the cluster from others (`LiveSite.identify`), once a claim was found there.
    """

    name: str
    kubeconfig: str | None = None
    context: str | None = None
    eks: str | None = None
    platform: str = ""
    claims: Mapping[str, str]
    own: tuple[str, ...] = ()
    objects: tuple[ObjectReference, ...] = ()
    uid: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a stack was.

    Attributes:
        stack: Its name, as the CLI takes it.
        tenure: What it said of itself; None where it came to an end before it did.
        clouds: Where in AWS it was.
        sites: On which clusters.
    """

    stack: str
    tenure: Tenure | None = None
    clouds: tuple[Cloud, ...] = ()
    sites: tuple[Site, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.clouds or self.sites)

    def to_json(self) -> str:
        """For a file; it holds no secrets."""
        return _LEDGER.dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str | bytes) -> "Ledger":
        """Reads what `to_json` wrote. Raises ValueError where it is something else."""
        return _LEDGER.validate_json(text)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of an exported state.

    Attributes:
        urn: Its URN.
        type: Pulumi type.
        id: What the provider calls it; empty for components.
        inputs: Its inputs, with secrets in plain text if the state was exported so.
        outputs: Its outputs.
        provider: URN of its provider; empty for components.
        needs: URNs that it depends on.
        custom: Whether a provider made it.
        protect: Whether Pulumi refuses to delete it.
        retained: Whether a destroy leaves it where it is.
        external: Whether the program only reads it; it is somebody else's.
        changed: When it was made or last changed, as ISO 8601; empty where the state does not say.
    """

    urn: str
    type: str
    id: str = ""
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    provider: str = ""
    needs: frozenset[str] = frozenset()
    custom: bool = True
    protect: bool = False
    retained: bool = False
    external: bool = False
    changed: str = ""

    @property
    def name(self) -> str:
        """Its name in the program."""
        return self.urn.rpartition("::")[2]

    @property
    def words(self) -> str:
        """What to call it in a message, such as `Bucket llm-burst-storage (llm-burst-models-…)`."""
        physical = f" ({self.id})" if self.id and self.id != self.name else ""
        return f"{self.type.rpartition(':')[2]} {self.name}{physical}"


def resources_of(state: Mapping[str, Any]) -> list[Resource]:
    """The resources of what `pulumi stack export` printed."""
    return _resources(state.get("deployment", {}).get("resources") or [])


def _resources(listed: Sequence[Mapping[str, Any]]) -> list[Resource]:
    return [
        Resource(
            urn=str(one["urn"]),
            type=str(one["type"]),
            id=str(one.get("id") or ""),
            inputs=mapping(_plain(one.get("inputs"))),
            outputs=mapping(_plain(one.get("outputs"))),
            provider=str(one.get("provider") or "").rpartition("::")[0],
            needs=frozenset(
                [
                    *(one.get("dependencies") or ()),
                    *(
                        urn
                        for urns in mapping(one.get("propertyDependencies")).values()
                        for urn in urns or ()
                    ),
                ]
            ),
            custom=bool(one.get("custom")),
            protect=bool(one.get("protect")),
            retained=bool(one.get("retainOnDelete")),
            external=bool(one.get("external")),
            changed=str(one.get("modified") or one.get("created") or ""),
        )
        for one in listed
    ]


def pending_of(state: Mapping[str, Any]) -> list[str]:
    """What the state says was begun and not finished, as `creating Vpc llm-burst`."""
    return [
        f"{one['type']} {str(one['resource']['type']).rpartition(':')[2]} "
        f"{str(one['resource']['urn']).rpartition('::')[2]}"
        for one in _operations(state)
    ]


def begun_of(state: Mapping[str, Any]) -> list[Resource]:
    """What a killed Pulumi was making in AWS, with the name that it asked for as its id.

    It may be there, and a refresh forgets it. By that name it is looked for; it is never deleted by it, for
    something of that name may have been there before.
    """
    begun = [one["resource"] for one in _operations(state) if one["type"] == "creating"]
    return [
        replace(one, id=name)
        for one in _resources(begun)
        for name in (_text(one.inputs.get(key)) for key in _NAMES)
        if name is not None and one.type.startswith("aws:")
    ]


_NAMES = ("name", "bucket", "alarmName", "dashboardName", "modelPackageGroupName", "resourceId")
"""Inputs that are what AWS calls a thing, of the types that a stack declares."""


def _operations(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return state.get("deployment", {}).get("pending_operations") or []


def read_ledger(stack: str, resources: Sequence[Resource]) -> Ledger:
    """What a stack is, from its state alone: a stack whose `up` never finished has no outputs.

    Args:
        stack: Its name, as the CLI takes it.
        resources: Its resources, with secrets in plain text.
    """
    tenure = next((found for one in resources if (found := _tenure(one)) is not None), None)
    clouds = [_cloud(one, resources) for one in resources if one.type == _AWS_PROVIDER]
    sites = [_site(one, resources) for one in resources if one.type == _KUBERNETES_PROVIDER]
    return Ledger(stack=stack, tenure=tenure, clouds=tuple(clouds), sites=tuple(sites))


def merged(earlier: Ledger | None, now: Ledger) -> Ledger:
    """What either of two ledgers of a stack knows: the state of a half-done teardown has forgotten a part."""
    if earlier is None:
        return now
    clouds = {(one.account, one.region): one for one in earlier.clouds}
    for one in now.clouds:
        before = clouds.get((one.account, one.region), one)
        clouds[one.account, one.region] = replace(
            one,
            clusters=_union(before.clusters, one.clusters),
            resources=_union(before.resources, one.resources),
        )
    sites = {one.name: one for one in earlier.sites}
    for one in now.sites:
        before = sites.get(one.name, one)
        sites[one.name] = replace(
            one,
            eks=one.eks or before.eks,
            platform=one.platform or before.platform,
            claims={**before.claims, **one.claims},
            own=_union(before.own, one.own),
            objects=_union(before.objects, one.objects),
            uid=one.uid or before.uid,
        )
    return Ledger(
        stack=now.stack,
        tenure=now.tenure or earlier.tenure,
        clouds=tuple(clouds.values()),
        sites=tuple(sites.values()),
    )


def access_of(provider: Resource) -> tuple[str | None, str | None, str | None]:
    """Path of a Kubernetes provider's kubeconfig, or else its content, and the context in it."""
    given = _text(provider.inputs.get("kubeconfig"))
    is_content = given is not None and (given.lstrip().startswith("{") or "\n" in given)
    return None if is_content else given, given if is_content else None, _text(provider.inputs.get("context"))


def providers_of(resources: Iterable[Resource]) -> Iterator[Resource]:
    """The Kubernetes providers."""
    return (one for one in resources if one.type == _KUBERNETES_PROVIDER)


def mapping(value: object) -> Mapping[str, Any]:
    """A value that should be an object; empty where it is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _tenure(one: Resource) -> Tenure | None:
    if one.type == _AWS_PROVIDER:
        return Tenure.of_tags(_default_tags(one))
    if one.type != _STACK_CLAIM:
        return None
    return Tenure.of_annotations(mapping(one.inputs.get("tenure") or one.outputs.get("tenure")))


def _default_tags(provider: Resource) -> Mapping[str, str]:
    return mapping(mapping(_parsed(provider.inputs.get("defaultTags"))).get("tags"))


def _cloud(provider: Resource, resources: Sequence[Resource]) -> Cloud:
    tags = _default_tags(provider)
    roles: Sequence[Mapping[str, Any]] = _parsed(provider.inputs.get("assumeRoles")) or []
    accounts: Sequence[str] = _parsed(provider.inputs.get("allowedAccountIds")) or [""]
    of_it = [one for one in resources if one.provider == provider.urn and one.custom and not one.external]
    clusters = tuple(one.id for one in of_it if one.type == _EKS_CLUSTER)
    if not clusters and all(one.type != _HOSTING_KEYS for one in resources):
        # It may be gone already, and what it made not.
        clusters = _if_any(tags.get(PLATFORM_TAG))
    return Cloud(
        account=str(accounts[0]),
        region=str(provider.inputs.get("region") or ""),
        stack=str(tags.get(STACK_TAG) or ""),
        platform=str(tags.get(PLATFORM_TAG) or ""),
        clusters=clusters,
        role_arn=_text(roles[0].get("roleArn")) if roles else None,
        external_id=_text(roles[0].get("externalId")) if roles else None,
        resources=tuple(AwsResource(one.type, one.id) for one in of_it),
    )


def _site(provider: Resource, resources: Sequence[Resource]) -> Site:
    of_it = [one for one in resources if one.provider == provider.urn and one.custom]
    path, _, context = access_of(provider)
    clusters = {one.urn: one.id for one in resources if one.type == _EKS_CLUSTER}
    claims: dict[str, str] = {}
    own: list[str] = []
    platform = ""
    for one in of_it:
        metadata = mapping(one.inputs.get("metadata"))
        platform = platform or str(mapping(metadata.get("labels")).get(PLATFORM_LABEL) or "")
        claim = mapping(metadata.get("annotations")).get(CLAIM)
        if claim is not None:
            is_own = one.inputs.get("kind") == "Namespace"
            namespace = str(metadata["name"] if is_own else metadata["namespace"])
            claims[namespace] = str(claim)
            own += [namespace] if is_own else []
    return Site(
        name=provider.name,
        kubeconfig=path,
        context=context,
        eks=next((clusters[urn] for urn in provider.needs if urn in clusters), None),
        platform=platform,
        claims=claims,
        own=tuple(own),
        objects=tuple(found for one in of_it if (found := object_of(one)) is not None),
    )


def object_of(one: Resource) -> ObjectReference | None:
    """The object behind a resource; None for what is none, such as a Helm release."""
    inputs = one.inputs
    if not one.type.startswith("kubernetes:") or not {"apiVersion", "kind", "metadata"} <= inputs.keys():
        return None
    metadata: Mapping[str, Any] = inputs["metadata"]
    return ObjectReference(
        str(inputs["apiVersion"]),
        str(inputs["kind"]),
        _text(metadata.get("namespace")),
        str(metadata["name"]),
    )


def _plain(value: Any) -> Any:
    """A value of the state without Pulumi's wrapping of secrets, where it was exported in plain text."""
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    mapping = cast("dict[str, Any]", value)
    if _SIGNATURE in mapping:
        text = mapping.get("plaintext")
        return json.loads(text) if isinstance(text, str) else mapping.get("value")
    return {key: _plain(inside) for key, inside in mapping.items()}


# The key of a marked value in a state (sdk/go/common/resource/sig).
_SIGNATURE = "4dabf18193072939515e22adb298388d"


def _parsed(value: Any) -> Any:
    """An input of a provider, which Pulumi keeps as JSON in a string."""
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _if_any(value: str | None) -> tuple[str, ...]:
    return (value,) if value else ()


def _union(before: tuple[Any, ...], now: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([*before, *now]))


_LEDGER: TypeAdapter[Ledger] = TypeAdapter(Ledger)
