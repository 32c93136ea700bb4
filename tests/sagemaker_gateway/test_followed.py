"""The runtime double with the endpoints of an account, and its turns by weight."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.sagemaker_runtime import Double, Endpoint, Variant
from rehearsal.sagemaker_runtime.__main__ import read_engines
from rehearsal.sagemaker_runtime.followed import follow
from runtime.sagemaker.hosted import HostedRevision
from tests.sagemaker_gateway.running import in_loop
from tests.support.aws import running_double
from tests.support.hosted import ENDPOINT, SERVED, Hosted, hosted

ENGINES = read_engines({f"{SERVED} r2": "http://canary", SERVED: "http://stable"})


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Hosted]:
    with running_double(tmp_path) as account:
        yield hosted(account, monkeypatch)


@in_loop
async def test_weights_models_and_endpoints_are_those_of_the_account(here: Hosted) -> None:
    double = Double({"gone": Endpoint()})
    await follow(double, here.sagemaker, ENGINES)
    (endpoint,) = double.endpoints.values()
    assert endpoint.variants == {
        "stable": Variant("http://stable", weight=9.0),
        "canary": Variant("http://canary", weight=1.0),
    }
    endpoint.variants["stable"].answered = 5
    here.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT, DesiredWeightsAndCapacities=[{"VariantName": "canary", "DesiredWeight": 0.0}]
    )
    # What is under way is not so yet.
    await follow(double, here.sagemaker, ENGINES)
    assert endpoint.variants["canary"].weight == 1.0
    await follow(double, here.sagemaker, ENGINES)
    assert endpoint.variants["canary"].weight == 0.0
    assert endpoint.variants["stable"].answered == 5
    here.configuration("alone", {"stable": 1}, stable="r2")
    here.update("alone")
    await follow(double, here.sagemaker, ENGINES)
    assert endpoint.variants == {"stable": Variant("http://canary", weight=1.0, answered=5)}
    here.sagemaker.delete_endpoint(EndpointName=ENDPOINT)
    await follow(double, here.sagemaker, ENGINES)
    assert double.endpoints == {}


@in_loop
async def test_a_component_answers_while_it_has_copies(here: Hosted) -> None:
    shared = {"VariantName": "shared", "InstanceType": "ml.g6.2xlarge", "InitialInstanceCount": 1}
    here.sagemaker.create_endpoint_config(
        EndpointConfigName="shared",
        ProductionVariants=[shared],
        ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
    )
    here.sagemaker.create_endpoint(EndpointName="small", EndpointConfigName="shared")
    here.sagemaker.create_inference_component(
        InferenceComponentName="part",
        EndpointName="small",
        VariantName="shared",
        Specification={
            "ModelName": "llm-r1",
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 0},
    )
    double = Double({})
    await follow(double, here.sagemaker, ENGINES)
    assert double.endpoints["small"] == Endpoint(components={"part": None})

    def copies(count: int) -> Any:
        return here.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName="part", DesiredRuntimeConfig={"CopyCount": count}
        )

    copies(2)
    await follow(double, here.sagemaker, ENGINES)
    assert double.endpoints["small"].components == {"part": Variant("http://stable")}
    copies(0)
    await follow(double, here.sagemaker, ENGINES)
    assert double.endpoints["small"].components == {"part": None}


def test_who_answers_is_said_by_revision_by_model_or_for_all() -> None:
    def of(model: str, revision: str) -> HostedRevision:
        return HostedRevision(model=model, revision=revision, at_once=None, containers=[])

    url_of = read_engines({"m r2": "http://r2", "m": "http://m", "*": "http://rest"})
    assert [url_of(of(*one)) for one in (("m", "r2"), ("m", "r1"), ("n", "r2"))] == [
        "http://r2",
        "http://m",
        "http://rest",
    ]
    with pytest.raises(KeyError, match="m r1: no engine answers for it"):
        read_engines({"m r2": "http://r2"})(of("m", "r1"))


def test_turns_are_counted_anew_when_weights_change_and_without_what_asked_for_a_variant() -> None:
    endpoint = Endpoint(variants={"stable": Variant("a", 9), "canary": Variant("b", 1, answered=50)})
    first = [endpoint.draw() for _ in range(100)]
    assert first.count("canary") == 10
    endpoint.variants["stable"].weight = endpoint.variants["canary"].weight = 5
    # It does not get what it would have had with these weights from the beginning.
    assert [endpoint.draw() for _ in range(10)].count("canary") == 5
    endpoint.variants["canary"].weight = 0
    assert {endpoint.draw() for _ in range(100)} == {"stable"}
