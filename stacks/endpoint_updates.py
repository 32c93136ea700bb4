"""What must be done before SageMaker takes an update of an endpoint, and no resource can say."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from components.kubernetes.ownership import stack_name
from runtime.model import Replicas
from runtime.ops.aws_account import Boto3Account
from runtime.ops.live_endpoint import (
    DECLARED_TAG,
    InTheWayError,
    LiveEndpoint,
    clear_failed,
    moved_traffic,
    not_taken,
    read_live,
)
from runtime.ops.scaling_targets import deregister_changed
from runtime.sagemaker.endpoints import EndpointSpec
from runtime.sagemaker.metrics import SHARED_VARIANT
from stacks.sagemaker_settings import SageMakerSettings

_ENDPOINT = "aws:sagemaker/endpoint:Endpoint"
_CONFIGURATION = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
_MODEL = "aws:sagemaker/model:Model"

_Change = pulumi.ResourceTransformationResult | None


def prepare_updates(settings: SageMakerSettings) -> None:
    """Has updates of endpoints keep what runs, and warns of traffic that an update would move back."""
    role = settings.assume_role
    account = Boto3Account(settings.region, role and role.role_arn, role and role.external_id)
    free_changed_variants(settings, account)
    require_taken(account)
    clear_failed_creations(account)
    live: dict[str, LiveEndpoint] = {}
    try:
        for endpoint in settings.endpoints:
            if (found := read_live(account.session, f"{settings.name}-{endpoint.name}")) is not None:
                live[endpoint.name] = found
    except (BotoCoreError, ClientError) as error:
        pulumi.log.warn(
            f"AWS cannot be asked what endpoints run now ({error}); one that is updated begins with its "
            "least instances"
        )
        return
    warn_of_lost_configurations(settings.name, live)
    warn_of_moved_traffic(settings.endpoints, live)
    pulumi.runtime.register_stack_transformation(KeptCounts(settings, live))


def require_taken(account: Boto3Account) -> None:
    """Fails the program where an endpoint does not run the configuration that it was given.

    The provider waits for InService alone, which an endpoint is on its old configuration too, after
    SageMaker took an update back (hashicorp/terraform-provider-aws issues 46663, 48997). What is replaced is
    deleted when the program has ended well, so this keeps what still runs. It is asked also where Pulumi
    changes nothing: then the state may say of an earlier update that it is done.
    """

    def with_look(args: pulumi.ResourceTransformationArgs) -> _Change:
        async def look() -> None:
            given = pulumi.Output.from_input(cast("Mapping[str, Any]", args.props)["endpoint_config_name"])
            configuration = await given.future()
            # Which ends when the endpoint is made or updated.
            if await args.resource.urn.future() is None or configuration is None:
                return
            try:
                said = await asyncio.to_thread(not_taken, account.session, args.name, str(configuration))
            except (BotoCoreError, ClientError) as error:
                raise pulumi.RunError(f"endpoint {args.name} cannot be asked what it runs: {error}") from None
            if said is not None:
                raise pulumi.RunError(said)

        if args.type_ == _ENDPOINT and not pulumi.runtime.is_dry_run():
            pulumi.Output.from_input(look())
        return None

    pulumi.runtime.register_stack_transformation(with_look)


def clear_failed_creations(account: Boto3Account) -> None:
    """Has an endpoint that failed deleted before it is made anew, and says how to adopt one that has not.

    The provider knows an endpoint only when it is in service. One whose creation fails, takes longer than the
    provider waits or is interrupted is in no state, and CreateEndpoint refuses its name from then on.
    """
    stack = stack_name()

    async def before_create(args: pulumi.ResourceHookArgs) -> None:
        try:
            cleared = await asyncio.to_thread(clear_failed, account.session, args.name, stack)
        except InTheWayError as error:
            raise pulumi.RunError(f"endpoint {args.name} {error}" + _adoption(args.urn, args.name)) from None
        if cleared:
            pulumi.log.info(f"{args.name}: deleted, because its creation had failed; it is made anew")

    hook = pulumi.ResourceHook("clear-failed-creation", before_create)
    _bind_to_endpoints(pulumi.ResourceHookBinding(before_create=[hook]))


def _adoption(urn: str, name: str) -> str:
    place, types, _ = urn.rsplit("::", 2)
    parent = f"{place}::{types.rpartition('$')[0]}::{name}"
    return (
        "\n  an `up` that made it ended before it was in service. When it is InService, adopt it with\n"
        f"  pulumi import {_ENDPOINT} {name} {name} --parent 'parent={parent}' "
        f"--provider 'provider={place}::pulumi:providers:aws::aws' --protect=false --generate-code=false\n"
        f"  or delete it (aws sagemaker delete-endpoint --endpoint-name {name}); then run `up` again"
    )


def warn_of_lost_configurations(prefix: str, live: Mapping[str, LiveEndpoint]) -> None:
    """Warns where the configuration that an endpoint runs on is gone, without which it takes no update."""
    for name, runs in live.items():
        if runs.lost is not None:
            pulumi.log.warn(
                f"endpoint {name}: its configuration {runs.lost} is gone. It answers, but SageMaker refuses "
                "updates of it. Make a configuration of that name again, or have the endpoint made anew, "
                f"which takes it down meanwhile: pulumi up --replace '**{_ENDPOINT}::{prefix}-{name}'"
            )


def warn_of_moved_traffic(endpoints: Sequence[EndpointSpec], live: Mapping[str, LiveEndpoint]) -> None:
    """Warns where traffic is not as the stack file says: `evaluate` promoted a canary, or took it back."""
    for index, endpoint in enumerate(endpoints):
        runs = live.get(endpoint.name)
        weights = {one.name: one.weight for one in endpoint.live}
        moved = moved_traffic(runs, weights) if runs is not None and endpoint.shared is None else None
        if moved is None:
            continue
        lines = [
            f"  endpoints[{index}].variants[{place}].weight: {moved[one.name]}  # {one.name}: {one.weight}"
            for place, one in enumerate(endpoint.variants)
            if one.name in moved
        ]
        pulumi.log.warn(
            f"endpoint {endpoint.name}: its traffic was moved since the last update, by `evaluate` or by "
            "hand, and the next update puts it back to the stack file's weights. To keep it, write\n"
            + "\n".join(lines)
        )


class KeptCounts:
    """Lets the configuration of an endpoint begin with the instances that run, where it changes at all.

    A configuration says how many instances a fleet begins with, and an update begins a new one: without this
    an endpoint that was scaled out to ten goes back to one. Which model and settings it has is told by
    a digest in a tag of the configuration. What is not known before `up`, such as the ARN of a key, is not
    in the digest; where nothing but that changes, an update begins with the count of the one before.

    Args:
        settings: The settings.
        live: The endpoints that run, by name in the stack file.
    """

    def __init__(self, settings: SageMakerSettings, live: Mapping[str, LiveEndpoint]) -> None:
        self._endpoints = {f"{settings.name}-{one.name}": one for one in settings.endpoints}
        self._prefix, self._live = settings.name, live
        self._models: dict[str, str] = {}

    def __call__(self, args: pulumi.ResourceTransformationArgs) -> _Change:
        """The transformation of one resource; models come before the configurations that name them."""
        if args.type_ == _MODEL:
            self._models[args.name] = _digest(args.props)
        elif args.type_ == _CONFIGURATION and args.name in self._endpoints:
            return self._configured(self._endpoints[args.name], args)
        return None

    def _configured(self, endpoint: EndpointSpec, args: pulumi.ResourceTransformationArgs) -> _Change:
        props = cast("Mapping[str, Any]", args.props)
        variants: list[dict[str, Any]] = [dict(one) for one in props["production_variants"]]
        others = {key: value for key, value in props.items() if key not in ("production_variants", "tags")}
        named = dict.fromkeys([*endpoint.hosted, *(one.model for one in endpoint.shadows)])
        declared = _digest(
            {
                **others,
                "variants": [_without_count(one) for one in variants],
                "models": [self._models.get(f"{self._prefix}-{name}") for name in named],
            }
        )
        sizes = _sizes(endpoint)
        live = self._live.get(endpoint.name)
        for one in variants:
            size = sizes[str(one["variant_name"])]
            # A fleet of a fixed size has the size that is declared.
            if live is not None and size.min < size.max:
                name = str(one["variant_name"])
                one["initial_instance_count"] = live.begins_with(name, declared, size.min, size.max)
        tags: dict[str, Any] = {**(props.get("tags") or {}), DECLARED_TAG: declared}
        changed: dict[str, Any] = {**props, "production_variants": variants, "tags": tags}
        return pulumi.ResourceTransformationResult(changed, args.opts)


def _sizes(endpoint: EndpointSpec) -> dict[str, Replicas]:
    if endpoint.shared is not None:
        return {SHARED_VARIANT: endpoint.shared.instances}
    return {one.name: one.replicas for one in endpoint.variants}


def _without_count(variant: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in variant.items() if key != "initial_instance_count"}


def _digest(props: Mapping[str, Any]) -> str:
    # Outputs are not known yet, and neither is their text the same at each run.
    text = json.dumps(props, sort_keys=True, default=lambda one: type(one).__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def free_changed_variants(settings: SageMakerSettings, account: Boto3Account) -> None:
    """Has scaling taken off a variant just before an update takes it away or changes its instance type.

    SageMaker refuses the update while the variant is registered with Application Auto Scaling. The target
    is a resource that comes after the endpoint, so its replacement alone would come too late; it puts the
    scaling back when the endpoint has been updated. Where the update fails and its change is taken back, the
    target does not change, and only a refresh sees that it is gone.
    """
    types = {
        f"{settings.name}-{endpoint.name}": {one.name: one.instance_type for one in endpoint.variants}
        for endpoint in settings.endpoints
    }

    async def before_update(args: pulumi.ResourceHookArgs) -> None:
        name = args.name
        if name not in types:
            return
        freed = await asyncio.to_thread(deregister_changed, account.session, name, types[name])
        if freed:
            pulumi.log.info(
                f"{name}: no scaling of {', '.join(freed)} until the update is through. If it fails and the "
                "stack file goes back to the old type, put the scaling back with `pulumi up --refresh`: the "
                "state says that it is there. `make up` does so itself"
            )

    hook = pulumi.ResourceHook("free-changed-variants", before_update)
    _bind_to_endpoints(pulumi.ResourceHookBinding(before_update=[hook]))


def _bind_to_endpoints(binding: pulumi.ResourceHookBinding) -> None:
    hooks = pulumi.ResourceOptions(hooks=binding)

    def with_hooks(args: pulumi.ResourceTransformationArgs) -> _Change:
        if args.type_ != _ENDPOINT:
            return None
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, hooks))

    pulumi.runtime.register_stack_transformation(with_hooks)
