"""Image references: what Docker leaves unsaid in them, and where a registry mirror has the image."""

import pytest

from runtime.images import full_name, mirrored, registry_host, tag_of

MIRROR = "registry.example.com:5000/llm"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("envoyproxy/envoy:v1.40.0", "envoyproxy/envoy:v1.40.0"),
        ("redis:8", "library/redis:8"),
        ("docker.io/redis:8", "library/redis:8"),
        ("docker.io/library/redis:8", "library/redis:8"),
        ("index.docker.io/redis:8", "library/redis:8"),
        ("quay.io/kuberay/operator:v1.6.2", "kuberay/operator:v1.6.2"),
        ("quay.io/operator:v1.6.2", "operator:v1.6.2"),
        ("localhost/tool:1", "tool:1"),
        ("localhost:5000/team/tool:1", "team/tool:1"),
        (f"rayproject/ray-llm@{DIGEST}", f"rayproject/ray-llm@{DIGEST}"),
        (f"redis@{DIGEST}", f"library/redis@{DIGEST}"),
        (f"ghcr.io/a/b/c:1.2@{DIGEST}", f"a/b/c:1.2@{DIGEST}"),
    ],
)
def test_a_mirror_takes_the_registrys_place_and_nothing_is_left_unsaid(image: str, path: str) -> None:
    assert mirrored(image, MIRROR) == f"{MIRROR}/{path}"


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("redis:8", "docker.io/library/redis:8", "8"),
        ("rayproject/ray-llm:2.60.0", "docker.io/rayproject/ray-llm:2.60.0", "2.60.0"),
        ("localhost:5000/tool", "localhost:5000/tool", ""),
        (f"quay.io/a/b:v1@{DIGEST}", f"quay.io/a/b:v1@{DIGEST}", "v1"),
    ],
)
def test_a_reference_is_written_in_full_and_its_tag_is_told_from_a_port(
    image: str, name: str, tag: str
) -> None:
    assert (full_name(image), tag_of(image)) == (name, tag)


def test_an_image_on_the_mirror_stays_where_it_is() -> None:
    there = mirrored("redis:8", MIRROR)
    assert mirrored(there, MIRROR) == there


def test_without_a_mirror_a_reference_is_left_alone() -> None:
    assert mirrored("redis:8", None) == "redis:8"


def test_a_reference_without_a_registry_is_on_docker_hub() -> None:
    assert registry_host("redis:8") == "docker.io"
    assert registry_host(f"{MIRROR}/redis:8") == "registry.example.com:5000"
