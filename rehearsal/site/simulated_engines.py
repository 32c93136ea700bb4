"""Answers for every pod on simulated nodes: Ray's dashboard, and an OpenAI-style engine without a model.

Runs as a component of the site: `python -m rehearsal.site.simulated_engines --site NAME --home FOLDER`. All
addresses of simulated pods lead to this one process; the address that a request was sent to tells the pod.
Its answers say that they are a stand-in's. What it does not know it refuses.
"""

import argparse
import hashlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlencode

from rehearsal.site import simulated_ray
from rehearsal.site.api import ApiClient, ApiError, Json
from rehearsal.site.layout import SiteLayout
from rehearsal.site.network import replace_file
from rehearsal.site.simulated_ray import ConfigError, Deployed, NotFoundError, Scaled, ScalerDisabledError

DASHBOARD_PORT = 8265
ENGINE_PORT = 8000
WELL = "/well"
ANSWER: str = "No model ran: this is the stand-in engine of a simulated node, on the embedded site."
_CLUSTER_LABEL = "ray.io/cluster"
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 - the variable's name
_TOKEN_HEADERS = ("x-ray-authorization", "authorization")
_REMEMBERED_S = 1.0
# How long the API server may take to answer, and how long it is then not asked again.
_PATIENCE_S, _BLIND_S = 2.0, 5.0
_SPEED_FILE = "speed.json"
# How often it is looked whether copies came or went, and how long a request waits for a slot.
_LOOK_S = 0.2
_WAIT_S = 600.0


class RefusedError(Exception):
    """The request gets this status and this text."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Speed:
    """How fast the stand-in engines are.

    Attributes:
        load_s: Seconds from a replica's node to its readiness.
        token_s: Seconds that each token of an answer takes.
    """

    load_s: float = 0.0
    token_s: float = 0.0


def speed_folder(layout: SiteLayout) -> Path:
    """Where the stand-in keeps its files on a site."""
    return layout.run / "simulated-ray"


def set_speed(folder: Path, speed: Speed) -> None:
    """Makes the stand-in engines of a site as fast as that, also while they run."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / _SPEED_FILE, json.dumps(asdict(speed)))


def get_speed(folder: Path) -> Speed:
    """What was set last; at once, if nothing was."""
    try:
        return Speed(**json.loads((folder / _SPEED_FILE).read_text()))
    except FileNotFoundError:
        return Speed()


@dataclass(frozen=True)
class Room:
    """How many requests an engine takes: as many at a time, and as many that wait for them."""

    slots: int
    queue: int


class _Engine:
    """One engine's requests: those that it holds, those of them that run, and the room that it last had."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held = 0
        self.running = 0
        self._asking = threading.Lock()
        self._room = Room(0, 0)
        self._room_at = float("-inf")

    def room(self, ask: Callable[[], Room]) -> Room:
        """The room of now; looked up a few times a second, and not by every request."""
        with self._asking:
            if time.monotonic() - self._room_at > _LOOK_S:
                self._room = ask()
                self._room_at = time.monotonic()
            return self._room


class Queues:
    """The requests that are under way, by engine; bounded as Serve's and vLLM's queues are."""

    def __init__(self) -> None:
        self._engines: defaultdict[str, _Engine] = defaultdict(_Engine)
        self._finding = threading.Lock()

    @contextmanager
    def place(self, name: str, room: Callable[[], Room]) -> Generator[None]:
        """Waits for a slot and holds it.

        Raises:
            RefusedError: As many wait already as may (503), or no slot came.
        """
        # Two that come first together must not make an engine each.
        with self._finding:
            engine = self._engines[name]
        now = engine.room(room)
        with engine.changed:
            if engine.held >= now.slots + now.queue:
                raise RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"Request dropped due to backpressure (max_queued_requests={now.queue}).",
                )
            engine.held += 1
        try:
            self._wait(engine, room)
            try:
                yield
            finally:
                with engine.changed:
                    engine.running -= 1
                    engine.changed.notify()
        finally:
            with engine.changed:
                engine.held -= 1

    def _wait(self, engine: _Engine, room: Callable[[], Room]) -> None:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            now = engine.room(room)
            with engine.changed:
                if engine.running < now.slots:
                    engine.running += 1
                    return
                engine.changed.wait(_LOOK_S)
        raise RefusedError(HTTPStatus.GATEWAY_TIMEOUT, f"no replica took the request in {_WAIT_S:.0f} s")


@dataclass(frozen=True)
class SimulatedPod:
    """The pod at an address, and the pods of its Ray cluster."""

    pod: Json
    cluster: list[Json]

    @property
    def ray_cluster(self) -> str | None:
        """Namespace and name of its Ray cluster; None if it is not one of Ray's."""
        metadata = self.pod["metadata"]
        name = metadata.get("labels", {}).get(_CLUSTER_LABEL)
        return f"{metadata['namespace']}/{name}" if name else None

    @property
    def head(self) -> Json | None:
        """The head pod of its Ray cluster."""
        return next(
            (pod for pod in self.cluster if pod["metadata"]["labels"].get("ray.io/node-type") == "head"), None
        )

    def argument(self, name: str) -> str | None:
        """What a plain `vllm serve` was given for an argument such as `--served-model-name`."""
        container = self.pod["spec"]["containers"][0]
        words: list[str] = [*container.get("command", []), *container.get("args", [])]
        for place, word in enumerate(words):
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if word == name:
                return words[place + 1]
        return None


