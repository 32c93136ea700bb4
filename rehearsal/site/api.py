"""A small client of the Kubernetes API: JSON over TLS with a client certificate, nothing more."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from rehearsal.site.certificates import CLUSTER_CA, certificate_file, key_file
from rehearsal.site.layout import API_PORT, NODE_IP, SiteLayout
from rehearsal.site.network import NetworkNamespace

FIELD_MANAGER = "spillway-site"
TIMEOUT_S = 10.0

# Plural and whether it lives in a namespace, by kind: those that the site and its tests use.
_KINDS: Mapping[str, tuple[str, bool]] = {
    "ClusterRole": ("clusterroles", False),
    "ClusterRoleBinding": ("clusterrolebindings", False),
    "ConfigMap": ("configmaps", True),
    "CustomResourceDefinition": ("customresourcedefinitions", False),
    "Deployment": ("deployments", True),
    "EndpointSlice": ("endpointslices", True),
    "Job": ("jobs", True),
    "MutatingAdmissionPolicy": ("mutatingadmissionpolicies", False),
    "MutatingAdmissionPolicyBinding": ("mutatingadmissionpolicybindings", False),
    "Namespace": ("namespaces", False),
    "Node": ("nodes", False),
    "Pod": ("pods", True),
    "RayService": ("rayservices", True),
    "Role": ("roles", True),
    "RoleBinding": ("rolebindings", True),
    "Secret": ("secrets", True),
    "Service": ("services", True),
    "ServiceAccount": ("serviceaccounts", True),
}

Json = dict[str, Any]
Connect = Callable[[float], socket.socket]


class ApiError(Exception):
    """The API server refused a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def object_path(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    """Returns the path of an object, or of its collection if `name` is None."""
    plural, namespaced = _KINDS[kind]
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    inside = f"/namespaces/{quote(namespace or 'default')}" if namespaced else ""
    return f"{root}{inside}/{plural}" + (f"/{quote(name)}" if name else "")


class ApiClient:
    """Speaks to one API server; one connection per request, so that it may be used from several threads."""

    def __init__(self, connect: Connect, tls: ssl.SSLContext, host: str) -> None:
        self._connect = connect
        self._tls = tls
        self._host = host

    @classmethod
    def inside(cls, layout: SiteLayout, user: str = "admin") -> "ApiClient":
        """A client that dials inside the site's network namespace, as the given certificate's user."""
        tls = ssl.create_default_context(cafile=str(certificate_file(layout, CLUSTER_CA)))
        tls.load_cert_chain(certificate_file(layout, user), key_file(layout, user))
        namespace = NetworkNamespace(layout)
        return cls(lambda timeout: namespace.connect(NODE_IP, API_PORT, timeout), tls, NODE_IP)

    def request(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> bytes:
        """Sends a request and returns the body of the answer.

        Raises:
            ApiError: The API server answered with an error.
            OSError: It could not be reached or broke the connection.
        """
        connection, response = self._send(method, path, body, content_type, timeout_s)
        try:
            data = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the API server broke the connection: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(response.status, _message(data))
        return data

    def get(self, path: str, **query: str) -> Json:
        """Returns the object or list at a path."""
        return json.loads(self.request("GET", f"{path}?{urlencode(query)}" if query else path))

    def apply(self, document: Json) -> Json:
        """Creates or updates an object by server-side apply."""
        metadata = document["metadata"]
        path = object_path(
            document["apiVersion"], document["kind"], metadata.get("namespace"), metadata["name"]
        )
        return self.apply_text(path, json.dumps(document).encode())

    def apply_text(self, path: str, text: bytes, *, timeout_s: float = 30.0) -> Json:
        """Like `apply`, for YAML or JSON text of an object at a known path."""
        query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        answer = self.request(
            "PATCH", f"{path}?{query}", text, content_type="application/apply-patch+yaml", timeout_s=timeout_s
        )
        return json.loads(answer)

    def delete(self, path: str, **options: object) -> None:
        """Deletes an object; one that is not there is fine."""
        try:
            self.request("DELETE", path, dict(options) or None)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def watch(self, path: str, *, resource_version: str, seconds: int) -> Iterator[Json]:
        """Yields the changes of a collection for at most `seconds`."""
        query = urlencode({"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": seconds})
        connection, response = self._send("GET", f"{path}?{query}", None, "application/json", seconds + 5.0)
        try:
            if response.status >= 400:
                raise ApiError(response.status, _message(response.read()))
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: Json | bytes | None, content_type: str, timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(self._host, timeout=timeout_s)
        plain = self._connect(timeout_s)
        try:
            # http.client takes a socket that is already there for a connection that is already open.
            connection.sock = self._tls.wrap_socket(plain, server_hostname=self._host)
            headers = {"Accept": "application/json"} | (
                {"Content-Type": content_type} if data is not None else {}
            )
            connection.request(method, path, body=data, headers=headers)
            return connection, connection.getresponse()
        except http.client.HTTPException as error:
            plain.close()
            raise ConnectionError(f"the API server broke the connection: {error!r}") from error
        except BaseException:
            plain.close()
            raise


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()[:500]
