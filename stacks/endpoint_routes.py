"""Which endpoint answers which model, and what the gateway's task is told: pure functions of settings."""

from collections.abc import Iterator, Sequence

from runtime.gateway import GatewayConfig, ModelRoute, Upstream
from runtime.model import Mistake
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.metrics import component_name
from runtime.sagemaker.models import EndpointModel
from runtime.sagemaker_gateway.capture.config import CaptureConfig, CapturedEndpoint
from runtime.sagemaker_gateway.config import MAX_BODY_BYTES, AdapterConfig, SageMakerModel
from runtime.sagemaker_gateway.fargate import CAPTURE_HELD_BYTES, ENVOY_MIB, held_bytes, least_memory_mib
from runtime.sagemaker_gateway.task import ADAPTER, ENVOY, FILES, MAX_DEFINITION_BYTES, GatewayTask
from stacks.endpoint_gateway_settings import EndpointGateway

_MIB = 1024 * 1024
_LOOPBACK = "127.0.0.1"
# A load balancer forgets a connection after 350 s of silence, and says so to nobody: Envoy ends it before.
_IDLE_CONNECTION_S = 300.0
# The load balancer spreads connections: a request with one of its own finds a task that stays, a new one too.
# It costs a round trip in the VPC before an answer of seconds.
_REQUESTS_PER_CONNECTION = 1
# The adapter ends a stream after 480 s itself, with words.
_SILENT_STREAM_S = 500.0


def endpoint_name(platform: str, endpoint: EndpointSpec) -> str:
    """What SageMaker calls an endpoint."""
    return f"{platform}-{endpoint.name}"


def answered(
    platform: str, models: Sequence[EndpointModel], endpoints: Sequence[EndpointSpec]
) -> Iterator[SageMakerModel]:
    """Every name that clients may ask for, and where it is answered; one of several variants is there once.

    A LoRA adapter has a name of its own. What waits in the bucket (`asynchronous`) has no answer to give.
    """
    known = {one.name: one for one in models}
    for endpoint in endpoints:
        if endpoint.asynchronous is not None:
            continue
        place = endpoint_name(platform, endpoint)
        parts = endpoint.shared.components if endpoint.shared else ()
        hosted: list[tuple[str, str | None]] = [(one.model, component_name(place, one.name)) for one in parts]
        hosted += [(one.model, None) for one in endpoint.live]
        # A request may meet any variant, and each of them has to answer it.
        streams = not any(known[name].is_pipeline for name, _ in hosted)
        seen: set[str] = set()
        for model, component in ((known[name], component) for name, component in hosted):
            for name in (model.model_id, *(one.name for one in model.adapters)):
                if name not in seen:
                    seen.add(name)
                    yield SageMakerModel(
                        name=name, endpoint=place, inference_component=component, streams=streams
                    )


def gateway_task(
    platform: str,
    region: str,
    gateway: EndpointGateway,
    models: Sequence[EndpointModel],
    endpoints: Sequence[EndpointSpec],
    *,
    capture: CaptureConfig | None = None,
    gateway_image: str = "",
    adapter_image: str = "",
) -> GatewayTask:
    """What the gateway's task is told.

    Args:
        platform: The platform's name, which all names in AWS begin with.
        region: AWS region.
        gateway: Settings of the gateway.
        models: All models.
        endpoints: All endpoints.
        capture: Of what masked copies are kept.
        gateway_image: Where the tasks pull Envoy from; as in the settings by itself.
        adapter_image: The same for the adapter.

    Raises:
        ValueError: Nothing or something twice would be routed; `gateway_mistakes` says it before.
    """
    speeds = {one.model: one for one in gateway.speeds}
    routed = tuple(
        one.model_copy(update={"safe_tokens": speed.safe_tokens, "first_token_s": speed.first_token_seconds})
        if (speed := speeds.get(one.name))
        else one
        for one in answered(platform, models, endpoints)
    )
    adapter = AdapterConfig(
        region=region,
        models=routed,
        max_held_bytes=held_bytes(gateway.memory_mib, captures=capture is not None),
        listen_port=8081,
        capture=capture,
    )
    upstream = Upstream(host=_LOOPBACK, port=adapter.listen_port)
    envoy_logs, adapter_logs = log_groups(platform)
    return GatewayTask(
        gateway=GatewayConfig(
            models=tuple(ModelRoute(name=one.name, upstream=upstream) for one in routed),
            max_request_bytes=MAX_BODY_BYTES,
            max_heap_bytes=ENVOY_MIB * _MIB * 4 // 5,
            stream_idle_timeout_s=_SILENT_STREAM_S,
            connection_idle_timeout_s=_IDLE_CONNECTION_S,
            requests_per_connection=_REQUESTS_PER_CONNECTION,
        ),
        adapter=adapter,
        gateway_image=gateway_image or gateway.image,
        adapter_image=adapter_image or gateway.adapter_image,
        region=region,
        logs={ENVOY: envoy_logs, ADAPTER: adapter_logs, FILES: adapter_logs},
    )


