"""The double's server: moto with the shim behind one loopback port, and our own pages under /spillway.

One call at a time: moto's objects are shared between services and know no locks, and a snapshot must not
see half of a call.
"""

import functools
import json
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

# moto's catalogue of images is large, would be in every snapshot, and nothing here looks at an image.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

from moto.moto_server.werkzeug_app import (  # pyright: ignore[reportMissingTypeStubs]
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from pydantic import ValidationError
from werkzeug.serving import make_server

from rehearsal.aws import node_groups, shim, snapshot
from rehearsal.aws.capacity import Outage, Script
from rehearsal.aws.state import State

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Answer = tuple[str, list[tuple[str, str]], bytes]
# Services of the query and XML protocols, by the names that their signatures have.
_XML = ("autoscaling", "ec2", "elasticloadbalancing", "iam", "s3", "sns", "sts")
_SERVICE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")


class QuietHandler(MotoRequestHandler):
    """Answers without a line for each call; the log would be of the size of the state."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Writes nothing."""


class Double:
    """The WSGI application.

    Attributes:
        state: What is remembered beside moto.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Takes up what was kept in `folder`, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.pickle"
        self._clock = clock
        self._lock = threading.RLock()
        shim.apply(lambda: self.state.script)
        self.state: State = snapshot.load(self._file, State)
        self._moto = _moto()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one call, of AWS or of our own."""
        with self._lock:
            try:
                status, headers, body = self._answer(environ)
            except Exception as error:
                traceback.print_exc()
                status, headers, body = "500 Internal Server Error", [], repr(error).encode()
            start_response(status, headers)
            return [body]

    def _answer(self, environ: Environ) -> Answer:
        node_groups.advance(self.state.script, self._clock())
        if environ["PATH_INFO"].startswith("/spillway/"):
            return self._own(environ)
        return self._aws(environ)

    def _aws(self, environ: Environ) -> Answer:
        service = _SERVICE.search(environ.get("HTTP_AUTHORIZATION", ""))
        outage = self.state.script.outage(service[1] if service else "", self._clock())
        if outage is not None:
            return refusal(outage, service[1] if service else "")
        # The same in every try of one call (botocore). A client that did not get the answer asks again.
        call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")
        if call in self.state.answers:
            return self.state.answers[call]
        answered: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            answered[:] = [status, headers]

        body = b"".join(self._moto(environ, note))
        answer: Answer = (answered[0], answered[1], body)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            if call and not answer[0].startswith("5"):
                self.state.remember(call, answer)
            self._save()
        return answer

    def _own(self, environ: Environ) -> Answer:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        given = environ["wsgi.input"].read(size)
        place, _, rest = environ["PATH_INFO"].removeprefix("/spillway/").partition("/")
        method = environ["REQUEST_METHOD"]
        try:
            status, content = self._page(method, place, rest, json.loads(given) if given else None)
        except (ValueError, ValidationError) as error:
            status, content = 400, {"error": str(error)}
        if method != "GET" and status < 400:
            self._save()
        text = json.dumps(content).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
        return f"{status} {HTTPStatus(status).phrase}", headers, text

    def _page(self, method: str, place: str, rest: str, given: Any) -> tuple[int, Any]:
        now = self._clock()
        match method, place:
            case "GET", "health":
                return 200, {"pid": os.getpid()}
            case "GET", "nodes":
                return 200, {"nodes": node_groups.nodes(now)}
            case "GET", "node-groups":
                return 200, {"nodeGroups": node_groups.summaries(now)}
            case "GET", "script":
                return 200, self.state.script.model_dump(mode="json", by_alias=True)
            case "PUT", "script":
                self.state.script = Script.model_validate({**given, "putAt": now})
                return 200, self.state.script.model_dump(mode="json", by_alias=True)
            case _, "store":
                return self._store(method, rest, given)
            case _:
                return 404, {"error": f"/spillway/{place}: there is no such page for {method}"}

    def _store(self, method: str, rest: str, given: Any) -> tuple[int, Any]:
        """The stand-in provider's records: `/spillway/store/TYPE/ID`, both quoted."""
        if not rest:
            return 200, {"resources": list(self.state.store.values())}
        kind, _, id_ = rest.partition("|")
        key = (unquote(kind), unquote(id_))
        if method == "PUT":
            self.state.store[key] = given
        elif method == "DELETE":
            self.state.store.pop(key, None)
            return 200, {}
        if key not in self.state.store:
            return 404, {"error": f"there is no {key[0]} {key[1]}"}
        return 200, self.state.store[key]

    def _save(self) -> None:
        node_groups.advance(self.state.script, self._clock())
        snapshot.save(self._file, self.state)


def refusal(outage: Outage, service: str) -> Answer:
    """What a service that is away or refuses answers: in XML where its protocol is of that kind."""
    status = f"{outage.status} {HTTPStatus(outage.status).phrase}"
    said = "scripted"
    if service in _XML:
        error = f"<Code>{outage.code}</Code><Message>{said}</Message>"
        body = {
            "ec2": f"<Response><Errors><Error>{error}</Error></Errors></Response>",
            "s3": f"<Error>{error}</Error>",
        }.get(service, f"<ErrorResponse><Error>{error}</Error></ErrorResponse>")
        return status, [("Content-Type", "text/xml")], body.encode()
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", outage.code)]
    return status, headers, json.dumps({"__type": outage.code, "message": said}).encode()


@functools.cache
def _moto() -> Any:
    """The application of moto, one for the process, as its backends are."""
    application = DomainDispatcherApplication(create_backend_app)
    # It would look through the folder of all services at every call.
    application.get_backend_for_host = functools.cache(application.get_backend_for_host)
    return application


def serve(folder: Path, port: int) -> None:
    """Serves on 127.0.0.1 until the process ends.

    Args:
        folder: Where the state is kept.
        port: The port.
    """
    server = make_server("127.0.0.1", port, Double(folder), threaded=True, request_handler=QuietHandler)
    server.serve_forever()
