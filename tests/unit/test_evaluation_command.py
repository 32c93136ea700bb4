"""`python -m runtime.ops evaluate` against a real HTTP endpoint of this process, and moto for AWS."""

import io
import json
import socket
import threading
from collections.abc import Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from moto import mock_aws

from runtime.evaluation.endpoint import OpenAiEndpoint
from runtime.evaluation.hooks import ModelError, NotAskedError
from runtime.evaluation.job import JobError, Sampling
from runtime.ops.evaluation import places
from runtime.ops.evaluation.command import main
from runtime.ops.evaluation.mlflow import Tracking, TrackingError
from runtime.ops.evaluation.places import PlaceError
from runtime.ops.evaluation.sagemaker_endpoint import SageMakerEndpoint
from runtime.ops.evaluation.submission import SubmissionError, wait
from tests.support.evaluation import evaluation_job, lines_of
from tests.unit.test_evaluation_gate import judged, results

BUCKET = "evaluations"


class Server:
    """A server of this process that keeps what it is asked and answers by path."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.asked.append((self.path, body))
                owner.headers.append({key.lower(): value for key, value in self.headers.items()})
                self._say(*owner.answer(self.path, body))

            def do_GET(self) -> None:
                owner.asked.append((self.path, None))
                self._say(*owner.answer(self.path, None))

            def _say(self, status: int, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        scripted = self.answers.get(path.partition("?")[0])
        if scripted:
            return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        if path == "/v1/chat/completions":
            words = body["messages"][-1]["content"].split()
            return 200, chat(str(int(words[0]) + 1))
        return 404, {"error": "no such path"}


def chat(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture(name="server")
def fixture_server() -> Generator[Server]:
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


@pytest.fixture(name="s3")
def fixture_s3(monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    with mock_aws():
        places.aws.cache_clear()
        client: Any = places.aws("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    places.aws.cache_clear()


@pytest.fixture(name="job_file")
def fixture_job_file(tmp_path: Path) -> Path:
    gate = {"minimum_records": 20, "thresholds": [{"metric": "f1", "at_least": 0.9, "regression": 0.05}]}
    job = evaluation_job(dataset_uri=str(tmp_path / "qa.jsonl"), gate=gate)
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json(exclude_none=True))
    records = ({"question": f"{at} plus 1", "answer": f"{at + 1}"} for at in range(20))
    (tmp_path / "qa.jsonl").write_bytes(lines_of(*records))
    return path


@pytest.fixture(autouse=True)
def fixture_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")


def test_a_run_asks_scores_and_decides(
    server: Server, job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["run", str(job_file), "--out", str(out), "--endpoint", server.url, "--first-revision"]
    assert main(arguments) == 0
    assert len(server.asked) == 20
    _, body = server.asked[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("spillway-tiny", 0.0, 256)
    assert server.headers[0]["authorization"] == "Bearer secret"
    shown = capsys.readouterr()
    assert "exact_match 1 (1 to 1), higher is better" in shown.out
    assert "promote: spillway-tiny r2" in shown.out
    assert "evaluation of spillway-tiny r2, 20 records: computing metrics" in shown.err
    assert json.loads((out / "decision.json").read_text())["outcome"] == "promote"


def test_a_worse_revision_is_rolled_back_against_the_baseline(
    server: Server, job_file: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    run = ["run", str(job_file), "--endpoint", server.url]
    assert main([*run, "--out", str(good), "--first-revision"]) == 0
    server.answers["/v1/chat/completions"] = [(200, chat("no idea"))]
    assert main([*run, "--out", str(bad), "--baseline", str(good)]) == 4
    decision = json.loads((bad / "decision.json").read_text())
    assert (decision["outcome"], decision["baseline"]) == ("roll_back", "r2")
    # Without the baseline the comparison is open, and the floor alone decides.
    assert main(["decide", str(job_file), "--out", str(good)]) == 3


def test_from_s3_to_s3_and_cloudwatch(server: Server, s3: Any, job_file: Path, tmp_path: Path) -> None:
    for name in ("job.json", "qa.jsonl"):
        s3.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=(tmp_path / name).read_bytes())
    arguments = ["run", f"s3://{BUCKET}/in/job.json", "--dataset", f"s3://{BUCKET}/in/qa.jsonl"]
    arguments += ["--out", str(tmp_path / "out"), "--endpoint", server.url, "--first-revision"]
    arguments += ["--results", f"s3://{BUCKET}/out/r2", "--cloudwatch", "Spillway/Evaluation"]
    assert main(arguments) == 0
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]
    assert {one["Key"].rsplit("/", 1)[-1] for one in listed} >= {
        "analysis.json",
        "records.jsonl",
        "decision.json",
    }
    client: Any = places.aws("cloudwatch")
    names = {one["MetricName"] for one in client.list_metrics(Namespace="Spillway/Evaluation")["Metrics"]}
    assert {"f1", "f1.low", "Promote", "Records"} <= names
    again = ["decide", str(job_file), "--out", f"s3://{BUCKET}/out/r2", "--first-revision"]
    assert main(again) == 0


def test_results_are_not_judged_by_the_gate_of_another_job(
    server: Server, job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    main(["run", str(job_file), "--out", out, "--endpoint", server.url, "--no-gate"])
    assert not (tmp_path / "out" / "decision.json").exists()
    job_file.write_text(job_file.read_text().replace('"r2"', '"r3"'))
    assert main(["decide", str(job_file), "--out", out, "--first-revision"]) == 1
    assert "holds results of spillway-tiny r2" in capsys.readouterr().err


def test_mistakes_are_said_in_one_message_and_nothing_is_asked(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"features": "q"}')
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--endpoint", server.url]) == 1
    assert capsys.readouterr().err.splitlines() == ["dataset_uri: Field required", "methods: Field required"]
    assert server.asked == []


def test_a_key_that_is_not_set_is_named(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("API_KEY")
    assert main(["run", str(job_file), "--out", str(tmp_path / "out"), "--endpoint", "http://x"]) == 1
    assert "API_KEY is not set" in capsys.readouterr().err


def test_a_request_that_was_refused_for_load_is_sent_again(server: Server) -> None:
    server.answers["/v1/chat/completions"] = [(503, {}), (429, {}), (200, chat("2"))]
    endpoint = OpenAiEndpoint(server.url, "k", "m", Sampling(system="Be brief"))
    assert endpoint.answer("1 plus 1").text == "2"
    assert len(server.asked) == 3
    assert server.asked[0][1]["messages"][0] == {"role": "system", "content": "Be brief"}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_does_not_let_one_ask_says_nothing_about_the_model(
    server: Server, status: int
) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        server.answers[path] = [(status, {"error": {"message": "wrong key"}})]
    endpoint = OpenAiEndpoint(server.url, "k", "m", Sampling())
    for asked in (endpoint.answer, endpoint.log_probability):
        with pytest.raises(NotAskedError, match=f"{server.url}: .*wrong key"):
            asked("1")


def test_an_endpoint_that_is_not_there_was_not_asked() -> None:
    with pytest.raises(NotAskedError, match="APIConnectionError"):
        OpenAiEndpoint("http://127.0.0.1:1", "k", "m", Sampling(), retries=0).answer("1")


def test_a_model_that_is_overloaded_or_late_was_asked(server: Server) -> None:
    server.answers["/v1/chat/completions"] = [(503, {})]
    with pytest.raises(ModelError):
        OpenAiEndpoint(server.url, "k", "m", Sampling(), retries=0).answer("1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelError, match="APITimeoutError"):
            OpenAiEndpoint(url, "k", "m", Sampling(), retries=0, timeout_s=0.1).answer("1")


def test_what_gives_no_probabilities_of_the_prompt_is_no_fault_of_the_model(server: Server) -> None:
    server.answers["/v1/completions"] = [(200, {"choices": [{"text": "abc", "logprobs": None}]})]
    with pytest.raises(NotAskedError):
        OpenAiEndpoint(server.url, "k", "m", Sampling()).log_probability("abc")


def test_a_run_with_a_wrong_key_decides_nothing_and_can_go_on(
    server: Server, job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers["/v1/chat/completions"] = [(401, {})]
    run = ["run", str(job_file), "--out", str(tmp_path / "out"), "--endpoint", server.url, "--first-revision"]
    assert main(run) == 1
    assert "nothing is decided; see to it and run the same command again" in capsys.readouterr().err
    assert not (tmp_path / "out" / "decision.json").exists()
    del server.answers["/v1/chat/completions"]
    assert main(run) == 0


def test_an_endpoint_that_keeps_refusing_is_an_error_with_its_words(server: Server) -> None:
    server.answers["/v1/chat/completions"] = [(400, {"error": {"message": "context is too long"}})]
    with pytest.raises(ModelError, match="context is too long"):
        OpenAiEndpoint(server.url, "k", "m", Sampling()).answer("1")


def test_the_probability_of_a_sentence_is_that_of_its_tokens(server: Server) -> None:
    logprobs = {"tokens": ["a", "b", "c", "!"], "token_logprobs": [None, -1.5, -0.25, -9.0]}
    choice = {"text": "abc!", "index": 0, "finish_reason": "length", "logprobs": logprobs}
    content = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    server.answers["/v1/completions"] = [(200, content)]
    assert OpenAiEndpoint(server.url, "k", "m", Sampling()).log_probability("abc") == -1.75
    assert server.asked[0][1]["echo"] is True


def refused(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "InvokeEndpoint")


class Runtime:
    """boto3's client for sagemaker-runtime."""

    def __init__(self, content: Any) -> None:
        self.content, self.asked = content, list[dict[str, Any]]()

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        if isinstance(self.content, Exception):
            raise self.content
        return {
            "Body": io.BytesIO(json.dumps(self.content).encode()),
            "InvokedProductionVariant": request.get("TargetVariant", "stable"),
        }


