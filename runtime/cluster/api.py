"""A read-only client of the Kubernetes API: what exists, asked with the credentials of a kubeconfig."""

import base64
import contextlib
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from runtime.cluster.kubeconfig import Access, ExecPlugin

TIMEOUT_S = 10.0
_PLUGIN_TIMEOUT_S = 60.0
# Metadata is all that is asked of an object, so a Secret's content never comes here.
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

Json = dict[str, Any]


class ClusterError(Exception):
    """The cluster could not be read; the text is the whole message."""


class UnreachableError(ClusterError):
    """No answer from the API server."""


class ForbiddenError(ClusterError):
    """The identity may not read this."""


class ClusterApi:
    """Reads one cluster over one connection that is kept; may be used from several threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
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
        with self._lock:
            status, body = self._ask(path, accept)
        if status == http.client.NOT_FOUND:
            return None
        if status == http.client.FORBIDDEN:
            raise ForbiddenError(f"{self._access.server} does not allow it: {_message(body)}")
        if status == http.client.UNAUTHORIZED:
            raise ClusterError(
                f"{self._access.server} does not accept the credentials of context "
                f"{self._access.context!r}; renew them"
            )
        if status >= http.client.BAD_REQUEST:
            raise ClusterError(f"{self._access.server} answered {status}: {_message(body)}")
        return cast("Json", json.loads(body))

    def metadata(self, api_version: str, kind: str, namespace: str | None, name: str) -> Json | None:
        """Returns the metadata of an object, or None if there is none. Raises what `get` raises."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        inside = f"/namespaces/{quote(namespace)}" if namespace else ""
        found = self.get(f"{root}{inside}/{plural(kind)}/{quote(name)}", _METADATA)
        return None if found is None else cast("Json", found["metadata"])

    def _ask(self, path: str, accept: str) -> tuple[int, bytes]:
        # A kept connection may have been closed by the server meanwhile; then one more is opened.
        for attempt in (1, 2):
            try:
                connection = self._connection or self._connect()
                self._connection = connection
                connection.request("GET", path, headers={**self._headers, "Accept": accept})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
                if attempt == 2 or isinstance(error, ssl.SSLCertVerificationError | TimeoutError):
                    raise UnreachableError(
                        f"no answer from {self._access.server} (context {self._access.context!r}): {error}"
                    ) from error
        raise AssertionError("the second attempt returns or raises")

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
            return http.client.HTTPConnection(host, url.port or 80, timeout=TIMEOUT_S)
        port, tls = url.port or 443, _context(access, certificate)
        proxy = access.proxy or ("" if proxy_bypass(host) else getproxies().get("https", ""))
        if not proxy:
            return _Tls(host, port, access.server_name or host, tls)
        way = urlsplit(proxy)
        if way.scheme != "http" or way.hostname is None:
            raise ClusterError(
                f"{access.server} is behind {proxy}, which Spillway cannot ask through; allowed: http://HOST:PORT"
            )
        connection = _Tls(way.hostname, way.port or 80, access.server_name or host, tls)
        connection.set_tunnel(host, port)
        return connection


class _Tls(http.client.HTTPSConnection):
    """HTTPS whose certificate may be for another name than the host's (`tls-server-name`)."""

    def __init__(self, host: str, port: int, server_name: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S, context=context)
        self._tls, self._server_name = context, server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


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


def _message(body: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["message"])
    return body.decode(errors="replace").strip()[:300]