class SimulatedPods:
    """Finds pods by address, and keeps what was deployed to each Ray head.

    A head keeps its Serve config as long as it lives, so it is written to a file named after the head's uid:
    the end of this process is not the end of the simulated Ray.
    """

    def __init__(self, api: ApiClient, folder: Path) -> None:
        self._api = api
        self._folder = folder
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, SimulatedPod]] = {}

    def at(self, address: str) -> SimulatedPod:
        """The running pod at an address.

        Raises:
            RefusedError: There is none, or the API server does not say.
        """
        now = time.monotonic()
        with self._lock:
            seen = self._found.get(address)
        if seen and now - seen[0] < _REMEMBERED_S:
            return seen[1]
        try:
            found = self._look_up(address)
        except (ApiError, OSError) as error:
            if seen is None:
                raise RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE, f"the API server does not answer: {error}"
                ) from error
            # What runs goes on without an API server, as it does in a real cluster.
            now, found = time.monotonic() + _BLIND_S, seen[1]
        with self._lock:
            self._found[address] = (now, found)
        return found

    def deployed(self, head: Json | None) -> Deployed | None:
        """What was put to a head."""
        kept = self._kept(head)
        if not kept:
            return None
        scaled = {name: Scaled(**asked) for name, asked in kept.get("scaled", {}).items()}
        return Deployed(kept["config"], kept["since"], scaled)

    def token_digest(self, head: Json) -> str | None:
        """SHA-256 of the token that a head was first configured with; None before that."""
        kept = self._kept(head)
        return kept["token"] if kept else None

    def deploy(self, head: Json, config: Json, token_digest: str) -> None:
        """Keeps a new Serve config; the same one again changes nothing, as in Ray."""
        kept = self._kept(head)
        if kept is None or kept["config"] != config:
            self._keep(head, Deployed(config, time.time()), token_digest)

    def scale(self, head: Json, application: str, deployment: str, body: object) -> None:
        """Keeps a number of replicas that was asked for. Raises what `simulated_ray.scaled` raises."""
        with self._lock:
            kept = self.deployed(head)
            asked = simulated_ray.scaled(kept, application, deployment, body, time.time())
            self._keep(head, asked, self.token_digest(head) or "")

    def speed(self) -> Speed:
        """How fast the engines are now."""
        return get_speed(self._folder)

    def _keep(self, head: Json, deployed: Deployed, token_digest: str) -> None:
        scaled = {name: asdict(asked) for name, asked in deployed.scaled.items()}
        kept = {"config": deployed.config, "since": deployed.since, "scaled": scaled, "token": token_digest}
        replace_file(self._file(head), json.dumps(kept))

    def _kept(self, head: Json | None) -> Json | None:
        if head is None:
            return None
        try:
            return json.loads(self._file(head).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _file(self, head: Json) -> Path:
        return self._folder / f"{head['metadata']['uid']}.json"

    def _look_up(self, address: str) -> SimulatedPod:
        items = self._listed("/api/v1/pods", fieldSelector=f"status.podIP={address}")
        pods = [pod for pod in items if pod["status"].get("phase") == "Running"]
        if not pods:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, f"no running pod has the address {address}")
        pod: Json = pods[0]
        name = pod["metadata"].get("labels", {}).get(_CLUSTER_LABEL)
        if not name:
            return SimulatedPod(pod, [])
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
        return SimulatedPod(pod, self._listed(path, labelSelector=f"{_CLUSTER_LABEL}={name}"))

    def _listed(self, path: str, **query: str) -> list[Json]:
        told = self._api.request("GET", f"{path}?{urlencode(query)}", timeout_s=_PATIENCE_S)
        return json.loads(told)["items"]


