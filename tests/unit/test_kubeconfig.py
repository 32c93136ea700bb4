"""Kubeconfigs as people have them: several contexts, credential plugins, and what is wrong with some."""

import base64
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.cluster import KubeconfigError, read_kubeconfig

GOOD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "lab",
    "contexts": [
        {"name": "lab", "context": {"cluster": "lab", "user": "me"}},
        {"name": "kind-try", "context": {"cluster": "kind-try", "user": "kind-try"}},
    ],
    "clusters": [
        {"name": "lab", "cluster": {"server": "https://lab.example:6443", "tls-server-name": "api"}},
        {
            "name": "kind-try",
            "cluster": {
                "server": "https://127.0.0.1:40001/",
                "certificate-authority-data": base64.b64encode(b"PEM").decode(),
            },
        },
    ],
    "users": [
        {"name": "me", "user": {"token": "secret"}},
        {
            "name": "kind-try",
            "user": {
                "client-certificate-data": base64.b64encode(b"CERT").decode(),
                "client-key-data": base64.b64encode(b"KEY").decode(),
            },
        },
    ],
}

# What `aws eks update-kubeconfig`, `gcloud container clusters get-credentials` and `kubelogin
# convert-kubeconfig` write.
MANAGED: dict[str, tuple[str, list[str], str]] = {
    "eks": ("aws", ["--region", "eu-west-1", "eks", "get-token", "--cluster-name", "c"], "the AWS CLI (EKS)"),
    "gke": ("gke-gcloud-auth-plugin", [], "(GKE)"),
    "aks": ("kubelogin", ["get-token", "--login", "azurecli"], "kubelogin (AKS)"),
    "own": ("corp-login", [], "as your cluster's provider describes"),
}


def written(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    document = copy.deepcopy(GOOD)
    change(document)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def with_plugin(command: str, arguments: list[str]) -> Callable[[dict[str, Any]], object]:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": command,
        "args": arguments,
        "env": [{"name": "AWS_PROFILE", "value": "lab"}],
    }
    return lambda document: document["users"][0].update(user={"exec": plugin})


def test_the_current_context_is_taken_where_none_is_named(tmp_path: Path) -> None:
    access = read_kubeconfig(written(tmp_path))
    assert (access.context, access.server, access.token) == ("lab", "https://lab.example:6443", "secret")
    assert access.server_name == "api"
    assert access.ca is None


def test_a_named_context_is_read_with_its_own_cluster_and_user(tmp_path: Path) -> None:
    access = read_kubeconfig(written(tmp_path), "kind-try")
    assert access.server == "https://127.0.0.1:40001"
    assert (access.ca, access.certificate, access.token) == (b"PEM", (b"CERT", b"KEY"), None)


def test_files_named_in_a_kubeconfig_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"PEM")
    (tmp_path / "token").write_text("from-a-file\n")

    def change(document: dict[str, Any]) -> None:
        document["clusters"][0]["cluster"]["certificate-authority"] = "ca.pem"
        document["users"][0]["user"] = {"tokenFile": "token"}

    access = read_kubeconfig(written(tmp_path, change))
    assert (access.ca, access.token) == (b"PEM", "from-a-file")


def test_a_missing_context_is_one_message_that_lists_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"no context 'prod'; contexts in .*: lab, kind-try; name one"):
        read_kubeconfig(written(tmp_path), "prod")


def test_a_kubeconfig_without_a_current_context_asks_for_one(tmp_path: Path) -> None:
    path = written(tmp_path, lambda document: document.pop("current-context"))
    with pytest.raises(KubeconfigError, match=r"no current context; name one, contexts in .*: lab, kind-try"):
        read_kubeconfig(path)


@pytest.mark.parametrize(("section", "kind"), [("users", "user"), ("clusters", "cluster")])
def test_a_context_whose_half_is_missing_says_which_and_what_is_there(
    section: str, kind: str, tmp_path: Path
) -> None:
    path = written(tmp_path, lambda document: document[section].pop(0))
    with pytest.raises(KubeconfigError, match=rf"names {kind} '(me|lab)', which the file has not.*kind-try"):
        read_kubeconfig(path)


@pytest.mark.parametrize(("command", "arguments", "hint"), MANAGED.values(), ids=MANAGED)
def test_a_plugin_that_is_not_installed_is_named_with_what_to_install(
    command: str, arguments: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KubeconfigError) as error:
        read_kubeconfig(written(tmp_path, with_plugin(command, arguments)))
    message = str(error.value)
    assert f"the plugin '{command}', which is not on PATH" in message
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize(("command", "arguments", "hint"), MANAGED.values(), ids=MANAGED)
def test_a_plugin_that_is_installed_is_kept_with_its_arguments_and_variables(
    command: str, arguments: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / command
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    plugin = read_kubeconfig(written(tmp_path, with_plugin(command, arguments))).plugin
    assert plugin is not None
    assert (plugin.command, list(plugin.arguments)) == (command, arguments)
    assert plugin.environment == {"AWS_PROFILE": "lab"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read as YAML"), ("hello", "is no kubeconfig"), ("", "is no kubeconfig")],
)
def test_a_file_that_is_no_kubeconfig_is_one_message(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=words):
        read_kubeconfig(path)


def test_several_files_in_one_variable_say_how_to_make_one_of_them(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="names several files; make one of them: kubectl config view"):
        read_kubeconfig(Path(f"{tmp_path}/a:{tmp_path}/b"))


def test_certificate_data_that_is_no_base64_is_one_message(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        lambda document: document["clusters"][0]["cluster"].update({"certificate-authority-data": "?"}),
    )
    with pytest.raises(KubeconfigError, match="certificate-authority-data that is no base64"):
        read_kubeconfig(path)
