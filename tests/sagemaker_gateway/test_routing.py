"""Which endpoint, component and variant a model's requests reach, and by which names."""

import pytest

from runtime.sagemaker_gateway import SageMakerModel

from .running import Engine, in_loop, running_way

_MODELS = (
    SageMakerModel(
        name="org/big", endpoint="chat-endpoint", variant="stable", container_model="/opt/ml/model"
    ),
    SageMakerModel(name="shared-one", endpoint="shared", inference_component="tiny-copy"),
    SageMakerModel(name="gone", endpoint="no-such-endpoint"),
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_goes_to_its_endpoint_and_variant_under_the_containers_name(stream: bool) -> None:
    @in_loop
    async def case() -> None:
        async with running_way(models=_MODELS) as way:
            answer = await way.ask(model="org/big", stream=stream)
            assert answer.status == 200
            assert answer.headers["x-spillway-variant"] == "stable"
            suffix = "-response-stream" if stream else ""
            assert way.double.calls[0]["path"] == f"/endpoints/chat-endpoint/invocations{suffix}"
            assert way.double.calls[0]["x-amzn-sagemaker-target-variant"] == "stable"
            assert "x-amzn-sagemaker-inference-component" not in way.double.calls[0]
            assert way.engine.received[0]["model"] == "/opt/ml/model"

    case()


@in_loop
async def test_a_model_of_a_shared_endpoint_names_its_inference_component() -> None:
    async with running_way(models=_MODELS) as way:
        assert (await way.ask(model="shared-one", stream=True)).status == 200
        assert way.double.calls[0]["x-amzn-sagemaker-inference-component"] == "tiny-copy"
        assert way.engine.received[0]["model"] == "shared-one"


@in_loop
async def test_an_endpoint_that_is_not_there_is_the_operators_mistake() -> None:
    async with running_way(models=_MODELS) as way:
        answer = await way.ask(model="gone")
        assert (answer.status, answer.error["code"]) == (502, "endpoint_refused")
        assert "no-such-endpoint" in (await way.logged())["detail"]


@in_loop
async def test_all_fields_but_model_and_cap_reach_the_container_as_they_are() -> None:
    async with running_way() as way:
        await way.ask(max_tokens=3, temperature=0.25, tools=[{"type": "function"}], user="é")
        assert way.engine.received[0] == {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 3,
            "temperature": 0.25,
            "tools": [{"type": "function"}],
            "user": "é",
        }


@in_loop
async def test_the_models_are_listed_and_described() -> None:
    async with running_way(models=_MODELS) as way:
        listed = await way.get("/v1/models")
        assert b'"org/big"' in listed.raw
        card = await way.get("/v1/models/org/big")
        assert card.raw == b'{"id": "org/big", "object": "model", "created": 0, "owned_by": "spillway"}'
        missing = await way.get("/v1/models/other")
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")


@in_loop
async def test_another_path_is_told_which_ones_there_are() -> None:
    async with running_way() as way:
        answer = await way.ask("/v1/embeddings")
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")
        assert "/v1/chat/completions" in answer.error["message"]


@in_loop
async def test_requests_go_to_variants_by_their_weights_and_the_canary_never_gets_more() -> None:
    async with running_way(Engine()) as way:
        variants = way.double.endpoints["chat-endpoint"].variants
        stable = variants["stable"]
        stable.weight = 9
        variants["canary"] = type(stable)(stable.url, weight=1)
        for asked in range(1, 51):
            await way.ask()
            assert variants["canary"].answered <= asked * 0.1 + 1
        assert (stable.answered, variants["canary"].answered) == (45, 5)
        assert 'variant_answers_total{model="tiny",variant="canary"} 5.0' in await way.metrics()
