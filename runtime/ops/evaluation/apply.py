"""`evaluate apply` and `history`: what a decision does to a canary's traffic and to the registry."""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]
from pydantic import ValidationError

from runtime.evaluation.gate import Decision
from runtime.evaluation.model_package import APPROVALS
from runtime.evaluation.results import DECISION, ResultsError
from runtime.ops.evaluation.hosted_endpoint import EndpointError, HostedEndpoint
from runtime.ops.evaluation.places import aws, beside, read
from runtime.ops.evaluation.registry import Registry, RegistryError, Version
from runtime.ops.evaluation.rollout import AlarmError, Rollout, RolloutError
from runtime.ops.progress import Progress
from runtime.sagemaker.registry import package_group_name
from runtime.sagemaker.traffic import whole_weights
from runtime.tenure import PLATFORM_TAG

ERRORS = (RolloutError, EndpointError, RegistryError)


def add_arguments(apply: argparse.ArgumentParser, history: argparse.ArgumentParser) -> None:
    """Gives both commands their arguments."""
    apply.set_defaults(run=_apply)
    apply.add_argument("results", help="folder or s3:// prefix with decision.json")
    apply.add_argument("--endpoint-name", required=True, help="SageMaker's name of the endpoint")
    apply.add_argument("--canary", default="canary", help="variant that was judged (%(default)s)")
    apply.add_argument("--stable", default="stable", help="variant that serves beside it (%(default)s)")
    apply.add_argument(
        "--steps",
        type=_steps,
        default=(1.0,),
        metavar="PERCENT,…",
        help="shares of the traffic that the canary gets one after the other (100)",
    )
    apply.add_argument(
        "--bake",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long the endpoint's alarms are watched after each step (%(default)g)",
    )
    apply.add_argument(
        "--allow-few-instances",
        action="store_true",
        help="give the canary its share even if it has fewer instances than that",
    )
    apply.add_argument("--group", help="group of the model registry; else the stack's for the model")
    apply.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")

    history.set_defaults(run=_history)
    history.add_argument("group", help="the group, NAME-MODEL of the stack")


def _apply(given: argparse.Namespace, progress: Progress) -> int:
    decision = _decision(given.results)
    with progress.step(f"traffic of {given.endpoint_name}") as step:
        rollout = Rollout(
            sagemaker=aws("sagemaker"),
            cloudwatch=aws("cloudwatch"),
            endpoint=given.endpoint_name,
            canary=given.canary,
            stable=given.stable,
            said=progress.line,
            waiting=step.update,
        )
        now = rollout.look()
        rollout.check_is_of(decision, now)
        print("\n".join(decision.lines()))
        if decision.outcome == "roll_back" and not given.plan:
            # First of all: a bad canary gets nothing, even if the registry cannot be written.
            now = rollout.roll_back()
            _say_weights(given, now)
        registry = Registry(aws("sagemaker"), given.group or _group(decision, now))
        if given.plan:
            return _plan(given, decision, rollout, registry, now)
        version = _recorded(registry, decision, now, given)
        if decision.outcome == "roll_back":
            return 4
        if decision.outcome == "hold":
            print(f"{given.canary} stays at {now.share(given.canary):.1%} of the traffic")
            return 3
        _check_approved(registry, version)
        if not now.alarms:
            print(f"{given.endpoint_name} has no rollback alarms, so nothing watches the canary")
        try:
            now = rollout.rise(decision, given.steps, given.bake, allow_few=given.allow_few_instances)
        except AlarmError as error:
            progress.line(f"{error}; rolling back")
            try:
                now = rollout.roll_back()
            finally:
                # Also where its traffic stays: another run would promote it on.
                rejected = _rejected(registry, version, str(error))
            _say_weights(given, now)
            return 4 if rejected else 1
        print(f"{given.canary} has {now.share(given.canary):.1%} of the traffic")
        _say_weights(given, now)
        return 0


