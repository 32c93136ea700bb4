"""A small client of the Kubernetes API, with the credentials of a kubeconfig or of the pod it runs in."""

import base64
import contextlib
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from runtime.cluster.kubeconfig import Access, ExecPlugin

TIMEOUT_S = 10.0
_PLUGIN_TIMEOUT_S = 60.0
_LEAST_WAIT_S = 0.1
# Metadata is all that is asked of an object, so a Secret's content never comes here.
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
# Statuses of a server that has not begun, if it says when to try again: it has too much to do, it starts or
# stops, or the storage of a custom resource's kind has just changed.
_NOT_NOW = frozenset({http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE})

Json = dict[str, Any]


class ClusterError(Exception):
    """The cluster could not be read or written; the text is the whole message."""


class UnreachableError(ClusterError):
    """No answer from the API server."""


class ForbiddenError(ClusterError):
    """The identity may not do this."""


class ConflictError(ClusterError):
    """The object exists already, or is not the one any more that was read."""


class Objects(Protocol):
    """What looks an object up: a ClusterApi, or a test's stand-in."""

    def metadata(
        self, api_version: str, kind: str, namespace: str | None, name: str
    ) -> dict[str, Any] | None:
        """Returns an object's metadata, or None if there is no such object."""
        ...


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: str


