"""Reads one context of a kubeconfig, and says what is wrong with it before a provider stumbles over it."""

import base64
import binascii
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

# What to install for the plugins that managed clusters write into a kubeconfig.
_PLUGINS: Mapping[str, str] = {
    "aws": "the AWS CLI (EKS)",
    "aws-iam-authenticator": "aws-iam-authenticator (EKS)",
    "gke-gcloud-auth-plugin": "gke-gcloud-auth-plugin, a component of the gcloud CLI (GKE)",
    "kubelogin": "kubelogin (AKS)",
    "kubectl": "kubectl with its oidc-login plugin",
    "tsh": "the Teleport client",
}


# Where the kubelet mounts it (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/).
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(Exception):
    """A kubeconfig that cannot be used; the text is the whole message, with the fix."""


@dataclass(frozen=True, kw_only=True)
class ExecPlugin:
    """A program that gets credentials.

    Attributes:
        command: The program, found on PATH or relative to the kubeconfig.
        arguments: Its arguments.
        environment: Variables to add to its environment.
        api_version: Version of `client.authentication.k8s.io` that it speaks.
    """

    command: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str]
    api_version: str


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach one cluster as one user; at most one kind of credential is set.

    Attributes:
        context: The context that it is read from.
        server: URL of the API server.
        ca: PEM certificates of its authority; None for the machine's own.
        verify: Whether the server's certificate is checked.
        server_name: Name that the certificate must have where it is not the URL's host.
        proxy: URL of the HTTP proxy to the server; None for what the environment says.
        certificate: PEM client certificate and key.
        token: Bearer token.
        token_file: File with a bearer token that changes.
        basic: User name and password.
        plugin: Program that gets the credentials.
    """

    context: str
    server: str
    ca: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
    certificate: tuple[bytes, bytes] | None = None
    token: str | None = None
    token_file: Path | None = None
    basic: tuple[str, str] | None = None
    plugin: ExecPlugin | None = None


def read_kubeconfig(path: Path, context: str | None = None) -> Access:
    """Reads a context, or the current one.

    Raises:
        KubeconfigError: The file, the context, its cluster or its user cannot be used. A plugin that is not
            installed is reported here too.
    """
    document = _document(path)
    contexts = _named(document, "contexts", "context")
    name = context or _text(document, "current-context")
    allowed = f"contexts in {path}: {', '.join(contexts) or 'none'}"
    if not name:
        raise KubeconfigError(f"{path} has no current context; name one, {allowed}")
    if name not in contexts:
        raise KubeconfigError(f"{path} has no context {name!r}; {allowed}; name one of them")
    cluster_name, user_name = (_text(contexts[name], key) for key in ("cluster", "user"))
    clusters, users = _named(document, "clusters", "cluster"), _named(document, "users", "user")
    for kind, wanted, there in (("cluster", cluster_name, clusters), ("user", user_name, users)):
        if not wanted or wanted not in there:
            raise KubeconfigError(
                f"context {name!r} of {path} names {kind} {wanted or 'none'!r}, which the file has not; "
                f"{kind}s there: {', '.join(there) or 'none'}; write the kubeconfig anew"
            )
    return _access(path, name, clusters[cluster_name], users[user_name])


def read_service_account(folder: Path = SERVICE_ACCOUNT) -> Access:
    """The access that Kubernetes gives a pod, by its environment and the files of its ServiceAccount.

    Raises:
        KubeconfigError: This is no pod, or its ServiceAccount's token is not mounted.
    """
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    token, ca = folder / "token", folder / "ca.crt"
    if not host or not token.is_file():
        raise KubeconfigError(
            f"there is no ServiceAccount of a pod here (KUBERNETES_SERVICE_HOST {host!r}, {token}); name a "
            "kubeconfig instead"
        )
    return Access(
        context="the pod's ServiceAccount",
        server=f"https://{f'[{host}]' if ':' in host else host}:{port or 443}",
        ca=ca.read_bytes() if ca.is_file() else None,
        token_file=token,
    )


def _access(path: Path, name: str, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Access:
    server = _text(cluster, "server")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigError(f"context {name!r} of {path} has server {server!r}, which is no URL")
    certificate = _data(path, user, "client-certificate")
    key = _data(path, user, "client-key")
    plugin = user.get("exec")
    token_file = _text(user, "tokenFile")
    return Access(
        context=name,
        server=server.rstrip("/"),
        ca=_data(path, cluster, "certificate-authority"),
        verify=cluster.get("insecure-skip-tls-verify") is not True,
        server_name=_text(cluster, "tls-server-name") or None,
        proxy=_text(cluster, "proxy-url") or None,
        certificate=(certificate, key) if certificate is not None and key is not None else None,
        token=_text(user, "token")
        or (_file(path, token_file).decode().strip() if token_file else None)
        or None,
        basic=(_text(user, "username"), _text(user, "password")) if user.get("username") else None,
        plugin=_plugin(path, name, cast("Mapping[str, Any]", plugin)) if isinstance(plugin, dict) else None,
    )


def _plugin(path: Path, context: str, described: Mapping[str, Any]) -> ExecPlugin:
    command = _text(described, "command")
    # A command with a folder in it is relative to the kubeconfig, as in kubectl.
    program = str(path.parent / command) if "/" in command else command
    if shutil.which(program) is None:
        what = _PLUGINS.get(Path(command).name, "it, as your cluster's provider describes")
        hint = f" ({hint})" if (hint := _text(described, "installHint").strip()) else ""
        raise KubeconfigError(
            f"context {context!r} of {path} gets its credentials from the plugin {command!r}, which is not "
            f"on PATH; install {what}, or put its folder on PATH{hint}"
        )
    variables: list[Mapping[str, Any]] = described.get("env") or []
    return ExecPlugin(
        command=program,
        arguments=tuple(str(argument) for argument in described.get("args") or ()),
        environment={str(variable["name"]): str(variable["value"]) for variable in variables},
        api_version=_text(described, "apiVersion") or "client.authentication.k8s.io/v1",
    )


def _document(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        several = os.pathsep in str(path)
        fix = (
            "it names several files; make one of them: kubectl config view --flatten > FILE"
            if several
            else "set cluster.kubeconfig or KUBECONFIG to an existing file"
        )
        raise KubeconfigError(f"no kubeconfig at {path}; {fix}")
    try:
        document: object = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise KubeconfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path} is no kubeconfig; name one that kubectl can use")
    return cast("Mapping[str, Any]", document)


def _named(document: Mapping[str, Any], section: str, key: str) -> dict[str, Mapping[str, Any]]:
    entries: object = document.get(section)
    found: dict[str, Mapping[str, Any]] = {}
    for entry in cast("list[Any]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            values = cast("dict[str, Any]", entry)
            found[str(values.get("name"))] = values.get(key) or {}
    return found


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _data(path: Path, values: Mapping[str, Any], key: str) -> bytes | None:
    """Inline as KEY-data in base64, or a file relative to the kubeconfig."""
    inline = _text(values, f"{key}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True)
        except binascii.Error:
            raise KubeconfigError(f"{path} has a {key}-data that is no base64; write it anew") from None
    return _file(path, name) if (name := _text(values, key)) else None


def _file(path: Path, name: str) -> bytes:
    file = path.parent / name
    try:
        return file.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{path} names {file}, which cannot be read: {error.strerror}") from None