def test_a_sagemaker_endpoint_is_asked_as_its_predictor_says() -> None:
    template = '{"inputs": $features, "parameters": {"max_new_tokens": 8}}'
    predictor = {"endpoint_name": "llm", "content_template": template, "label": "[0].generated_text"}
    client: Any = Runtime([{"generated_text": "4"}])
    model = SageMakerEndpoint(client, evaluation_job(predictor=predictor))
    assert model.answer('say "4"').text == "4"
    assert json.loads(client.asked[0]["Body"])["inputs"] == 'say "4"'
    assert client.asked[0]["EndpointName"] == "llm"


def test_one_variant_of_a_sagemaker_endpoint_is_asked_whatever_its_weight() -> None:
    client: Any = Runtime(chat("4"))
    job = evaluation_job(predictor={"endpoint_name": "llm"})
    assert SageMakerEndpoint(client, job, "canary").answer("2+2").variant == "canary"
    assert client.asked[0]["TargetVariant"] == "canary"
    assert SageMakerEndpoint(client, job).answer("2+2").variant == "stable"
    assert "TargetVariant" not in client.asked[1]


def test_a_variant_of_an_endpoint_that_has_none_is_a_mistake(
    job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["run", str(job_file), "--out", out, "--endpoint", "http://x", "--variant", "canary"]) == 1
    assert "--variant names one of a SageMaker endpoint" in capsys.readouterr().err


