"""A client of the site's API server that reads and writes, over sockets of the site's network namespace.

`runtime.cluster.ClusterApi` is the other one: it reaches any cluster by its kubeconfig.
"""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from rehearsal.site.certificates import CLUSTER_CA, certificate_file, key_file
from rehearsal.site.layout import API_PORT, NODE_IP, SiteLayout
from rehearsal.site.network import NetworkNamespace
from runtime.cluster import object_path, told

FIELD_MANAGER = "spillway-site"
TIMEOUT_S = 10.0

Json = dict[str, Any]
Connect = Callable[[float], socket.socket]


# "etcdserver: request timed out" is a 500, "storage is (re)initializing" a 429.
_BUSY = frozenset({429, 500, 503, 504})
_APPLY_TRIES, _APPLY_PAUSE_S = 6, 2.0


class ApiError(Exception):
    """The API server refused a request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


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
            raise ApiError(response.status, told(data))
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
        """Like `apply`, for YAML or JSON text of an object at a known path.

        What is applied may be applied again, so an API server whose etcd is slow is asked a few times: etcd
        waits for the disk at each write, and gigabytes of images go to the same disk while a site starts.
        """
        query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        kind = "application/apply-patch+yaml"
        for tries_left in reversed(range(_APPLY_TRIES)):
            try:
                return json.loads(
                    self.request("PATCH", f"{path}?{query}", text, content_type=kind, timeout_s=timeout_s)
                )
            except (ApiError, TimeoutError) as error:
                busy = isinstance(error, TimeoutError) or error.status in _BUSY
                if not busy or not tries_left:
                    raise
                time.sleep(_APPLY_PAUSE_S)
        raise AssertionError("the last try returns or raises")

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
                raise ApiError(response.status, told(response.read()))
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
