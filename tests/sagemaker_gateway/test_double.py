"""The double of the SageMaker runtime API, by AWS's own client, and what it refuses."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import boto3  # pyright: ignore[reportMissingTypeStubs]
import pytest
from botocore.auth import SigV4Auth  # pyright: ignore[reportMissingTypeStubs]
from botocore.awsrequest import AWSRequest  # pyright: ignore[reportMissingTypeStubs]
from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import ClientError, EventStreamError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.sagemaker_runtime import Double, Endpoint, Fault, Variant, serving
from rehearsal.sagemaker_runtime.__main__ import read_endpoints

from .running import Engine, in_loop, serving_engine

_BODY = b'{"model": "tiny", "messages": [], "stream": true}'


def _client(url: str) -> Any:
    module: Any = boto3
    return module.client(
        "sagemaker-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


async def _with_boto3(engine: Engine, use: Callable[[Any, Double], None]) -> None:
    async with serving_engine(engine) as engine_url:
        double = Double({"e": Endpoint(variants={"one": Variant(engine_url)})}, part_bytes=13)
        async with serving(double) as url:
            await asyncio.to_thread(lambda: use(_client(url), double))


@in_loop
async def test_boto3_reads_its_plain_answers_and_errors() -> None:
    def use(client: Any, double: Double) -> None:
        answer = client.invoke_endpoint(
            EndpointName="e",
            Body=_BODY.replace(b"true", b"false"),
            ContentType="application/json",
            Accept="*/*",
        )
        assert b"Hello" in answer["Body"].read()
        assert answer["InvokedProductionVariant"] == "one"
        with pytest.raises(ClientError, match="not found") as missing:
            client.invoke_endpoint(EndpointName="other", Body=_BODY, ContentType="application/json")
        said: Any = missing.value
        assert said.response["Error"]["Code"] == "ValidationError"

    await _with_boto3(Engine(), use)


@in_loop
async def test_boto3_reads_the_containers_own_error() -> None:
    def use(client: Any, double: Double) -> None:
        with pytest.raises(client.exceptions.ModelError) as refused:
            client.invoke_endpoint(EndpointName="e", Body=_BODY, ContentType="application/json")
        assert refused.value.response["OriginalStatusCode"] == 422
        assert refused.value.response["OriginalMessage"] == '{"detail": "no"}'

    await _with_boto3(Engine(status=422, refusal={"detail": "no"}), use)


@in_loop
async def test_boto3_reads_its_streams_and_what_fails_in_them() -> None:
    engine = Engine()

    def use(client: Any, double: Double) -> None:
        def parts() -> list[bytes]:
            answer = client.invoke_endpoint_with_response_stream(
                EndpointName="e", Body=_BODY, ContentType="application/json"
            )
            assert answer["ContentType"] == "text/event-stream; charset=utf-8"
            return [event["PayloadPart"]["Bytes"] for event in answer["Body"]]

        got = parts()
        assert b"".join(got) == b"".join(engine.events)
        assert max(map(len, got)) <= 13
        double.faults.append(Fault("ModelStreamError", code="StreamBroken", after_parts=2))
        with pytest.raises(EventStreamError, match="ModelStreamError"):
            parts()

    await _with_boto3(engine, use)


def _signed(url: str, headers: dict[str, str], **other: Any) -> dict[str, str]:
    request: Any = AWSRequest(
        "POST", url, headers={"Content-Type": "application/json", **headers}, data=_BODY
    )
    signer: Any = SigV4Auth(
        Credentials(other.get("key", "testing"), other.get("secret", "testing")),
        other.get("service", "sagemaker"),
        other.get("region", "us-east-1"),
    )
    signer.add_auth(request)
    return dict(request.headers.items())


async def _refusal(
    headers: Callable[[str], dict[str, str]], path: str = "/endpoints/e/invocations"
) -> tuple[int, str]:
    async with serving_engine(Engine()) as engine_url:
        double = Double({"e": Endpoint(variants={"one": Variant(engine_url)})})
        async with (
            serving(double) as url,
            aiohttp.ClientSession(url) as session,
            session.post(path, data=_BODY, headers=headers(url + path)) as answer,
        ):
            return answer.status, answer.headers.get("x-amzn-ErrorType", "")


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ({"region": "eu-west-1"}, "InvalidSignatureException"),
        ({"service": "sagemaker-runtime"}, "InvalidSignatureException"),
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"key": "stranger"}, "UnrecognizedClientException"),
    ],
)
def test_what_is_signed_for_something_else_is_refused(other: dict[str, str], kind: str) -> None:
    @in_loop
    async def case() -> None:
        assert await _refusal(lambda url: _signed(url, {}, **other)) == (403, kind)

    case()


@in_loop
async def test_what_is_not_signed_or_signed_and_changed_is_refused() -> None:
    assert await _refusal(lambda url: {}) == (403, "MissingAuthenticationTokenException")
    added = {"X-Amzn-SageMaker-Target-Variant": "one"}
    assert await _refusal(lambda url: _signed(url, {}) | added) == (403, "InvalidSignatureException")
    assert await _refusal(lambda url: _signed(url + "x", {})) == (403, "InvalidSignatureException")
    late = (datetime.now(UTC) - timedelta(minutes=6)).strftime("%Y%m%dT%H%M%SZ")
    assert await _refusal(lambda url: _signed(url, {}) | {"X-Amz-Date": late}) == (
        403,
        "InvalidSignatureException",
    )


@in_loop
async def test_headers_variants_and_paths_that_it_does_not_know_are_refused() -> None:
    def with_header(name: str, value: str) -> Callable[[str], dict[str, str]]:
        return lambda url: _signed(url, {name: value})

    assert (await _refusal(lambda url: _signed(url, {})))[0] == 200
    assert await _refusal(with_header("X-Amzn-SageMaker-Session-Id", "x")) == (400, "ValidationError")
    assert await _refusal(with_header("X-Amzn-SageMaker-Target-Variant", "x")) == (400, "ValidationError")
    assert await _refusal(with_header("X-Amzn-SageMaker-Inference-Component", "x")) == (
        400,
        "ValidationError",
    )
    assert await _refusal(with_header("Content-Type", "text/csv")) == (400, "ValidationError")
    path = "/endpoints/e/async-invocations"
    assert await _refusal(lambda url: _signed(url, {}), path) == (404, "UnknownOperationException")


def test_a_file_of_endpoints_is_read_and_a_key_that_is_not_known_is_refused() -> None:
    read = read_endpoints(
        {"a": {"variants": {"v": {"url": "http://x", "weight": 2}}}, "b": {"components": {"c": None}}}
    )
    assert read["a"].variants["v"] == Variant("http://x", weight=2)
    assert read["b"].components == {"c": None}
    with pytest.raises(TypeError, match="variant"):
        read_endpoints({"a": {"variant": {}}})
