"""Lets the runtime double have the endpoints of an account, as its SageMaker API says, in moto or elsewhere.

A change takes effect with the next look, as it does in AWS after some time. Who answers for a model is given
by the caller, since containers do not run here.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.sagemaker_runtime.double import Double, Endpoint, Variant
from runtime.sagemaker.hosted import HostedRevision

UrlOf = Callable[[HostedRevision], str]
"""Scheme and host of the engine that answers for a model."""


@dataclass(frozen=True)
class _Found:
    """An endpoint as the account has it.

    Attributes:
        variants: URL and weight of each variant.
        components: URL of each component; None where it has no copies.
    """

    variants: Mapping[str, tuple[str, float]]
    components: Mapping[str, str | None]


@asynccontextmanager
async def following(
    double: Double, sagemaker: Any, url_of: UrlOf, *, every_s: float = 1.0
) -> AsyncGenerator[None]:
    """Has a double follow an account while the context lasts; at its start it has looked once.

    Args:
        double: The double.
        sagemaker: boto3's client for `sagemaker`.
        url_of: Who answers for a model.
        every_s: Seconds between two looks.

    Raises:
        ClientError: The account cannot be read at the start. Later, what was found last holds.
    """
    await follow(double, sagemaker, url_of)

    async def again() -> None:
        while True:
            await asyncio.sleep(every_s)
            with suppress(BotoCoreError, ClientError):
                await follow(double, sagemaker, url_of)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def follow(double: Double, sagemaker: Any, url_of: UrlOf) -> None:
    """Looks once, and gives the double exactly the endpoints that were found.

    Args:
        double: The double.
        sagemaker: boto3's client for `sagemaker`.
        url_of: Who answers for a model.

    Raises:
        ClientError: The account cannot be read.
    """
    # boto3 blocks; the double is changed in its own loop, between two requests.
    found = await asyncio.to_thread(lambda: dict(_look(sagemaker, url_of)))
    for name in set(double.endpoints) - set(found):
        del double.endpoints[name]
    for name, one in found.items():
        _change(double.endpoints.setdefault(name, Endpoint()), one)


def _change(endpoint: Endpoint, found: _Found) -> None:
    """Variants that stay keep their counts."""
    for name in set(endpoint.variants) - set(found.variants):
        del endpoint.variants[name]
    for name, (url, weight) in found.variants.items():
        variant = endpoint.variants.setdefault(name, Variant(url))
        variant.url, variant.weight = url, weight
    before = endpoint.components
    endpoint.components = {}
    for name, url in found.components.items():
        copy = None if url is None else before.get(name) or Variant(url)
        if copy is not None and url is not None:
            copy.url = url
        endpoint.components[name] = copy


def _look(sagemaker: Any, url_of: UrlOf) -> Iterator[tuple[str, _Found]]:
    def url(model: str) -> str:
        return url_of(HostedRevision.read(sagemaker.describe_model(ModelName=model)))

    for listed in _all(sagemaker.list_endpoints, "Endpoints"):
        name = listed["EndpointName"]
        described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
        models = {one["VariantName"]: one.get("ModelName") for one in config["ProductionVariants"]}
        variants = {
            one["VariantName"]: (url(models[one["VariantName"]]), float(one["CurrentWeight"]))
            for one in described["ProductionVariants"]
            if models[one["VariantName"]]
        }
        components: dict[str, str | None] = {}
        # Only an endpoint without a model of its own has components.
        if not variants:
            components = dict(_components(sagemaker, name, url))
        yield name, _Found(variants, components)


def _components(sagemaker: Any, endpoint: str, url: Callable[[str], str]) -> Iterator[tuple[str, str | None]]:
    asked = {"EndpointNameEquals": endpoint}
    for one in _all(sagemaker.list_inference_components, "InferenceComponents", **asked):
        name = one["InferenceComponentName"]
        component = sagemaker.describe_inference_component(InferenceComponentName=name)
        copies = component["RuntimeConfig"]["CurrentCopyCount"]
        yield name, url(component["Specification"]["ModelName"]) if copies else None


def _all(call: Callable[..., dict[str, Any]], key: str, **asked: Any) -> Iterator[dict[str, Any]]:
    while True:
        answer = call(**asked)
        yield from answer[key]
        if not answer.get("NextToken"):
            return
        asked["NextToken"] = answer["NextToken"]