def masked_capture(
    platform: str, endpoints: Sequence[EndpointSpec], bucket: str, key: str
) -> CaptureConfig | None:
    """Of which endpoints the gateway keeps masked copies; None if of none.

    Args:
        platform: The platform's name.
        endpoints: All endpoints.
        bucket: The bucket for prompts and answers.
        key: The key that encrypts them.
    """
    captured = tuple(
        CapturedEndpoint(
            endpoint=(name := endpoint_name(platform, one)),
            percent=one.capture.percent,
            prefix=f"capture/{name}/",
        )
        for one in endpoints
        if one.capture is not None and one.capture.personal_data == "masked"
    )
    if not captured:
        return None
    return CaptureConfig(bucket=bucket, kms_key_id=key, endpoints=captured, max_held_bytes=CAPTURE_HELD_BYTES)


def log_groups(platform: str) -> tuple[str, str]:
    """Log groups of Envoy and of the adapter: a filter on the one must not see the lines of the other."""
    return f"/spillway/{platform}/gateway/envoy", f"/spillway/{platform}/gateway/adapter"


def gateway_mistakes(
    platform: str,
    region: str,
    gateway: EndpointGateway,
    models: Sequence[EndpointModel],
    endpoints: Sequence[EndpointSpec],
) -> Iterator[Mistake]:
    """What of the gateway's settings does not go with models and endpoints. Paths start at the platform's."""
    routed = list(answered(platform, models, endpoints))
    if not routed:
        yield Mistake(("gateway",), "has nothing to route, because every endpoint is asynchronous; remove it")
        return
    names = [one.name for one in routed]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        places = sorted({one.endpoint for one in routed if one.name == twice})
        yield Mistake(
            ("gateway",),
            f"cannot route {twice}: {' and '.join(places)} answer to it; give models and LoRA adapters "
            "names of their own",
        )
    if len(set(names)) < len(names):
        return
    for index, speed in enumerate(gateway.speeds):
        if speed.model not in names:
            yield Mistake(
                ("gateway", "speeds", index, "model"),
                f"is what no endpoint answers to; allowed: {', '.join(sorted(names))}; take one of them",
            )
    # Names as long as any.
    capture = masked_capture(platform, endpoints, "b" * 63, "k" * 240)
    if capture is not None and held_bytes(gateway.memory_mib, captures=True) < MAX_BODY_BYTES:
        yield Mistake(
            ("gateway", "memoryMib"),
            f"leaves no room for one request body of {MAX_BODY_BYTES:,} bytes beside Envoy and what masks "
            f"captured prompts; it takes {least_memory_mib(MAX_BODY_BYTES, captures=True)} or more; raise it",
        )
    size = gateway_task(platform, region, gateway, models, endpoints, capture=capture).definition_bytes
    if size > MAX_DEFINITION_BYTES:
        yield Mistake(
            ("gateway",),
            f"makes a task definition of {size:,} bytes with {len(names)} models and LoRA adapters, and ECS "
            f"takes {MAX_DEFINITION_BYTES:,}; split the stack, or serve fewer",
        )
