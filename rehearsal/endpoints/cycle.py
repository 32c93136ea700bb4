"""What a rehearsed stack of SageMaker endpoints is put through: requests, a bad canary, a good one, and rest.

The commands are those that a pipeline runs; a request is counted by the variant that says it answered.
"""

import http.client
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.burst_load import Load
from rehearsal.endpoints.hosting import Hosting
from rehearsal.endpoints.runtime_api import CREDENTIALS
from rehearsal.endpoints.scaling import ComponentScaling
from rehearsal.workspace import PROJECT
from runtime.ops.progress import Progress
from runtime.ops.teardown.account import Clients

BUCKET = "evaluations-of-the-rehearsal"
VARIANT_HEADER = "x-spillway-variant"
_RECORDS = 40
_CLIENTS = 4
_COUNTED = 120
_PATIENCE_S = 300.0
_ADDRESS = "jane.doe@example.com"
_ANSWER_S = 120.0
PROMOTED, ROLLED_BACK = 0, 4
"""Exit statuses of `evaluate`."""
# Characters that answers have in common with those of the revision that serves, in percent. Two models of
# random weights have few.
_ALIKE = 60


class CycleError(Exception):
    """Something is not as it should be; the text says what was seen."""


@dataclass(frozen=True)
class Canary:
    """An endpoint with a variant that is judged and one that serves.

    Attributes:
        endpoint: SageMaker's name of it.
        model: What clients ask for.
        stable: The variant that serves.
        canary: The variant that is judged.
        share: Share of the traffic that the stack file gives it, 0 to 1.
        captured: Whether the gateway keeps masked copies of what is said.
    """

    endpoint: str
    model: str
    stable: str
    canary: str
    share: float
    captured: bool


def canary_of(platform: Mapping[str, Any]) -> Canary | None:
    """The first endpoint of a stack file with two variants of one served name; None where there is none."""
    served = {one["name"]: str(one.get("servedName", one["name"])) for one in platform["models"]}
    for endpoint in platform["endpoints"]:
        variants = [one for one in endpoint.get("variants", []) if not one.get("shadow")]
        if len(variants) == 2 and len({served[one["model"]] for one in variants}) == 1:
            stable, canary = sorted(variants, key=lambda one: -int(one.get("weight", 1)))
            weights = [int(one.get("weight", 1)) for one in (canary, stable)]
            return Canary(
                endpoint=f"{platform.get('name', 'llm')}-{endpoint['name']}",
                model=served[stable["model"]],
                stable=stable["name"],
                canary=canary["name"],
                share=weights[0] / sum(weights),
                captured=(endpoint.get("capture") or {"personalData": "raw"}).get("personalData") != "raw",
            )
    return None


