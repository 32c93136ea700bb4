"""Image references: what Docker leaves unsaid in one, and where a registry mirror has the image."""

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


def mirrored(image: str, mirror: str | None) -> str:
    """Returns the reference under which a mirror has an image; tag and digest stay as they are.

    The mirror takes the registry's place: `quay.io/kuberay/operator:v1` on `registry.example/llm` is
    `registry.example/llm/kuberay/operator:v1`. What Docker leaves unsaid is written out: a reference without
    a registry is Docker Hub's, and an image of one word there is in `library`, so `redis:8` becomes
    `registry.example/llm/library/redis:8`. A reference that is on the mirror already stays.

    Args:
        image: A reference such as `envoyproxy/envoy:v1.40.0`.
        mirror: REGISTRY[/PATH], or None for no mirror.

    Source: https://github.com/distribution/reference (normalize.go, splitDockerDomain).
    """
    if mirror is None or image.startswith(f"{mirror}/"):
        return image
    return f"{mirror}/{_split(image)[1]}"


def full_name(image: str) -> str:
    """Returns a reference with what Docker leaves unsaid: `redis:8` is `docker.io/library/redis:8`."""
    registry, path = _split(image)
    return f"{registry}/{path}"


def tag_of(image: str) -> str:
    """Returns the tag of a reference; empty where it has none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def registry_host(reference: str) -> str:
    """Returns the registry of a reference, with its port: `docker.io` where none is written."""
    return _split(reference)[0]


def _split(image: str) -> tuple[str, str]:
    first, slash, rest = image.partition("/")
    # Docker's own rule: the first part is a registry if it looks like a host.
    is_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_registry else (_DOCKER_HUB[0], image)
    alone = registry in _DOCKER_HUB and "/" not in path
    return registry, f"library/{path}" if alone else path