def test_without_a_template_a_sagemaker_endpoint_is_asked_in_openais_form() -> None:
    client: Any = Runtime(chat("4"))
    model = SageMakerEndpoint(client, evaluation_job(predictor={"endpoint_name": "llm"}))
    assert model.answer("2+2").text == "4"
    assert json.loads(client.asked[0]["Body"])["messages"] == [{"role": "user", "content": "2+2"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"choices": []}, "answers no text at choices"),
        (refused("ModelError", 424), "An error occurred"),
        (refused("ModelNotReadyException", 429), "An error occurred"),
        (refused("ServiceUnavailable", 503), "An error occurred"),
        (ReadTimeoutError(endpoint_url="https://runtime"), "Read timeout"),
    ],
)
def test_a_sagemaker_endpoint_without_an_answer_is_a_failed_record(content: Any, said: str) -> None:
    client: Any = Runtime(content)
    model = SageMakerEndpoint(client, evaluation_job(predictor={"endpoint_name": "llm"}))
    with pytest.raises(ModelError, match=said):
        model.answer("2+2")


@pytest.mark.parametrize(
    "trouble",
    [
        refused("ExpiredTokenException", 403),
        refused("AccessDeniedException", 400),
        refused("ValidationError", 400),
        refused("ThrottlingException", 400),
        NoCredentialsError(),
        EndpointConnectionError(endpoint_url="https://runtime"),
    ],
)
def test_a_sagemaker_endpoint_that_could_not_be_asked_is_no_failed_record(trouble: Exception) -> None:
    client: Any = Runtime(trouble)
    with pytest.raises(NotAskedError, match="llm: "):
        SageMakerEndpoint(client, evaluation_job(predictor={"endpoint_name": "llm"})).answer("2+2")