class EndpointDriver:
    """Sends requests to a rehearsed stack and does what a pipeline does with its canary.

    Args:
        hosting: What answers behind it.
        clients: Clients of the AWS double.
        environment: What sends a program to that.
        region: The stack's region.
        key: An API key of the gateway.
        folder: For what evaluations leave.
        progress: Where the steps are shown.
    """

    def __init__(
        self,
        hosting: Hosting,
        clients: Clients,
        environment: Mapping[str, str],
        region: str,
        key: str,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._hosting = hosting
        self._url = hosting.start()
        self._clients = clients
        self._key = key
        self._evaluations = folder / "evaluations"
        self._progress = progress
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **environment,
            **CREDENTIALS,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": hosting.runtime_url,
            "AWS_DEFAULT_REGION": region,
        }

    def ask(self, model: str, tokens: int = 16) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        """One chat as a client sends it: status, headers and answer."""
        address = urllib.parse.urlsplit(self._url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_ANSWER_S)
        messages = [{"role": "user", "content": "Say hello."}]
        body = json.dumps({"model": model, "max_tokens": tokens, "messages": messages})
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, said, json.loads(answer.read())
        finally:
            connection.close()

    def guarded(self, model: str) -> str:
        """Asks for more than the time limit has room for; returns what the refusal says.

        Raises:
            CycleError: It is not refused.
        """
        status, _, answer = self.ask(model, tokens=1_000_000)
        if status != http.HTTPStatus.BAD_REQUEST:
            raise CycleError(f"a request for 1,000,000 tokens got {status}: {answer}")
        return str(answer["error"]["message"])

    def rested(self, model: str, component: str) -> list[str]:
        """Scales a component to nothing, has a request find none, and one copy come of that.

        Raises:
            CycleError: A request does not get what it should.
            NotDeclaredError: The stack's own alarm and policies would not do it.
        """
        scaling = ComponentScaling(self._clients, component)
        with self._progress.step(f"{component}: no copy, one, and none again") as step:
            lines = [f"{component} at rest: {scaling.idle()} copies"]
            refused = self._until(model, http.HTTPStatus.SERVICE_UNAVAILABLE)
            lines.append(f"a request gets 503, Retry-After {refused.get('retry-after')}")
            step.update("a request was refused, and the alarm calls the policy")
            lines.append(f"the alarm on refused requests starts {scaling.refused()} copy")
            self._until(model, http.HTTPStatus.OK)
            lines.append("the next request is answered")
            lines.append(f"at rest again: {scaling.idle()} copies")
            self._until(model, http.HTTPStatus.SERVICE_UNAVAILABLE)
            return lines

    def judged(self, canary: Canary, revision: str, outcome: int) -> str:
        """Evaluates what the canary serves, from S3 to S3, and does what the gate decides; what was counted.

        Args:
            canary: The canary.
            revision: Revision that it serves.
            outcome: Exit status that `evaluate apply` should have.

        Raises:
            CycleError: It decides otherwise, or the canary has more of the traffic than it should.
        """
        # An update is through when its containers answer.
        self._hosting.runtime.look()
        with self._counting(canary) as counts:
            load = self._load(canary)
            load.add(_CLIENTS)
            try:
                self._counted(load, "traffic before the decision")
                before = counts()
                results = f"s3://{BUCKET}/{revision}"
                self._evaluated(canary, revision, results)
                self._applied(canary, results, outcome)
                after = counts()
                self._counted(load, "traffic after it")
                end = counts()
            finally:
                answered = load.stop()
        failed = [*answered.failed, *answered.lost]
        if failed:
            raise CycleError(f"{len(failed)} of {answered.sent} requests failed: {failed[0]}")
        lines = [_share(canary, "before", before)]
        # The evaluation asks the canary itself, so what clients got is told by the answers.
        last = {name: end[name] - after[name] for name in end}
        lines.append(_share(canary, "after", last))
        lines.append(f"all clients' requests: {answered.words()}")
        _check_shares(canary, before, last, promoted=outcome == PROMOTED)
        return "; ".join(lines)

    def dataset(self, canary: Canary) -> None:
        """Puts a data set into S3 whose good answers are those of the variant that serves."""
        # `evaluate` goes on where it was stopped, but answers of another rehearsal are none of this one's.
        shutil.rmtree(self._evaluations, ignore_errors=True)
        runtime = self._runtime()
        s3: Any = self._clients("s3")
        s3.create_bucket(Bucket=BUCKET)
        lines: list[str] = []
        with self._progress.step("a data set in S3, with answers of the revision that serves"):
            for number in range(_RECORDS):
                question = f"Tell me about the number {number * 37}."
                body = {
                    "model": canary.model,
                    "messages": [{"role": "user", "content": question}],
                    "max_tokens": 24,
                    "temperature": 0,
                }
                answer = runtime.invoke_endpoint(
                    EndpointName=canary.endpoint,
                    ContentType="application/json",
                    TargetVariant=canary.stable,
                    Body=json.dumps(body),
                )
                text = json.loads(answer["Body"].read())["choices"][0]["message"]["content"]
                lines.append(json.dumps({"question": question, "answer": text}))
            s3.put_object(Bucket=BUCKET, Key="questions.jsonl", Body="\n".join(lines).encode())

    def kept(self, bucket: str, endpoint: str) -> str:
        """Looks at the copies of prompts and answers that the gateway keeps in S3; how many they are.

        Raises:
            CycleError: There are none, or what should be masked is in one.
        """
        s3: Any = self._clients("s3")
        deadline = time.monotonic() + _PATIENCE_S
        with self._progress.step("masked copies of prompts and answers in S3"):
            while not (found := self._copies(s3, bucket, f"capture/{endpoint}/")):
                if time.monotonic() > deadline:
                    raise CycleError(f"no copy is in {bucket} after {_PATIENCE_S:.0f} s")
                time.sleep(1)
        told = [one for one in found if _ADDRESS.partition("@")[0] in one]
        if told:
            raise CycleError(f"{len(told)} of {len(found)} copies are not masked: {told[0][:300]}")
        return f"{len(found)} copies in S3, and the address in the prompts is in none"

    def _copies(self, s3: Any, bucket: str, prefix: str) -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed]
        return [line for body in bodies for line in body.decode().splitlines()]

    def forget(self) -> None:
        """Removes what evaluations left: it is the pipeline's and not the stack's."""
        s3: Any = self._clients("s3")
        for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=one["Key"])
        s3.delete_bucket(Bucket=BUCKET)

    def _evaluated(self, canary: Canary, revision: str, results: str) -> None:
        job = {
            "version": "1.0",
            "dataset_type": "application/jsonlines",
            "dataset_uri": f"s3://{BUCKET}/questions.jsonl",
            "features": "question",
            "label": "answer",
            "predictor": {"endpoint_name": canary.endpoint},
            "methods": {
                "x_llm_eval": {
                    "model": canary.model,
                    "revision": revision,
                    "sampling": {"max_tokens": 24, "temperature": 0},
                    "algorithms": [{"name": "translation_accuracy"}],
                    "gate": {
                        "minimum_records": _RECORDS,
                        "thresholds": [{"metric": "chrf", "at_least": _ALIKE}],
                    },
                }
            },
        }
        s3: Any = self._clients("s3")
        s3.put_object(Bucket=BUCKET, Key=f"{revision}/job.json", Body=json.dumps(job).encode())
        out = self._evaluations / revision
        self._run(
            f"evaluation of {canary.canary}, {revision[:7]}, from S3 to S3",
            *("run", f"{results}/job.json", f"--variant={canary.canary}", f"--out={out}"),
            *(f"--results={results}", "--cloudwatch=Spillway/Evaluation", "--at-once=2"),
            statuses=(PROMOTED, ROLLED_BACK),
        )

    def _applied(self, canary: Canary, results: str, outcome: int) -> None:
        self._run(
            "what the gate decided",
            *("apply", results, f"--endpoint-name={canary.endpoint}", "--steps=50,100", "--bake=2"),
            *(f"--canary={canary.canary}", f"--stable={canary.stable}"),
            statuses=(outcome,),
        )
        self._hosting.runtime.look()

    def _run(self, title: str, *arguments: str, statuses: tuple[int, ...]) -> None:
        with self._progress.step(title) as step:
            done = subprocess.run(
                [sys.executable, "-m", "runtime.ops", "evaluate", *arguments],
                env=self._environment,
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=False,
            )
            said = f"{done.stdout}\n{done.stderr}".strip()
            if done.returncode not in statuses:
                raise CycleError(f"`evaluate {arguments[0]}` ended with {done.returncode}: {said[-2000:]}")
            step.update(done.stdout.strip().splitlines()[0] if done.stdout.strip() else "")

    def _runtime(self) -> Any:
        boto3: Any = importlib.import_module("boto3")
        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=self._hosting.runtime_url,
            region_name=self._environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def _until(self, model: str, status: int) -> Mapping[str, str]:
        """Asks until the answer has a status, as what a change does is seen a little later; its headers."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            found, headers, answer = self.ask(model)
            if found == status:
                return headers
            if time.monotonic() > deadline:
                raise CycleError(f"{model} answers {found} and not {status}: {answer}")
            time.sleep(0.5)

    def _load(self, canary: Canary) -> Load:
        address = urllib.parse.urlsplit(self._url)

        def connect() -> socket.socket:
            return socket.create_connection((str(address.hostname), int(address.port or 80)), 10.0)

        by = {name: f"by {name}" for name in (canary.stable, canary.canary)}
        prompt = f"Say hello to {_ADDRESS}."
        return Load(
            connect, self._key, canary.model, tokens=8, told_by=VARIANT_HEADER, pools=by, prompt=prompt
        )

    def _counted(self, load: Load, what: str) -> None:
        begun = load.counts.sent
        load.until(what, lambda counts: counts.sent >= begun + _COUNTED, _PATIENCE_S, self._progress)

    @contextmanager
    def _counting(self, canary: Canary) -> Generator[Callable[[], dict[str, int]]]:
        """Counts requests by the variant that the endpoint sent them to, from now on."""
        variants = self._hosting.runtime.double.endpoints[canary.endpoint].variants

        def now() -> dict[str, int]:
            return {name: one.answered for name, one in variants.items()}

        first = now()
        yield lambda: {name: count - first.get(name, 0) for name, count in now().items()}


def _share(canary: Canary, when: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{when}: {counts.get(canary.canary, 0)} of {total} to {canary.canary}"


def _check_shares(
    canary: Canary, before: Mapping[str, int], last: Mapping[str, int], *, promoted: bool
) -> None:
    """Checks the shares: the declared one before, none or all after."""
    total = sum(before.values())
    if before[canary.canary] > canary.share * total + 1:
        raise CycleError(
            f"{canary.canary} got {before[canary.canary]} of {total}, and its share is {canary.share:.0%}"
        )
    wrong = last[canary.stable] if promoted else last[canary.canary]
    if wrong:
        raise CycleError(f"{wrong} requests went to the variant that should have none: {dict(last)}")
