"""Masked copies of prompts and answers: made after the answer, and nothing unmasked anywhere."""

import asyncio
import json
import logging
import re
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import botocore.session  # pyright: ignore[reportMissingTypeStubs]
import pytest
from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]
from moto import mock_aws

from runtime.evaluation.dataset import read_dataset
from runtime.sagemaker_gateway import service
from runtime.sagemaker_gateway.capture.config import CaptureConfig, CapturedEndpoint
from runtime.sagemaker_gateway.capture.files import Bucket, Files, StorageError
from runtime.sagemaker_gateway.capture.masker_process import MaskerProcess, RecordLostError
from runtime.sagemaker_gateway.capture.masking import Masker
from runtime.sagemaker_gateway.capture.record import masked_line
from runtime.sagemaker_gateway.capture.tape import About, is_sampled
from tests.support.evaluation import evaluation_job

from .running import DONE, Engine, Way, chat, configured, delta, in_loop, running_way

CARD = "4111 1111 1111 1111"
MESSAGES = [{"role": "user", "content": f"Is {CARD} mine? anna@example.com"}]
REQUEST_ID = "6f1c2f1e-0000-4000-8000-123456789012"
ABOUT = About(
    request_id=REQUEST_ID,
    time="2026-11-22T06:00:00.000+00:00",
    endpoint="chat-endpoint",
    variant="stable",
    model="tiny",
    streamed=False,
)


def capture(percent: int = 100, **changes: Any) -> CaptureConfig:
    endpoint = CapturedEndpoint(endpoint="chat-endpoint", percent=percent, prefix="capture/llm-chat/")
    settings: dict[str, Any] = {
        "bucket": "llm-prompts",
        "kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/1",
        "endpoints": (endpoint,),
        "end_s": 10.0,
    }
    return CaptureConfig(**{**settings, **changes})


