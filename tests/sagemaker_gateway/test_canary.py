"""A canary's traffic, counted: through the real adapter to endpoints whose weights the account has.

Evaluation, gate, `evaluate apply` and the adapter are real; AWS' two APIs are doubles, and engines add one.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from botocore.credentials import Credentials  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.sagemaker_runtime import Double, Draw, following, serving
from rehearsal.sagemaker_runtime.followed import UrlOf, follow
from runtime.ops.evaluation import places
from runtime.ops.evaluation.command import main
from runtime.sagemaker.hosted import HostedRevision
from runtime.sagemaker_gateway import SageMakerModel
from runtime.sagemaker_gateway.service import listening
from tests.sagemaker_gateway.running import DONE, configured, delta, serving_engine
from tests.support.aws import RunningDouble, running_double
from tests.support.evaluation import evaluation_job, lines_of
from tests.support.hosted import ENDPOINT, SERVED, Hosted, hosted

# Long enough for some dozens of requests at each step, on a busy machine too.
BAKE_S = "1.5"


class Adding:
    """An engine that adds one, or has no idea."""

    def __init__(self, *, good: bool) -> None:
        self.good = good

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        words = str(body["messages"][-1]["content"]).split()
        text = str(int(words[0]) + 1) if self.good else "no idea"
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"object": "chat.completion", "choices": [choice]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(delta(text) + DONE)
        return response


@dataclass
class World:
    """Account, gateway and clients.

    Attributes:
        here: The endpoint in the account.
        double: The runtime API, which follows the account.
        client: A session on the adapter's URL.
        url_of: Who answers for a model.
        folder: For jobs and results.
        answers: What clients were answered, in order.
    """

    here: Hosted
    double: Double
    client: aiohttp.ClientSession
    url_of: UrlOf
    folder: Path
    answers: list[str] = field(default_factory=list[str])

    @property
    def draws(self) -> list[Draw]:
        return self.double.endpoints[ENDPOINT].draws

    async def ask(self, count: int) -> None:
        """So many streamed chats, eight at a time."""

        async def one_after_another(first: int) -> None:
            for number in range(first, count, 8):
                body = {"model": SERVED, "stream": True, "messages": [_question(number)]}
                async with self.client.post("/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200
                    first_event = (await answer.read()).split(b"\n\n")[0].removeprefix(b"data: ")
                    self.answers.append(json.loads(first_event)["choices"][0]["delta"]["content"])

        await asyncio.gather(*map(one_after_another, range(8)))

    @asynccontextmanager
    async def traffic(self) -> AsyncGenerator[None]:
        """Clients that go on asking while the context lasts."""
        going = True

        async def asking() -> None:
            while going:
                await self.ask(40)

        task = asyncio.create_task(asking())
        yield
        going = False
        await task

    async def evaluated(self, revision: str, variant: str, baseline: str | None) -> int:
        """What `evaluate run` returns of a variant."""
        against = ["--first-revision"] if baseline is None else ["--baseline", str(self.folder / baseline)]
        gate = {"minimum_records": 20, "thresholds": [{"metric": "f1", "at_least": 0.9, "regression": 0.05}]}
        job = evaluation_job(
            model=SERVED,
            revision=revision,
            dataset_uri=str(self.folder / "sums.jsonl"),
            predictor={"endpoint_name": ENDPOINT},
            gate=gate,
        )
        path = self.folder / f"{revision}.json"
        path.write_text(job.model_dump_json(exclude_none=True))
        arguments = ["run", str(path), "--out", str(self.folder / revision), "--variant", variant, *against]
        return await asyncio.to_thread(main, arguments)

    async def applied(self, revision: str, *more: str) -> int:
        """What `evaluate apply` returns, once its last change has taken effect."""
        arguments = ["apply", str(self.folder / revision), "--endpoint-name", ENDPOINT, *more]
        status = await asyncio.to_thread(main, arguments)
        await self.follow()
        return status

    async def follow(self) -> None:
        await follow(self.double, self.here.sagemaker, self.url_of)


@pytest.fixture(name="account")
def fixture_account(tmp_path: Path) -> Generator[RunningDouble]:
    places.aws.cache_clear()
    with running_double(tmp_path / "aws") as running:
        yield running
    places.aws.cache_clear()


@asynccontextmanager
async def world(
    account: RunningDouble, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> AsyncGenerator[World]:
    """Stable serves r1, which adds, with weight 9; canary serves r2, which has no idea, with weight 1."""
    here = hosted(account, monkeypatch)
    folder.mkdir()
    records = ({"question": f"{at} plus 1", "answer": f"{at + 1}"} for at in range(20))
    (folder / "sums.jsonl").write_bytes(lines_of(*records))
    double = Double({})
    config = configured(models=(SageMakerModel(name=SERVED, endpoint=ENDPOINT),))
    async with (
        serving_engine(Adding(good=True)) as good,
        serving_engine(Adding(good=False)) as bad,
        serving(double) as runtime_url,
    ):

        def url_of(revision: HostedRevision) -> str:
            return bad if revision.revision == "r2" else good

        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", runtime_url)
        async with (
            following(double, here.sagemaker, url_of, every_s=0.1),
            listening(config, runtime_url, Credentials("testing", "testing"), lambda _: None) as running,
            aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as client,
        ):
            yield World(here, double, client, url_of, folder)


def within_weights(draws: Sequence[Draw]) -> list[tuple[float, int, int]]:
    """Share of the canary, requests and those that it got, for each time with the same weights.

    Fails where of the first n requests of such a time the canary got more than its share of n, and one.
    """
    found: list[tuple[float, int, int]] = []
    for _, same in groupby(draws, key=lambda one: one.weights):
        times = list(same)
        share = times[0].weights["canary"] / sum(times[0].weights.values())
        got = 0
        for n, one in enumerate(times, 1):
            got += one.variant == "canary"
            assert got <= share * n + 1
        found.append((share, len(times), got))
    return found


def test_a_bad_canary_never_has_more_than_its_weight_and_nothing_once_it_is_rolled_back(
    account: RunningDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def case() -> None:
        async with world(account, monkeypatch, tmp_path / "work") as here:
            assert await here.evaluated("r1", "stable", None) == 0
            assert await here.evaluated("r2", "canary", "r1") == 4
            await here.ask(1000)
            async with here.traffic():
                assert await here.applied("r2") == 4
                before = len(here.draws)
            await here.ask(200)
            (share, asked, got), (zero, _, none) = within_weights(here.draws)
            assert (share, zero, none) == (0.1, 0.0, 0)
            assert asked >= 1000
            # What clients saw is what was drawn: the evaluation's requests are none of theirs.
            assert here.answers.count("no idea") == got
            assert len(here.answers) == len(here.draws) >= 1200
            assert all(one.variant == "stable" for one in here.draws[before:])
            assert here.here.weights() == {"stable": 10.0, "canary": 0.0}
            assert [one["ModelApprovalStatus"] for one in here.here.packages()] == ["Rejected"]

    asyncio.run(case())


def test_a_good_canary_without_traffic_is_judged_and_gets_it_step_by_step(
    account: RunningDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def case() -> None:
        async with world(account, monkeypatch, tmp_path / "work") as here:
            here.here.model("r3")
            here.here.configuration("second", {"stable": 1, "canary": 0}, stable="r1", canary="r3")
            here.here.update("second")
            await here.follow()
            assert await here.evaluated("r1", "stable", None) == 0
            assert await here.evaluated("r3", "canary", "r1") == 0
            await here.ask(100)
            async with here.traffic():
                assert await here.applied("r3", "--steps", "25,50,100", "--bake", BAKE_S) == 0
            await here.ask(100)
            times = within_weights(here.draws)
            assert [share for share, _, _ in times] == [0.0, 0.25, 0.5, 1.0]
            # Its share is what it gets, too.
            assert all(got >= share * asked - 1 for share, asked, got in times)
            assert all(asked >= 20 for _, asked, _ in times)
            assert "no idea" not in here.answers
            assert here.double.endpoints[ENDPOINT].variants["canary"].answered == 20 + sum(
                got for _, _, got in times
            )
            assert [one["ModelApprovalStatus"] for one in here.here.packages()] == ["Approved"]

    asyncio.run(case())


def _question(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"{number} plus 1"}
