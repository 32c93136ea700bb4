"""Pods: what they may do on their node, how they get secrets, and which images they run."""

from collections.abc import Iterator
from typing import Final

from policies.enforcement import ADVISORY_IN_DEV, ONLY_IN_PROD
from policies.frameworks import cis_eks, cis_kubernetes, gdpr
from policies.reading import Node, Presence, Unreadable
from policies.rule import Answer, ConfigKey, Found, NotApplicable, Problem, Resource, Rule, Severity
from policies.workloads import Pool, read_workload

_NO_PODS: Final = NotApplicable("It creates no pods.")
_HOST: Final = ("hostPID", "hostIPC", "hostNetwork")
# The only capability that restricted Pod Security lets a container have.
_HARMLESS: Final = frozenset({"NET_BIND_SERVICE"})


def pods_of(resource: Resource) -> list[Pool]:
    """The pods that a resource creates and whose spec is there; a head without template has none."""
    workload = read_workload(resource)
    pools = [] if workload is None else workload.pools
    return [pool for pool in pools if pool.pod.presence is not Presence.MISSING]


def containers(pod: Node) -> Iterator[Node]:
    """All containers of a pod.

    Raises:
        Unreadable: Whether there are any is not known.
    """
    for key in ("initContainers", "containers"):
        yield from pod.child(key).items()


def _check_baseline(resource: Resource, _: Node) -> Answer:
    return _NO_PODS if read_workload(resource) is None else _beyond_baseline(resource)


def _beyond_baseline(resource: Resource) -> Found:
    for pool in pods_of(resource):
        try:
            yield from _beyond_baseline_in(pool.pod)
        except Unreadable as problem:
            yield problem


def _beyond_baseline_in(pod: Node) -> Found:
    for key in _HOST:
        if pod.child(key).boolean(default=False):
            yield Problem(f"{pod.path}.{key} is true, so the pod shares it with its node.", "Remove it.")
    for container in containers(pod):
        security = container.child("securityContext")
        if security.child("privileged").boolean(default=False):
            yield Problem(f"{security.path}.privileged is true.", "Ask for the devices by resource instead.")
        if security.child("allowPrivilegeEscalation").boolean(default=True):
            yield Problem(f"{security.path}.allowPrivilegeEscalation is not false.", "Set it to false.")
        added = set(security.child("capabilities", "add").texts()) - _HARMLESS
        if added:
            yield Problem(
                f"{security.path}.capabilities.add has {', '.join(sorted(added))}.",
                "Remove them, and drop ALL.",
            )
        as_user = (security.child("runAsNonRoot"), pod.child("securityContext", "runAsNonRoot"))
        if not any(one.boolean(default=False) for one in as_user):
            yield Problem(
                f"{security.path}.runAsNonRoot is not true, and neither is the pod's.", "Set it to true."
            )


def _check_secrets(resource: Resource, _: Node) -> Answer:
    return _NO_PODS if read_workload(resource) is None else _loose_secrets(resource)


def _loose_secrets(resource: Resource) -> Found:
    for pool in pods_of(resource):
        try:
            for container in containers(pool.pod):
                yield from _secrets_in_environment(container)
            yield from _token_of_nobody(pool)
        except Unreadable as problem:
            yield problem


def _secrets_in_environment(container: Node) -> Found:
    for variable in container.child("env").items():
        if not variable.child("valueFrom", "secretKeyRef").is_missing:
            yield Problem(
                f"{variable.path} puts a Secret into the environment, which crash reports and child "
                "processes get too.",
                "Mount the Secret as a file and give its path.",
            )
    for source in container.child("envFrom").items():
        if not source.child("secretRef").is_missing:
            yield Problem(
                f"{source.path} puts a whole Secret into the environment.", "Mount the Secret as files."
            )


def _token_of_nobody(pool: Pool) -> Found:
    mounted = pool.pod.child("automountServiceAccountToken")
    # KubeRay gives the head of an autoscaled cluster an account of its own.
    if not mounted.boolean(default=True) or pool.sidecar is not None:
        return
    if pool.pod.child("serviceAccountName").text(default="default") == "default":
        yield Problem(
            f"{mounted.path} is not false, and the pod has the namespace's default account.",
            f"Set {mounted.path} to false, or name an account with the rights that it needs.",
        )


def _check_images(resource: Resource, config: Node) -> Answer:
    return _NO_PODS if read_workload(resource) is None else _loose_images(resource, config)


