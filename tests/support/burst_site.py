"""A burst controller's surroundings for tests: its configuration, clocks, and pods that show metrics."""

import http.server
import json
import threading
from typing import Any

from runtime.burst.config import ControllerConfig

DEPLOYMENT = "LLMServer:qwen"


class Clock:
    """Seconds that only a test moves."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def config(**changes: Any) -> ControllerConfig:
    """One model, one node group; `policy` and other keys as a stack file would change them."""
    base: dict[str, Any] = {
        "platform": "spillway",
        "namespace": "llm",
        "lease": "burst",
        "state": "burst-state",
        "policy": {"ceilingUsdPerHour": 10, "scaleOut": {"forSeconds": 20}},
        "groups": [
            {"name": "l40s", "nodeGroup": "llm-burst-l40s", "maxNodes": 4, "usdPerHour": 2, "devices": 1}
        ],
        "models": [
            {
                "name": "qwen",
                "modelId": "Qwen/Qwen3-8B",
                "onPrem": {
                    "slots": 8,
                    "queue": 8,
                    "serving": "ray",
                    "dashboard": "http://qwen-head-svc:8265",
                    "metricsHost": "qwen-metrics",
                    "metricsPort": 8080,
                    "application": "llm",
                    "deployment": DEPLOYMENT,
                },
                "cloud": {
                    "group": "l40s",
                    "maxReplicas": 4,
                    "slots": 8,
                    "queue": 8,
                    "devicesPerPod": 1,
                    "podsPerReplica": 1,
                    "namespace": "llm",
                    "service": "qwen-head-svc",
                    "application": "llm",
                    "deployment": DEPLOYMENT,
                    "staged": "v1",
                },
            }
        ],
        "gatewayHost": "gateway-metrics",
        "gatewayPort": 9090,
        "kubeconfig": "/eks/kubeconfig",
        "rayToken": "/eks/token",
        "onPremRayToken": "/ray/token",
    }
    policy = {**base["policy"], **changes.pop("policy", {})}
    return ControllerConfig.model_validate_json(json.dumps({**base, **changes, "policy": policy}))


class MetricsPod:
    """A pod that shows metrics on a port of this machine."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        pod = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = pod.text.encode()
                self.send_response(pod.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it is."""
        return "127.0.0.1", self._server.server_port

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
