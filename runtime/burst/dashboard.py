"""Ray's dashboard as the burst controller uses it: what a Serve deployment runs, and how many it shall run.

The scaling call is Ray Serve's external scaler (alpha in 2.60); docs/adr/0018 says what was seen of it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import quote

from runtime.cluster import ClusterError

APPLICATIONS = "/api/serve/applications/"
_TOKEN_HEADER = "x-ray-authorization"  # noqa: S105 - the header's name
_TEXT = 300


class DashboardError(Exception):
    """The dashboard did not do what was asked; the text is the whole message."""


class UnreachableDashboardError(DashboardError):
    """Nobody answered, or only what stands before the dashboard."""


class Transport(Protocol):
    """What carries a request: a ClusterApi, of the API server or of the dashboard itself."""

    def exchange(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Sends one request; returns status and body, or raises ClusterError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What Serve says of one deployment.

    Attributes:
        wanted: Replicas that it is told to run.
        ready: Replicas that answer. A deployment is HEALTHY while all of them still start.
        starting: Replicas that do not answer yet.
        application: The application's status, such as RUNNING.
    """

    wanted: int
    ready: int
    starting: int
    application: str


def proxied(namespace: str, service: str, port: int) -> str:
    """The path of a Service behind an API server's proxy."""
    return f"/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy"


class Dashboard:
    """One Ray head's dashboard.

    Args:
        transport: What carries the requests.
        prefix: What comes before the dashboard's own paths.
        token: Gives Ray's token, anew for each request.
    """

    def __init__(self, transport: Transport, prefix: str, token: Callable[[], str]) -> None:
        self._transport = transport
        self._prefix = prefix
        self._token = token

    def deployment(self, application: str, name: str) -> Deployment:
        """What a deployment runs.

        Raises:
            UnreachableDashboardError: Nobody answered.
            DashboardError: It was refused, or there is no such deployment (an application that is being
                built anew has none).
        """
        answer = self._ask("GET", APPLICATIONS)
        found = _dict(_dict(answer.get("applications")).get(application))
        deployments = _dict(found.get("deployments"))
        if name not in deployments:
            raise DashboardError(
                f"Ray has no deployment {name} of application {application} (status "
                f"{found.get('status') or 'not deployed'})"
            )
        told = _dict(deployments[name])
        replicas = cast("list[dict[str, Any]]", told.get("replicas") or [])
        states = [str(replica.get("state")) for replica in replicas]
        wanted: object = told.get("target_num_replicas")
        if not isinstance(wanted, int):
            raise DashboardError(f"Ray does not say how many replicas {name} shall have: {wanted!r}")
        return Deployment(
            wanted=wanted,
            ready=states.count("RUNNING"),
            starting=sum(state in {"STARTING", "UPDATING", "RECOVERING"} for state in states),
            application=str(found.get("status")),
        )

    def scale(self, application: str, name: str, replicas: int) -> None:
        """Tells Serve how many replicas a deployment shall have. The same number again changes nothing.

        Raises:
            UnreachableDashboardError: Nobody answered; it may have been done.
            DashboardError: It was refused.
        """
        path = f"/api/v1/applications/{quote(application)}/deployments/{quote(name)}/scale"
        self._ask("POST", path, {"target_num_replicas": replicas})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            headers = {
                _TOKEN_HEADER: f"Bearer {self._token()}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            }
            status, answer = self._transport.exchange(method, self._prefix + path, body, headers)
        except (ClusterError, OSError) as error:
            raise UnreachableDashboardError(str(error)) from None
        text = answer.decode(errors="replace").strip()[:_TEXT]
        if status in _HINTS:
            kind = UnreachableDashboardError if status in _NOBODY else DashboardError
            raise kind(f"{_HINTS[status]} ({status}: {text})")
        if status != 200:
            raise DashboardError(f"{method} {path} answers {status}: {text}")
        try:
            return _dict(json.loads(answer or b"{}"))
        except ValueError:
            raise DashboardError(f"{method} {path} answers no JSON: {text}") from None


_NOBODY = frozenset({502, 503, 504})
_HINTS = {
    401: "no access: a token is missing or has run out, the API server's or Ray's",
    403: "no access: Ray does not know this token, or the ServiceAccount lacks services/proxy",
    404: "there is no such Service, application or deployment",
    412: "the application does not let itself be scaled (external_scaler_enabled)",
    502: "Ray's head does not answer",
    503: "Ray's head does not answer",
    504: "Ray's head does not answer",
}


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