def test_a_job_without_an_endpoint_is_told_both_ways_to_name_one() -> None:
    client: Any = Runtime({})
    with pytest.raises(JobError, match=r"predictor.endpoint_name.*--endpoint URL"):
        SageMakerEndpoint(client, evaluation_job())


def test_submit_writes_the_configuration_and_starts_the_job(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = evaluation_job(dataset_uri=f"s3://{BUCKET}/in/qa.jsonl", predictor={"endpoint_name": "llm"})
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json(exclude_none=True))
    arguments = [
        "submit",
        "processing",
        str(path),
        "--name",
        "evaluation-1",
        "--image",
        "evaluation@sha256:0",
    ]
    arguments += ["--role", "arn:aws:iam::123456789012:role/e", "--results", f"s3://{BUCKET}/e1", "--wait"]
    arguments += ["--variant", "canary"]
    assert main([*arguments, "--print"]) == 0
    request = json.loads(capsys.readouterr().out)
    assert request["ProcessingJobName"] == "evaluation-1"
    assert request["Environment"] == {"AWS_DEFAULT_REGION": "us-east-1"}
    assert request["AppSpecification"]["ContainerArguments"][-2:] == ["--variant", "canary"]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("arn:aws:sagemaker:us-east-1:")
    body = s3.get_object(Bucket=BUCKET, Key="e1/config/analysis_config.json")["Body"].read()
    assert body == path.read_bytes()
    client: Any = places.aws("sagemaker")
    described = client.describe_processing_job(ProcessingJobName="evaluation-1")
    assert described["AppSpecification"]["ContainerEntrypoint"][-1] == "evaluate"


def test_submit_without_a_region_says_where_to_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    path = tmp_path / "job.json"
    path.write_text(evaluation_job(dataset_uri="s3://b/qa.jsonl").model_dump_json(exclude_none=True))
    arguments = ["submit", "processing", str(path), "--name", "e1", "--image", "i", "--role", "r"]
    assert main([*arguments, "--results", "s3://b/e1", "--print"]) == 1
    assert "set AWS_DEFAULT_REGION" in capsys.readouterr().err