class Handler(BaseHTTPRequestHandler):
    """One request to a simulated pod."""

    protocol_version = "HTTP/1.1"
    pods: SimulatedPods
    queues = Queues()

    def do_GET(self) -> None:
        """Reads."""
        self._answer("GET")

    def do_PUT(self) -> None:
        """Deploys."""
        self._answer("PUT")

    def do_POST(self) -> None:
        """Asks the engine."""
        self._answer("POST")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """One line per request that changes something or fails; polls would fill the disk."""
        if self.command == "PUT" or (len(args) > 1 and str(args[1])[0] in "45"):
            address = self.connection.getsockname()[0]
            print(f"{time.strftime('%FT%T')} {address} {format % args}", file=sys.stderr, flush=True)

    def _answer(self, method: str) -> None:
        try:
            address, port = self.connection.getsockname()[:2]
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path == WELL and address == "127.0.0.1":
                self._send({"well": True})
                return
            pod = self.pods.at(address)
            if port == DASHBOARD_PORT:
                self._dashboard(pod, method, path, body)
            else:
                self._engine(pod, method, path, body)
        except RefusedError as refused:
            self._send({"error": {"message": str(refused)}}, refused.status)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _dashboard(self, pod: SimulatedPod, method: str, path: str, body: bytes) -> None:
        head = pod.head
        if head is None or head["metadata"]["uid"] != pod.pod["metadata"]["uid"]:
            raise RefusedError(HTTPStatus.NOT_FOUND, "only the head of a Ray cluster has a dashboard")
        if scale := simulated_ray.SCALE.fullmatch(path):
            self._checked_token(head)
            self._scale(head, method, unquote(scale["application"]), unquote(scale["deployment"]), body)
            return
        if path != simulated_ray.APPLICATIONS:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"this stand-in for Ray's dashboard does not know {path}"
            )
        token_digest = self._checked_token(head)
        if method == "PUT":
            try:
                config: Json = json.loads(body)
                simulated_ray.check_config(config)
            except (ValueError, ConfigError) as error:
                raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
            self.pods.deploy(head, config, token_digest)
            self._send({})
        elif method == "GET":
            nodes = simulated_ray.ray_nodes(pod.cluster)
            deployed, speed = self.pods.deployed(head), self.pods.speed()
            self._send(simulated_ray.applications(deployed, nodes, time.time(), speed.load_s))
        else:
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} {path} is not known")

    def _scale(self, head: Json, method: str, application: str, deployment: str, body: bytes) -> None:
        if method != "POST":
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{method} of a number of replicas is not known"
            )
        try:
            self.pods.scale(head, application, deployment, json.loads(body))
        except (ValueError, ConfigError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except NotFoundError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        except ScalerDisabledError as error:
            raise RefusedError(HTTPStatus.PRECONDITION_FAILED, str(error)) from error
        self._send({"message": "Scaling request received. Deployment will get scaled asynchronously."})

    def _checked_token(self, head: Json) -> str:
        """The digest of the request's token; Ray with a token answers nobody who has none or another.

        The token itself is in a Secret, which no program of the site may read: whoever configures a head
        first, which is the operator, has the right one.
        """
        given = next((self.headers[name] for name in _TOKEN_HEADERS if name in self.headers), "")
        digest = hashlib.sha256(given.encode()).hexdigest()
        variables = {variable["name"] for variable in head["spec"]["containers"][0].get("env", [])}
        known = self.pods.token_digest(head)
        if _TOKEN_VARIABLE in variables and not given.startswith("Bearer "):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized: Missing authentication token")
        if _TOKEN_VARIABLE in variables and known not in {None, digest}:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Forbidden: Invalid authentication token")
        return digest

    def _engine(self, pod: SimulatedPod, method: str, path: str, body: bytes) -> None:
        plain = pod.argument("--served-model-name")
        models = [plain] if plain else self._models_of_ray(pod)
        if (method, path) in {("GET", "/-/healthz"), ("GET", "/health")}:
            self._send("success")
        elif (method, path) == ("GET", "/v1/models"):
            context = pod.argument("--max-model-len")
            told = {"max_model_len": int(context)} if context else {}
            self._send(
                {"object": "list", "data": [{"id": name, "object": "model", **told} for name in models]}
            )
        elif (method, path) == ("POST", "/v1/chat/completions"):
            self._chat(pod, models, body)
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"this stand-in engine does not know {method} {path}")

    def _models_of_ray(self, pod: SimulatedPod) -> list[str]:
        deployed = self.pods.deployed(pod.head)
        if deployed is None or not simulated_ray.is_running(
            deployed, simulated_ray.ray_nodes(pod.cluster), time.time()
        ):
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no application runs on this Ray cluster")
        return simulated_ray.model_ids(deployed.config)

    def _room(self, pod: SimulatedPod) -> Room:
        """What the engine of a pod takes now; of a Ray cluster, all its replicas together."""
        if slots := pod.argument("--max-num-seqs"):
            return Room(int(slots), int(pod.argument("--max-num-queued-reqs") or 10**9) - int(slots))
        deployed = self.pods.deployed(pod.head)
        if deployed is None:
            return Room(10**9, 0)
        nodes = simulated_ray.ray_nodes(pod.cluster)
        room = simulated_ray.room(deployed, nodes, time.time(), self.pods.speed().load_s)
        return Room(*room)

    def _chat(self, pod: SimulatedPod, models: list[str], body: bytes) -> None:
        try:
            request: Json = json.loads(body)
            model, prompt = str(request["model"]), json.dumps(request["messages"])
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"no chat request: {error}") from error
        if model not in models:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"The model `{model}` does not exist: {models}")
        words: list[str] = ANSWER.split(" ")[: int(request.get("max_tokens") or 64)]
        engine = pod.ray_cluster or str(pod.pod["metadata"]["uid"])
        address = self.connection.getsockname()[0]
        # Looked up anew: while a request waits, copies come.
        with self.queues.place(engine, lambda: self._room(self.pods.at(address))):
            self._say(model, prompt, words, streamed=bool(request.get("stream")))

    def _say(self, model: str, prompt: str, words: list[str], *, streamed: bool) -> None:
        token_s = self.pods.speed().token_s
        usage = {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": len(words),
            "total_tokens": len(prompt.split()) + len(words),
        }
        if not streamed:
            time.sleep(token_s * len(words))
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(_completion("chat.completion", model, choice) | {"usage": usage})
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in _events(model, words):
            time.sleep(token_s)
            data = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, answer: Json | str, status: HTTPStatus = HTTPStatus.OK) -> None:
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _completion(kind: str, model: str, choice: Json) -> Json:
    created = int(time.time())
    return {
        "id": f"stand-in-{created}",
        "object": kind,
        "created": created,
        "model": model,
        "choices": [choice],
    }


def _events(model: str, words: list[str]) -> Iterator[str]:
    for place, word in enumerate(words):
        delta = {"content": word if place == 0 else f" {word}"}
        choice: Json = {"index": 0, "delta": delta, "finish_reason": None}
        yield json.dumps(_completion("chat.completion.chunk", model, choice))
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield json.dumps(_completion("chat.completion.chunk", model, choice))
    yield "[DONE]"


class Server(ThreadingHTTPServer):
    """A server that lets hundreds connect in the same moment; the standard library's lets five."""

    request_queue_size = 1024


def main() -> None:
    """Serves both ports until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", required=True)
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()
    layout = SiteLayout(options.site, options.home)
    folder = speed_folder(layout)
    folder.mkdir(parents=True, exist_ok=True)
    Handler.pods = SimulatedPods(ApiClient.inside(layout, "simulated-engines"), folder)
    # Every address: those of the simulated pods are routed to this namespace's loopback.
    servers = [Server(("0.0.0.0", port), Handler) for port in (DASHBOARD_PORT, ENGINE_PORT)]  # noqa: S104
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