def _loose_images(resource: Resource, config: Node) -> Found:
    registries = tuple(config.child("allowedRegistries").texts())
    for pool in pods_of(resource):
        try:
            for container in containers(pool.pod):
                yield from _loose_image(container, registries)
        except Unreadable as problem:
            yield problem


def _loose_image(container: Node, registries: tuple[str, ...]) -> Found:
    image = container.child("image")
    reference = image.text()
    name, _, digest = reference.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not digest and tag in {"", "latest"}:
        yield Problem(
            f"{image.path} is {reference}, which may be another image at the next start.",
            "Name a version, or better a digest.",
        )
    if registries and not reference.startswith(tuple(f"{one.rstrip('/')}/" for one in registries)):
        yield Problem(
            f"{image.path} is {reference}. Allowed registries: {', '.join(registries)}.",
            "Copy the image there, or add its registry to allowedRegistries of image-pinned.",
        )
    for key in ("command", "args"):
        for word in container.child(key).items():
            if "--trust-remote-code" in word.text():
                yield Problem(
                    f"{word.path} has --trust-remote-code, so the model's repository runs code here.",
                    "Use a model that vLLM knows, or waive this for the revision that you have read.",
                )


def _check_digests(resource: Resource, _: Node) -> Answer:
    return _NO_PODS if read_workload(resource) is None else _without_digest(resource)


def _without_digest(resource: Resource) -> Found:
    loose: list[str] = []
    for pool in pods_of(resource):
        try:
            loose += [
                image.text()
                for container in containers(pool.pod)
                if "@sha256:" not in (image := container.child("image")).text()
            ]
        except Unreadable as problem:
            yield problem
    if loose:
        # One line for a resource: its pods mostly share their image.
        names = ", ".join(dict.fromkeys(loose))
        yield Problem(f"Its pods run {names}, without digest.", "Add @sha256:… to the reference.")


_BAD_POD: Final = Resource(
    "kubernetes:apps/v1:Deployment",
    "vllm",
    {
        "spec": {
            "template": {
                "spec": {
                    "hostIPC": True,
                    "containers": [
                        {
                            "name": "vllm",
                            "image": "vllm/vllm-openai:latest",
                            "args": ["--trust-remote-code"],
                            "env": [
                                {
                                    "name": "HF_TOKEN",
                                    "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}},
                                }
                            ],
                        }
                    ],
                }
            }
        }
    },
)

POD_BASELINE: Final = Rule(
    name="pod-baseline",
    description="Pods share nothing with their node, have no privileges and do not run as root.",
    severity=Severity.HIGH,
    remediation="Set what the message names, as components/kubernetes/pods.py does.",
    enforcement=ADVISORY_IN_DEV,
    controls=(
        *cis_eks("4.2.1", "4.2.2", "4.2.3", "4.2.4", "4.2.5"),
        *cis_kubernetes("5.2.2", "5.2.3", "5.2.4", "5.2.5", "5.2.6", "5.2.7", "5.2.9"),
        *gdpr(32),
    ),
    check=_check_baseline,
    example=_BAD_POD,
)

SECRETS_AS_FILES: Final = Rule(
    name="secrets-as-files",
    description="Pods get Secrets as files, and an account's token only where they name the account.",
    severity=Severity.MEDIUM,
    remediation="Mount Secrets as files; set automountServiceAccountToken to false.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*cis_eks("4.1.5", "4.1.6", "4.4.1"), *cis_kubernetes("5.1.5", "5.1.6", "5.4.1"), *gdpr(32)),
    check=_check_secrets,
    example=_BAD_POD,
)

IMAGE_PINNED: Final = Rule(
    name="image-pinned",
    description="Images have a version and come from allowed registries; no model brings code of its own.",
    severity=Severity.MEDIUM,
    remediation="Name a version or a digest; do without --trust-remote-code.",
    controls=(*cis_eks("5.1.4"), *cis_kubernetes("5.5.1")),
    check=_check_images,
    example=_BAD_POD,
    config={
        "allowedRegistries": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "default": [],
                "description": "Beginnings of allowed image references. Empty: all.",
            },
            example=["registry.example.com/llm"],
        )
    },
)

IMAGE_DIGEST: Final = Rule(
    name="image-digest",
    description="In production images are named by digest.",
    severity=Severity.MEDIUM,
    remediation="Add @sha256:… to the reference.",
    enforcement=ONLY_IN_PROD,
    controls=cis_kubernetes("5.5.1"),
    check=_check_digests,
    example=_BAD_POD,
)