class ClusterApi:
    """One cluster over one connection that is kept; may be used from several threads, one after the other.

    Args:
        access: Where the cluster is, and who asks.
        timeout_s: How long one answer may take, in seconds; and for how long a server that asks for patience
            (429 or 503 with `Retry-After`) is asked again.
    """

    def __init__(self, access: Access, timeout_s: float = TIMEOUT_S) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._headers: dict[str, str] = {}

    def get(self, path: str, accept: str = "application/json") -> Json | None:
        """Returns what is at a path, or None if nothing is.

        Raises:
            UnreachableError: There was no answer.
            ForbiddenError: The credentials do not allow it.
            ClusterError: They were refused, or the server failed.
        """
        return self._answered("GET", path, None, {"Accept": accept})

    def write(self, method: Literal["POST", "PUT", "PATCH", "DELETE"], path: str, body: Json) -> Json | None:
        """Creates, replaces, merges into (JSON merge patch) or deletes an object.

        Returns:
            The object as it is now, or None if what is at the path, or what it belongs to, is not there.

        Raises:
            ConflictError: It exists already, or was changed by another since it was read.
            UnreachableError, ForbiddenError, ClusterError: As `get`. After UnreachableError the write may
                have been done all the same.
        """
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self._answered(method, path, body, {"Content-Type": kind})

    def exchange(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Sends one request and returns status and body as they come, for what the API server only passes on.

        Raises:
            UnreachableError: There was no answer.
            ClusterError: There are no credentials to ask with.
        """
        status, answer, _ = self._exchange(method, path, body, headers or {})
        return status, answer

    def _exchange(self, method: str, path: str, body: Json | None, headers: Mapping[str, str]) -> _Answer:
        data = None if body is None else json.dumps(body).encode()
        with self._lock:
            answer = self._ask(method, path, data, headers)
            if answer.status == http.client.UNAUTHORIZED and self._access.plugin is not None:
                # Credentials of a plugin run out while a connection is kept.
                self._close()
                answer = self._ask(method, path, data, headers)
        return answer

    def _answered(self, method: str, path: str, body: Json | None, headers: Mapping[str, str]) -> Json | None:
        patience_s = self._timeout_s
        answer = self._exchange(method, path, body, headers)
        while answer.status in _NOT_NOW and answer.retry_after.isdecimal():
            wait_s = max(float(answer.retry_after), _LEAST_WAIT_S)
            patience_s -= wait_s
            if patience_s < 0:
                break
            time.sleep(wait_s)
            answer = self._exchange(method, path, body, headers)
        return self._content(answer.status, answer.body)

    def _content(self, status: int, body: bytes) -> Json | None:
        if status == http.client.NOT_FOUND:
            return None
        if status == http.client.CONFLICT:
            raise ConflictError(f"{self._access.server}: {told(body)}")
        if status == http.client.FORBIDDEN:
            raise ForbiddenError(f"{self._access.server} does not allow it: {told(body)}")
        if status == http.client.UNAUTHORIZED:
            raise ClusterError(
                f"{self._access.server} does not accept the credentials of context "
                f"{self._access.context!r}; renew them"
            )
        if status >= http.client.BAD_REQUEST:
            raise ClusterError(f"{self._access.server} answered {status}: {told(body)}")
        return cast("Json", json.loads(body))

    def metadata(self, api_version: str, kind: str, namespace: str | None, name: str) -> Json | None:
        """Returns the metadata of an object, or None if there is none. Raises what `get` raises."""
        found = self.get(object_path(api_version, kind, namespace, name), _METADATA)
        return None if found is None else cast("Json", found["metadata"])

    def _ask(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> _Answer:
        # A kept connection may have been closed by the server meanwhile; then one more is opened.
        for attempt in (1, 2):
            try:
                connection = self._connection or self._connect()
                self._connection = connection
                connection.request(method, path, data, {**self._headers, **self._own_token(), **headers})
                response = connection.getresponse()
                return _Answer(response.status, response.read(), response.headers.get("Retry-After", ""))
            except (OSError, http.client.HTTPException) as error:
                self._close()
                if attempt == 2 or isinstance(error, ssl.SSLCertVerificationError | TimeoutError):
                    raise UnreachableError(
                        f"no answer from {self._access.server} (context {self._access.context!r}): {error}"
                    ) from error
        raise AssertionError("the second attempt returns or raises")

    def _own_token(self) -> dict[str, str]:
        # The kubelet writes a pod's token anew before it runs out, so it is read each time.
        file = self._access.token_file
        return {} if file is None else {"Authorization": f"Bearer {file.read_text().strip()}"}

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        access, certificate = self._access, self._access.certificate
        token = access.token
        if access.plugin is not None:
            credentials = _credentials(access.plugin)
            token = credentials.get("token")
            if credentials.get("clientCertificateData"):
                certificate = (
                    credentials["clientCertificateData"].encode(),
                    credentials["clientKeyData"].encode(),
                )
        if token:
            self._headers = {"Authorization": f"Bearer {token}"}
        elif access.basic:
            pair = base64.b64encode(":".join(access.basic).encode()).decode()
            self._headers = {"Authorization": f"Basic {pair}"}
        url = urlsplit(access.server)
        host = url.hostname or ""
        if url.scheme == "http":
            return http.client.HTTPConnection(host, url.port or 80, timeout=self._timeout_s)
        port, tls = url.port or 443, _context(access, certificate)
        proxy = access.proxy or ("" if proxy_bypass(host) else getproxies().get("https", ""))
        if not proxy:
            return _Tls(host, port, access.server_name or host, tls, self._timeout_s)
        way = urlsplit(proxy)
        if way.scheme != "http" or way.hostname is None:
            raise ClusterError(
                f"{access.server} is behind {proxy}, which Spillway cannot ask through; allowed: http://HOST:PORT"
            )
        connection = _Tls(way.hostname, way.port or 80, access.server_name or host, tls, self._timeout_s)
        connection.set_tunnel(host, port)
        return connection


class _Tls(http.client.HTTPSConnection):
    """HTTPS whose certificate may be for another name than the host's (`tls-server-name`)."""

    def __init__(
        self, host: str, port: int, server_name: str, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._tls, self._server_name = context, server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def object_path(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    """Returns the path of an object, or of its collection if `name` is None; no namespace is all of them."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    inside = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{inside}/{plural(kind)}" + (f"/{quote(name)}" if name else "")


def plural(kind: str) -> str:
    """The name of a kind in paths and roles: `NetworkPolicy` is `networkpolicies`."""
    word = kind.lower()
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith("s") else f"{word}s"


def _context(access: Access, certificate: tuple[bytes, bytes] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=access.ca.decode() if access.ca else None)
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        # Python's ssl takes a client certificate from files only; these are gone again at once.
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("certificate", "key")]
            for file, content in zip(files, certificate, strict=True):
                file.touch(mode=0o600)
                file.write_bytes(content)
            context.load_cert_chain(files[0], files[1])
    return context


def _credentials(plugin: ExecPlugin) -> Mapping[str, str]:
    """Runs a credential plugin (https://kubernetes.io/docs/reference/config-api/client-authentication.v1/)."""
    request = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **plugin.environment, "KUBERNETES_EXEC_INFO": json.dumps(request)}
    try:
        done = subprocess.run(
            [plugin.command, *plugin.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PLUGIN_TIMEOUT_S,
            check=True,
        )
        return cast("Mapping[str, str]", json.loads(done.stdout)["status"])
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        raise ClusterError(
            f"the credential plugin {plugin.command} failed with {error.returncode}: {said or 'no message'}; "
            "log in to the cluster's provider and try again"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"the credential plugin {plugin.command} gave no answer within {_PLUGIN_TIMEOUT_S:.0f} s; "
            "run it by hand and see what it waits for"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise ClusterError(f"the credential plugin {plugin.command} gave no credentials: {error}") from None


def told(body: bytes) -> str:
    """What the API server says in the body of a refusal."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["message"])
    return body.decode(errors="replace").strip()[:300]
