"""Wrong settings for a cluster of others: one message per mistake, at the key to change."""

from collections.abc import Callable
from typing import Any

import pytest

from stacks.settings import SettingsError, parse
from tests.support.stack_files import platform_object

Change = Callable[[dict[str, Any]], object]


def mistakes(change: Change, stack: str) -> list[str]:
    value = platform_object(stack)
    change(value)
    with pytest.raises(SettingsError) as error:
        parse(value)
    return str(error.value).splitlines()[1:]


WRONG: dict[str, tuple[str, Change, list[str]]] = {
    "an operator of one's own without cluster-admin": (
        "namespaced",
        lambda p: p["kuberay"].update(install="chart", repository=None, chart="./charts/kuberay"),
        ["kuberay.install", "cluster.access is namespace", "set it to existing"],
    ),
    "a quota without cluster-admin": (
        "namespaced",
        lambda p: p.update(quota={"pods": 10}),
        ["spillway:platform.quota", "the quota is the administrator's", "remove it"],
    ),
    "a volume without cluster-admin": (
        "namespaced",
        lambda p: p["models"][0].update(source={"hostFolder": "/data"}),
        ["models[0].source.hostFolder", "needs a PersistentVolume", "volumeClaim"],
    ),
    "a model from the hub, offline": (
        "namespaced",
        lambda p: p["models"][0].update(source={"huggingFace": "a/b"}),
        ["models[0].source.huggingFace", "network.offline is true", "volumeClaim"],
    ),
    "a proxy, offline": (
        "namespaced",
        lambda p: p["network"].update(proxy={"http": "http://proxy:3128"}),
        ["network.proxy", "leads to the internet", "remove one of the two"],
    ),
    "a chart from the internet, offline": (
        "namespaced",
        lambda p: p.update(cluster={}, kuberay={}),
        ["kuberay.repository", "is not on images.mirror", "oci://"],
    ),
    "a proxy with a password": (
        "proxied",
        lambda p: p["network"]["proxy"].update(http="http://user:hunter2@proxy:3128"),
        ["network.proxy.http", "without user and password"],
    ),
    "no proxy in proxy": (
        "proxied",
        lambda p: p["network"].update(proxy={"noProxy": ["a"]}),
        ["network.proxy", "names no proxy"],
    ),
    "a mirror with a scheme": (
        "proxied",
        lambda p: p["images"].update(mirror="https://registry.example.com"),
        ["images.mirror", "REGISTRY[/PATH] without https://"],
    ),
    "a mirror that Docker takes for a Docker Hub user": (
        "proxied",
        lambda p: p["images"].update(mirror="registry/llm"),
        ["images.mirror", "REGISTRY[/PATH]"],
    ),
    "both kinds of route": (
        "proxied",
        lambda p: p["gateway"]["route"].update(ingress={}),
        ["gateway.route", "both httpRoute and ingress", "exactly one"],
    ),
    "neither kind of route": (
        "proxied",
        lambda p: p["gateway"]["route"].pop("httpRoute"),
        ["gateway.route", "neither httpRoute nor ingress"],
    ),
    "a certificate for plain http": (
        "namespaced",
        lambda p: p["gateway"]["route"].update(scheme="http"),
        ["gateway.route", "scheme http does not go with ingress.tlsSecret"],
    ),
    "a host name with a scheme": (
        "proxied",
        lambda p: p["gateway"]["route"].update(hostnames=["https://llm.example.com"]),
        ["gateway.route.hostnames[0]", "a host name in lower case"],
    ),
}


@pytest.mark.parametrize(("stack", "change", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_message_at_the_key_to_change(stack: str, change: Change, words: list[str]) -> None:
    lines = mistakes(change, stack)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]
    assert "hunter2" not in lines[0]


def test_every_model_that_cannot_be_downloaded_is_named() -> None:
    def change(platform: dict[str, Any]) -> None:
        model = {**platform["models"][0], "source": {"huggingFace": "a/b"}}
        platform["models"] = [{**model, "name": name, "servedName": name} for name in ("a", "b")]

    lines = mistakes(change, "namespaced")
    assert ["models[0]" in lines[0], "models[1]" in lines[1]] == [True, True], lines


@pytest.mark.parametrize(
    ("chart", "repository"),
    [
        ("oci://registry.example.com/charts/kuberay-operator", None),
        ("./charts/kuberay", None),
        ("kuberay-operator", "https://registry.example.com/helm"),
    ],
)
def test_offline_a_chart_may_come_from_the_mirror_a_registry_or_the_project(
    chart: str, repository: str | None
) -> None:
    platform = platform_object("namespaced")
    platform.update(cluster={}, kuberay={"chart": chart, "repository": repository})
    assert parse(platform).network.offline
