"""Publishes a result to MLflow over its REST API, which four calls of take 60 lines and no package.

mlflow-skinny, the small client, brings 42 packages, a web framework and a vendor's SDK among them.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from runtime.evaluation.gate import Decision
from runtime.evaluation.results import EvaluationResult

TIMEOUT_S = 30.0
# What MLflow takes in one batch.
_MOST_METRICS = 1000


class TrackingError(Exception):
    """MLflow did not take a result; the text says what it said."""


class Tracking:
    """A tracking server.

    Args:
        url: Its address.
        token: Sent as bearer token; None sends none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise TrackingError(f"{url}: write http://HOST or https://HOST of the tracking server")
        self._url = f"{url.rstrip('/')}/api/2.0/mlflow"
        self._token = token

    def log(
        self, experiment: str, result: EvaluationResult, decision: Decision | None, results_uri: str
    ) -> str:
        """Logs a result as one finished run, and returns the run's id.

        Args:
            experiment: Its experiment; made where there is none of the name.
            result: What an evaluation came to.
            decision: What the gate said; None if it was not asked.
            results_uri: Where the records are.

        Raises:
            TrackingError: The server is out of reach or refuses.
        """
        now = int(time.time() * 1000)
        tags = {
            "mlflow.runName": f"{result.model} {result.revision}",
            "spillway.dataset": result.dataset,
            "spillway.results": results_uri,
            **({"spillway.decision": decision.outcome} if decision else {}),
        }
        run = self._post(
            "runs/create",
            experiment_id=self._experiment(experiment),
            start_time=now,
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )["run"]["info"]["run_id"]
        metrics = {"records": float(result.records), "failed": float(result.failed)}
        for name, metric in result.metrics.items():
            bounds = {"": metric.value, ".low": metric.low, ".high": metric.high}
            metrics |= {f"{name}{suffix}": bound for suffix, bound in bounds.items() if bound is not None}
        self._post(
            "runs/log-batch",
            run_id=run,
            metrics=[
                {"key": key, "value": value, "timestamp": now, "step": 0}
                for key, value in list(metrics.items())[:_MOST_METRICS]
            ],
            params=[
                {"key": "model", "value": result.model},
                {"key": "revision", "value": result.revision},
                {"key": "job", "value": result.job},
            ],
        )
        self._post("runs/update", run_id=run, status="FINISHED", end_time=int(time.time() * 1000))
        return str(run)

    def _experiment(self, name: str) -> str:
        found = self._call(
            f"experiments/get-by-name?{urllib.parse.urlencode({'experiment_name': name})}", None
        )
        if found is not None:
            return str(found["experiment"]["experiment_id"])
        return str(self._post("experiments/create", name=name)["experiment_id"])

    def _post(self, path: str, **content: Any) -> dict[str, Any]:
        found = self._call(path, json.dumps(content).encode())
        if found is None:
            raise TrackingError(f"{self._url}/{path} is not there; is that address MLflow's?")
        return found

    def _call(self, path: str, body: bytes | None) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        asked = urllib.request.Request(f"{self._url}/{path}", data=body, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(500).decode(errors="replace")
            if error.code == 404:
                return None
            raise TrackingError(f"MLflow answers {error.code} to {path}: {text}") from error
        except (OSError, ValueError) as error:
            raise TrackingError(f"MLflow at {self._url}: {error}") from error