class Folder:
    """Storage in memory; it refuses as long as it is told to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.refuses = refuses
        self.threads: set[str] = set()

    def put(self, key: str, content: bytes) -> None:
        self.threads.add(threading.current_thread().name)
        if self.refuses:
            raise StorageError("SlowDown")
        self.files[key] = content

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for content in self.files.values() for line in content.splitlines()]


class InProcess:
    """The real masking without its process; it waits for a gate, or loses records, where it is told to."""

    def __init__(self, gate: asyncio.Event | None = None, lost: str = "") -> None:
        self._masker: Masker | None = None
        self._gate = gate
        self._lost = lost
        self.stopped = False

    async def start(self) -> None:
        pass

    async def mask(self, about: About, request: bytes, answer: bytes) -> bytes:
        if self._gate:
            await self._gate.wait()
        if self._lost:
            raise RecordLostError(self._lost)
        self._masker = self._masker or Masker(("EMAIL_ADDRESS", "CREDIT_CARD"), ("US",))
        return masked_line(about, request, answer, self._masker)

    async def stop(self) -> None:
        self.stopped = True


async def ask(way: Way, **body: Any) -> None:
    headers = {"x-request-id": REQUEST_ID}
    async with way.client.post(
        "/v1/chat/completions", json=chat(messages=MESSAGES, **body), headers=headers
    ) as got:
        assert got.status == 200
        await got.read()


async def counted(way: Way, line: str) -> None:
    """Waits until the metrics have a line."""
    while f"spillway_sagemaker_capture_{line}\n" not in await way.metrics():
        await asyncio.sleep(0.01)


# What is written


@pytest.mark.parametrize("part_bytes", [1, 7, 10_000])
def test_streams_cut_anywhere_are_written_masked_in_the_shape_of_sagemakers_capture(part_bytes: int) -> None:
    folder = Folder()
    engine = Engine(events=[delta("Your card 4111 11"), delta("11 1111 1111 is"), delta(" fine"), DONE])

    @in_loop
    async def case() -> None:
        async with running_way(engine, storage=folder, masking=InProcess(), capture=capture()) as way:
            way.double.part_bytes = part_bytes
            async with way.client.post(
                "/v1/chat/completions",
                json=chat(stream=True, messages=MESSAGES),
                headers={"x-request-id": REQUEST_ID},
            ) as got:
                assert b"4111 11" in await got.read(), "the client gets what the model said"
            assert CARD in engine.received[0]["messages"][0]["content"], "and the model what the client said"

    case()
    [key] = folder.files
    assert key.startswith("capture/llm-chat/chat-endpoint/stable/20")
    [record] = folder.records
    sent = json.loads(record["captureData"]["endpointInput"].pop("data"))
    said = json.loads(record["captureData"]["endpointOutput"].pop("data"))
    assert sent["messages"] == [{"role": "user", "content": "Is <CREDIT_CARD> mine? <EMAIL_ADDRESS>"}]
    assert said["choices"] == [{"index": 0, "message": {"content": "Your card <CREDIT_CARD> is fine"}}]
    time = record["eventMetadata"].pop("inferenceTime")
    assert time.endswith("+00:00")
    assert record == {
        "captureData": {
            "endpointInput": {"observedContentType": "application/json", "mode": "INPUT", "encoding": "JSON"},
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "encoding": "JSON",
            },
        },
        "eventMetadata": {
            "eventId": REQUEST_ID,
            "inferenceId": REQUEST_ID,
            "customAttributes": ["endpoint=chat-endpoint", "variant=stable", "model=tiny", "masked=patterns"],
        },
        "eventVersion": "0",
    }


@in_loop
async def test_an_answer_as_a_whole_is_written_too_with_its_usage_and_off_the_event_loop() -> None:
    folder = Folder()
    async with running_way(storage=folder, masking=InProcess(), capture=capture(flush_s=0.01)) as way:
        await ask(way)
        await counted(way, "written_total 1.0")
        assert "capture_held_bytes 0.0" in await way.metrics()
    [record] = folder.records
    said = json.loads(record["captureData"]["endpointOutput"]["data"])
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert said["usage"]["completion_tokens"] == 5
    assert threading.main_thread().name not in folder.threads


def test_the_containers_time_stays_though_it_has_ten_digits_and_a_made_up_id_is_masked() -> None:
    answer = b'{"created": 1760000000, "choices": []}'
    about = replace(ABOUT, request_id="anna@example.com")
    line = json.loads(masked_line(about, b"{}", answer, Masker(("EMAIL_ADDRESS", "LONG_NUMBER"), ("US",))))
    assert json.loads(line["captureData"]["endpointOutput"]["data"])["created"] == 1760000000
    assert line["eventMetadata"]["eventId"] == "<EMAIL_ADDRESS>"


@in_loop
async def test_nothing_is_kept_where_nothing_says_so() -> None:
    folder = Folder()
    async with running_way(storage=folder, masking=InProcess()) as way:
        await ask(way)
        assert "capture" not in await way.metrics()
    assert not folder.files


@in_loop
async def test_answers_that_fail_or_that_the_client_left_are_not_kept() -> None:
    folder = Folder()
    engine = Engine(events=[delta("Hel"), delta("lo")])
    async with running_way(engine, storage=folder, masking=InProcess(), capture=capture()) as way:
        await ask(way, stream=True)
        await counted(way, 'dropped_total{reason="unfinished"} 1.0')
        assert "capture_held_bytes 0.0" in await way.metrics()
        engine.events = [delta("Hel"), b'data: {"error": {"message": "dead"}}\n\n', DONE]
        await ask(way, stream=True)
        await counted(way, 'dropped_total{reason="unfinished"} 2.0')
        engine.status, engine.refusal = 400, {"error": {"message": "no"}}
        assert (await way.ask()).status == 400
    assert not folder.files


def test_the_part_that_is_kept_is_the_same_on_every_gateway_and_as_large_as_it_says() -> None:
    ids = [f"{number:032x}" for number in range(4000)]
    kept = {percent: {one for one in ids if is_sampled(one, percent)} for percent in (1, 5, 50, 100)}
    assert kept[1] < kept[5] < kept[50] < kept[100] == set(ids)
    assert 120 < len(kept[5]) < 280
    # A digest of the id, and nothing of this process: sha256("a") begins with 0xca, 79.1 in a hundred.
    assert (is_sampled("a", 80), is_sampled("a", 79)) == (True, False)


@in_loop
async def test_a_request_outside_the_part_is_not_even_held() -> None:
    folder = Folder()
    assert not is_sampled(REQUEST_ID, 1)
    async with running_way(storage=folder, masking=InProcess(), capture=capture(percent=1)) as way:
        await ask(way)
        assert "capture_dropped_total{" not in await way.metrics()
    assert not folder.files


# What is dropped: the record, never a request


@in_loop
async def test_a_masker_that_lags_costs_records_and_no_request_waits() -> None:
    gate, folder = asyncio.Event(), Folder()
    config = capture(max_held_bytes=1024, max_record_bytes=1024)
    async with running_way(storage=folder, masking=InProcess(gate), capture=config) as way:
        async with asyncio.timeout(60):
            for _ in range(6):
                await ask(way)
        shown = await way.metrics()
        assert 'spillway_sagemaker_capture_waiting{for="masker"} 3.0' in shown
        assert 'capture_dropped_total{reason="queue_full"} 3.0' in shown
        gate.set()
    assert folder.records


@in_loop
async def test_what_is_longer_than_a_record_may_be_is_answered_and_not_kept() -> None:
    folder = Folder()
    engine = Engine(events=[delta("x" * 3000), DONE])
    config = capture(max_record_bytes=2048)
    async with running_way(engine, storage=folder, masking=InProcess(), capture=config) as way:
        await ask(way, stream=True)
        await ask(way, stream=True, user="x" * 3000)
        await counted(way, 'dropped_total{reason="too_long"} 2.0')
        assert "capture_held_bytes 0.0" in await way.metrics()
    assert not folder.files


@in_loop
async def test_a_record_that_cannot_be_masked_is_dropped_and_counted() -> None:
    folder = Folder()
    lost = InProcess(lost="masker_failed")
    async with running_way(storage=folder, masking=lost, capture=capture()) as way:
        await ask(way)
        await counted(way, 'dropped_total{reason="masker_failed"} 1.0')
    assert not folder.files
    assert lost.stopped


@in_loop
async def test_the_log_says_each_minute_what_is_let_through_and_what_became_of_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "_REPORT_S", 0.02)
    config = capture(flush_s=0.01, max_record_bytes=2048)
    async with running_way(storage=Folder(), masking=InProcess(), capture=config) as way:
        await ask(way)
        await ask(way, user="x" * 3000)
        await counted(way, "written_total 1.0")
        await asyncio.sleep(0.1)
    reports = [line for line in way.log if line.get("report") == "minute"]
    assert sum(one["copies_kept"] for one in reports) == 1
    assert [one["copies_dropped"] for one in reports if one["copies_dropped"]] == [{"too_long": 1}]
    assert {one["copies_lost"] for one in reports} == {0}
    assert set(reports[-1]["allowed_tokens"]) == {"tiny"}
    assert (reports[-1]["in_flight"], len(reports) > 2) == (0, True)


@in_loop
async def test_what_s3_does_not_take_is_tried_again_and_too_much_of_it_is_dropped() -> None:
    folder = Folder(refuses=True)
    config = capture(flush_s=0.05, max_held_bytes=2000)
    async with running_way(storage=folder, masking=InProcess(), capture=config) as way:
        await ask(way)
        await counted(way, 'waiting{for="s3"} 1.0')
        await ask(way)
        await ask(way)
        await counted(way, 'dropped_total{reason="storage_full"} 1.0')
        folder.refuses = False
        await counted(way, "written_total 2.0")
    assert len(folder.records) == 2


@in_loop
async def test_a_file_that_is_long_enough_does_not_wait_for_its_time() -> None:
    folder = Folder()
    config = capture(flush_s=600.0, max_file_bytes=1024)
    async with running_way(storage=folder, masking=InProcess(), capture=config) as way:
        for _ in range(3):
            await ask(way)
        while not folder.files:
            await asyncio.sleep(0.01)


@in_loop
async def test_a_gateway_that_stops_masks_and_writes_what_it_has() -> None:
    gate, folder = asyncio.Event(), Folder()
    async with running_way(storage=folder, masking=InProcess(gate), capture=capture()) as way:
        await ask(way)
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert len(folder.records) == 1


@in_loop
async def test_a_gateway_that_stops_in_the_middle_of_a_write_waits_for_it_and_writes_nothing_twice() -> None:
    class Slow(Folder):
        def put(self, key: str, content: bytes) -> None:
            writing.set()
            time.sleep(0.3)
            super().put(key, content)

    writing, folder = threading.Event(), Slow()
    async with running_way(storage=folder, masking=InProcess(), capture=capture(flush_s=0.01)) as way:
        await ask(way)
        await asyncio.to_thread(writing.wait)
    assert len(folder.records) == 1


@in_loop
async def test_a_folder_that_s3_refuses_does_not_hold_up_the_others() -> None:
    class Picky(Folder):
        def put(self, key: str, content: bytes) -> None:
            if key.startswith("refused/"):
                raise StorageError("AccessDenied")
            super().put(key, content)

    folder = Picky()
    files = Files(capture(), folder, lambda: datetime.now(UTC))
    for name in ("refused/", "taken/"):
        assert files.add(name, b"{}\n")
    written, refused = await files.flush()
    assert (written, [str(error) for error in refused], files.lines) == (1, ["AccessDenied"], 1)
    assert len(folder.records) == 1


def test_sigterm_drains_and_then_writes_what_was_captured(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[dict[str, Any]] = []

    class Aws:
        """botocore's session and client, as far as the adapter asks them."""

        def get_credentials(self) -> Credentials:
            return Credentials("testing", "testing")

        def create_client(self, service: str, region: str, config: object) -> "Aws":
            assert (service, region) == ("s3", "us-east-1")
            return self

        def put_object(self, **given: Any) -> None:
            put.append(given)

    def in_process(*_: object) -> InProcess:
        return InProcess()

    @in_loop
    async def case() -> None:
        monkeypatch.setattr(service, "MaskerProcess", in_process)
        async with running_way() as way:
            config = configured(capture=capture(flush_s=600.0), runtime_url=way.url, drain_notice_s=0.0)
            stop = asyncio.Event()
            serving = asyncio.create_task(service.serve(config, Aws(), stop))
            port = ""
            while not port:
                await asyncio.sleep(0.01)
                port = "".join(re.findall(r"API on port (\d+)", capfd.readouterr().out))
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                headers = {"x-request-id": REQUEST_ID}
                body = chat(messages=MESSAGES)
                async with client.post("/v1/chat/completions", json=body, headers=headers) as got:
                    assert got.status == 200
            assert not put
            stop.set()  # what the handler of SIGTERM does
            await serving

    case()
    [file] = put
    assert (file["Bucket"], file["ServerSideEncryption"]) == ("llm-prompts", "aws:kms")
    assert b"<CREDIT_CARD>" in file["Body"]


