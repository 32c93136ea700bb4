"""A stream of five real minutes through the SageMaker adapter, with SageMaker's real limits."""

import asyncio

import pytest

from tests.sagemaker_gateway.running import DONE, Engine, delta, running_way

_SECONDS = 300


@pytest.mark.faults
def test_a_stream_of_five_minutes_passes_whole() -> None:
    engine = Engine(events=[delta(str(number)) for number in range(_SECONDS)] + [DONE], pause_s=1.0)

    async def case() -> None:
        async with running_way(engine) as way:
            way.double.part_bytes = 17
            answer = await way.ask(stream=True)
            assert answer.events == engine.events
            line = await way.logged()
            assert line["outcome"] == "ok"
            assert line["duration_ms"] >= _SECONDS * 1000

    asyncio.run(case())