def _plan(
    given: argparse.Namespace, decision: Decision, rollout: Rollout, registry: Registry, now: HostedEndpoint
) -> int:
    found = registry.find(decision)
    if found is None:
        print(f"would add a version to {registry.group}: {APPROVALS[decision.outcome]}")
    else:
        print(f"version {found.number} of {registry.group} has the decision: {found.approval}")
    share = now.share(given.canary)
    if decision.outcome == "hold":
        print(f"would leave {given.canary} at {share:.1%}")
        return 3
    if decision.outcome == "roll_back":
        print(f"would take {given.canary} from {share:.1%} to 0%")
        return 4
    if found is not None:
        _check_approved(registry, found)
    ahead = rollout.ahead(now, given.steps)
    for step in ahead:
        if step > share and not given.allow_few_instances:
            rollout.check_capacity(now, step)
    if on := rollout.ringing(now):
        raise RolloutError(f"alarm {', '.join(on)} is on, so nothing would rise; see to it first")
    shown = ", ".join(f"{one:.1%}" for one in (share, *(one for one in ahead if one > share)))
    print(f"would take {given.canary} through {shown}, {given.bake:g} s each" if ahead else "nothing to do")
    return 0


def _recorded(
    registry: Registry, decision: Decision, now: HostedEndpoint, given: argparse.Namespace
) -> Version:
    place = given.results if given.results.startswith("s3://") else None
    version, new = registry.record(decision, now.variants[given.canary].revision.containers, place)
    told = "recorded as" if new else "is already recorded as"
    print(f"{told} version {version.number} of {registry.group}: {version.approval}")
    return version


def _rejected(registry: Registry, version: Version, why: str) -> bool:
    name = f"version {version.number} of {registry.group}"
    try:
        registry.reject(version, why)
    except (BotoCoreError, ClientError) as error:
        print(f"{why}; {name} is still {version.approval}, reject it there: {error}", file=sys.stderr)
        return False
    print(f"roll back: {why}; {name} is Rejected")
    return True


def _check_approved(registry: Registry, version: Version) -> None:
    if version.approval != "Approved":
        raise RegistryError(
            f"version {version.number} of {registry.group} is {version.approval} in the registry, so "
            "nothing is promoted; approve it there, or evaluate anew"
        )


def _say_weights(given: argparse.Namespace, now: HostedEndpoint) -> None:
    """The stack file declares weights too, and they hold whenever the endpoint's configuration changes."""
    name = given.endpoint_name.removeprefix(f"{now.platform}-") if now.platform else given.endpoint_name
    print(
        f"Until the stack file says so too, the next `pulumi up` that changes endpoint {name} sets the "
        f"weights back. In endpoints, {name}, variants:"
    )
    for variant, weight in whole_weights(now.weights).items():
        print(f"  {variant}: weight: {weight}")


def _history(given: argparse.Namespace, progress: Progress) -> int:
    del progress
    for one in Registry(aws("sagemaker"), given.group).versions():
        print(f"{one.number}\t{one.approval}\t{one.description}")
    return 0


def _group(decision: Decision, now: HostedEndpoint) -> str:
    if not now.platform:
        raise RegistryError(
            f"endpoint {now.name} bears no tag {PLATFORM_TAG}, so its group of the model registry is not "
            "known; name it by --group"
        )
    return package_group_name(now.platform, decision.model)


def _decision(place: str) -> Decision:
    name = beside(place, DECISION)
    try:
        return Decision.model_validate_json(read(name))
    except ValidationError as error:
        raise ResultsError(
            f"{name} is no decision: {error.errors()[0]['msg']}; write it by `evaluate decide`"
        ) from None


def _steps(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"it is {text!r}; write percents, such as 25,50,100") from None
    if list(found) != sorted(set(found)) or not 0 < found[0] <= found[-1] <= 100:
        raise argparse.ArgumentTypeError(f"it is {text}; write rising percents above 0 up to 100")
    return tuple(one / 100 for one in found)