def test_what_is_not_masked_in_time_when_it_stops_is_lost_and_said_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, masking = Folder(), InProcess(asyncio.Event())

    @in_loop
    async def case() -> None:
        async with running_way(storage=folder, masking=masking, capture=capture(end_s=0.05)) as way:
            await ask(way)
            await ask(way)

    case()
    assert not folder.files
    assert masking.stopped
    assert "the gateway stops, and 2 records are lost" in capfd.readouterr().err


# Nothing unmasked outside memory


def test_no_log_no_metric_and_no_message_holds_a_word_of_it(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = ""

    @in_loop
    async def case() -> None:
        nonlocal shown
        folder = Folder(refuses=True)
        config = capture(flush_s=0.01, end_s=0.1)
        engine = Engine(events=[delta("answersecret 4111 1111 1111 1111"), DONE])
        async with running_way(engine, storage=folder, masking=InProcess(), capture=config) as way:
            await ask(way, stream=True)
            await counted(way, 'waiting{for="s3"} 1.0')
            engine.events = [
                b"data: {answersecret\n\n",
                b'data: {"choices": [{"answersecret": 1}]}\n\n',
                DONE,
            ]
            await ask(way, stream=True)
            await counted(way, 'waiting{for="masker"} 0.0')
            shown = await way.metrics() + json.dumps(way.log)

    with caplog.at_level(logging.DEBUG):
        case()
    said = capfd.readouterr()
    everything = shown + said.out + said.err + caplog.text
    for secret in ("answersecret", "4111", "anna@"):
        assert secret not in everything


# The process


@in_loop
async def test_the_process_masks_answers_by_one_word_and_goes_with_its_gateway() -> None:
    process = MaskerProcess(capture(), lambda: 0.0)
    try:
        line = await process.mask(ABOUT, json.dumps(chat(messages=MESSAGES)).encode(), b'{"choices": []}')
        assert b"Is <CREDIT_CARD> mine? <EMAIL_ADDRESS>" in line
        with pytest.raises(RecordLostError, match="unreadable"):
            await process.mask(ABOUT, b"{}", b"4111 no JSON")
        assert b"<CREDIT_CARD>" in await process.mask(
            ABOUT, json.dumps({"stop": CARD}).encode(), b'{"choices": []}'
        )
    finally:
        await process.stop()


def program(text: str) -> tuple[str, ...]:
    ready = "import sys, time, os\nsys.stdout.buffer.write(b'\\0\\0\\0\\1+')\nsys.stdout.flush()\n"
    return (sys.executable, "-S", "-c", ready + text)


@in_loop
async def test_a_process_that_takes_too_long_is_killed_and_its_record_lost() -> None:
    process = MaskerProcess(capture(mask_timeout_s=0.1), lambda: 0.0, program("time.sleep(600)"))
    with pytest.raises(RecordLostError, match="masker_timeout"):
        await process.mask(ABOUT, b"{}", b"{}")
    with pytest.raises(RecordLostError, match="masker_failed"):
        await process.mask(ABOUT, b"{}", b"{}")  # not before five seconds have gone


@in_loop
async def test_a_process_that_dies_loses_its_record_and_is_started_again_later() -> None:
    now = [0.0]
    process = MaskerProcess(capture(), lambda: now[0], program("os._exit(1)"))
    for _ in range(2):
        with pytest.raises(RecordLostError, match="masker_failed"):
            await process.mask(ABOUT, b"{}", b"{}")
    now[0] = 6.0
    process.command = program(
        "sys.stdout.buffer.write(b'\\0\\0\\0\\2+x'); sys.stdout.flush(); time.sleep(600)"
    )
    assert await process.mask(ABOUT, b"{}", b"{}") == b"x"
    await process.stop()


@in_loop
async def test_the_process_gets_no_aws_variables() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/secret")
        text = (
            "said = b'+' + str([name for name in os.environ if name[:4] == 'AWS_']).encode()\n"
            "sys.stdout.buffer.write(len(said).to_bytes(4) + said); sys.stdout.flush(); time.sleep(600)"
        )
        process = MaskerProcess(capture(), lambda: 0.0, program(text))
        assert await process.mask(ABOUT, b"{}", b"{}") == b"[]"
        await process.stop()


# The bucket


def test_a_file_is_in_the_bucket_encrypted_with_the_key_and_a_refusal_is_a_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        session: Any = botocore.session.Session()
        client = session.create_client("s3", "us-east-1")
        bucket = Bucket(client, capture())
        with pytest.raises(StorageError, match=r"^NoSuchBucket$"):
            bucket.put("capture/a.jsonl", b"{}\n")
        client.create_bucket(Bucket="llm-prompts")
        bucket.put("capture/a.jsonl", b"{}\n")
        got = client.get_object(Bucket="llm-prompts", Key="capture/a.jsonl")
        assert got["Body"].read() == b"{}\n"
        assert got["ServerSideEncryption"] == "aws:kms"
        assert got["SSEKMSKeyId"] == capture().kms_key_id


def test_the_evaluation_reads_what_was_captured() -> None:
    request = json.dumps(chat(messages=MESSAGES)).encode()
    answer = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "No."}}]}'
    line = masked_line(ABOUT, request, answer, Masker(("EMAIL_ADDRESS", "CREDIT_CARD"), ("US",)))
    job = evaluation_job(features="captureData.endpointInput.data", label="captureData.endpointOutput.data")
    [record] = read_dataset(job, line).records
    assert "Is <CREDIT_CARD> mine? <EMAIL_ADDRESS>" in record.features
    assert json.loads(record.references[0])["choices"][0]["message"]["content"] == "No."