def test_only_our_own_job_asks_a_variant(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["submit", "clarify", str(job_file), "--name", "e1", "--role", "arn:aws:iam::1:role/e"]
    assert main([*arguments, "--region", "us-east-1", "--results", "s3://b/e1", "--variant", "canary"]) == 1
    assert "--variant: clarify asks no variant" in capsys.readouterr().err


def test_submit_to_bedrock_brings_the_answers_of_a_local_run(
    server: Server, job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    main(["run", str(job_file), "--out", out, "--endpoint", server.url, "--first-revision"])
    capsys.readouterr()
    arguments = ["submit", "bedrock", str(job_file), "--name", "e1", "--role", "arn:aws:iam::1:role/e"]
    arguments += ["--results", "s3://b/e1", "--out", out, "--judge", "amazon.nova-pro-v1:0", "--print"]
    assert main(arguments) == 0
    request = json.loads(capsys.readouterr().out)
    (model,) = request["inferenceConfig"]["models"]
    assert model == {"precomputedInferenceSource": {"inferenceSourceIdentifier": "spillway-tiny-r2"}}


class Jobs:
    """A service whose job goes through these states."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)

    def describe_processing_job(self, **_: Any) -> dict[str, Any]:
        return self.states.pop(0)

    def get_evaluation_job(self, **_: Any) -> dict[str, Any]:
        return self.states.pop(0)


def test_a_job_is_waited_for_until_it_ended() -> None:
    told, slept = list[str](), list[float]()
    client: Any = Jobs({"ProcessingJobStatus": "InProgress"}, {"ProcessingJobStatus": "Completed"})
    wait(client, "processing", "e1", told.append, slept.append)
    assert told == ["InProgress", "Completed"]
    assert len(slept) == 1


def test_a_job_that_failed_says_why() -> None:
    client: Any = Jobs({"ProcessingJobStatus": "Failed", "FailureReason": "AlgorithmError: exit code 1"})
    with pytest.raises(SubmissionError, match="e1 is Failed: AlgorithmError: exit code 1"):
        wait(client, "processing", "e1", lambda _: None)
    client = Jobs({"status": "Failed", "failureMessages": ["no access to the judge"]})
    with pytest.raises(SubmissionError, match="no access to the judge"):
        wait(client, "bedrock", "arn", lambda _: None)


def test_places_that_are_not_there_are_named(s3: Any, tmp_path: Path) -> None:
    for place in (f"s3://{BUCKET}/none", "s3://bucket-only", str(tmp_path / "none")):
        with pytest.raises(PlaceError, match=place):
            places.read(place)


def test_a_run_is_logged_to_mlflow_with_its_decision(server: Server) -> None:
    base = "/api/2.0/mlflow"
    server.answers = {
        f"{base}/experiments/create": [(200, {"experiment_id": "7"})],
        f"{base}/runs/create": [(200, {"run": {"info": {"run_id": "abc"}}})],
        f"{base}/runs/log-batch": [(200, {})],
        f"{base}/runs/update": [(200, {})],
    }
    run = Tracking(server.url, "token").log("spillway", results(), judged({"at_least": 0.8}), "s3://b/r2")
    assert run == "abc"
    asked = {path.removeprefix(f"{base}/"): body for path, body in server.asked}
    assert asked["runs/create"]["experiment_id"] == "7"
    assert {"key": "spillway.decision", "value": "promote"} in asked["runs/create"]["tags"]
    metrics = {one["key"]: one["value"] for one in asked["runs/log-batch"]["metrics"]}
    assert metrics["f1.low"] == 0.8
    assert asked["runs/update"]["status"] == "FINISHED"
    assert server.headers[0]["authorization"] == "Bearer token"


def test_mlflow_that_refuses_is_an_error_with_its_words(server: Server) -> None:
    server.answers["/api/2.0/mlflow/experiments/get-by-name"] = [(403, {"message": "Invalid Host header"})]
    with pytest.raises(TrackingError, match=r"403 .*Invalid Host header"):
        Tracking(server.url).log("e", results(), None, "")


def test_an_address_that_is_not_mlflows_is_said_to_be_none(server: Server) -> None:
    with pytest.raises(TrackingError, match="is that address MLflow's"):
        Tracking(server.url).log("e", results(), None, "")
    with pytest.raises(TrackingError, match="write http://HOST"):
        Tracking("file:///tmp")
