"""The end of a stack's SageMaker endpoints, before all else: their machines are most of its bill."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.progress import Step
from runtime.ops.teardown.account import Clients, is_absent
from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.endpoint_questions import ENDPOINT, bears_our_tags
from runtime.ops.teardown.ledger import Cloud, Resource
from runtime.ops.teardown.waiting import Patience, StepError
from runtime.tenure import STACK_TAG


class OwnEndpoints:
    """The endpoints in one account that a destroy of the stack deletes, or that bear its tags.

    By tags too, because making an endpoint takes minutes: one that a killed `up` began is in no state.

    Args:
        cloud: What the stack has there.
        clients: How to ask.
        resources: The stack's resources now; one that a destroy leaves is not touched.
    """

    def __init__(self, cloud: Cloud, clients: Clients, resources: Sequence[Resource]) -> None:
        self._asked = AskedCloud(cloud, clients)
        self._sagemaker = clients("sagemaker")
        self._kept = {one.id for one in resources if one.type == ENDPOINT and (one.retained or one.external)}

    def end(self, step: Step, patience: Patience) -> None:
        """Takes their scaling away, then their components, then themselves, and waits for each.

        Scaling goes first, because it would start new copies; SageMaker deletes no endpoint with components.
        What is refused of one endpoint keeps no other running.

        Raises:
            StepError: One is not the stack's, is refused, or does not go; the others are gone.
            ClientError, BotoCoreError: AWS cannot be asked which there are.
        """
        names, lines = self._names()
        for name in names:
            lines += _troubles(partial(self._end_scaling, name))
        lines += _troubles(partial(self._end_components, names, step, patience))
        lines += _troubles(partial(self._end_endpoints, names, step, patience))
        step.update(", ".join(names) or "there are none")
        if lines:
            raise StepError(list(dict.fromkeys(lines)))

    def _names(self) -> tuple[list[str], list[str]]:
        """The endpoints that go, and why others are not touched, a line each."""
        known = set(self._asked.cloud.ids(ENDPOINT)) - self._kept
        found: list[str] = []
        lines: list[str] = []
        for one in self._asked.pages("sagemaker", "list_endpoints", "Endpoints"):
            name = str(one["EndpointName"])
            try:
                ours = name not in self._kept and bears_our_tags(self._asked, str(one["EndpointArn"]))
            except ClientError as error:
                lines.append(f"endpoint {name} is not touched, because its tags cannot be read: {error}")
                continue
            if name in known and not ours:
                lines.append(
                    f"endpoint {name} is in the state, and does not bear the tag {STACK_TAG}="
                    f"{self._asked.cloud.stack}; it is not touched. Look whose it is, and take it out of "
                    "the state: pulumi state delete"
                )
            found += [name] if ours else []
        return found, lines

    def _end_scaling(self, endpoint: str) -> None:
        scaled = [f"inference-component/{name}" for name in self._components([endpoint])]
        scaling = self._asked.clients("application-autoscaling")
        asked = {"ServiceNamespace": "sagemaker"}
        # A list, because what is listed page by page must not become less meanwhile.
        listed = self._asked.pages(
            "application-autoscaling", "describe_scalable_targets", "ScalableTargets", **asked
        )
        for one in list(listed):
            if one["ResourceId"] in scaled or one["ResourceId"].startswith(f"endpoint/{endpoint}/variant/"):
                which = {key: one[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")}
                try:
                    scaling.deregister_scalable_target(**which)  # takes its policies and schedules with it
                except ClientError as error:
                    if not is_absent(error):
                        raise

    def _end_components(self, names: Sequence[str], step: Step, patience: Patience) -> None:
        self._end_all(step, patience, "inference component", lambda: list(self._components(names)))

    def _end_endpoints(self, names: Sequence[str], step: Step, patience: Patience) -> None:
        bare = [name for name in names if self._is_bare(name)]
        self._end_all(step, patience, "endpoint", lambda: [one for one in bare if self._is_there(one)])

    def _is_bare(self, endpoint: str) -> bool:
        try:
            return not any(self._components([endpoint]))
        except ClientError:
            return True  # one that has components is refused by SageMaker itself

    def _components(self, endpoints: Sequence[str]) -> Iterator[str]:
        for name in endpoints:
            asked = {"EndpointNameEquals": name}
            call, key = "list_inference_components", "InferenceComponents"
            for one in self._asked.pages("sagemaker", call, key, **asked):
                yield str(one["InferenceComponentName"])

    def _is_there(self, name: str) -> bool:
        return self._asked.exists("sagemaker", "describe_endpoint", EndpointName=name) is not None

    def _end_all(self, step: Step, patience: Patience, kind: str, look: Callable[[], list[str]]) -> None:
        """Asks for the deletion of what is there at each look: SageMaker refuses it during an update."""
        refused: dict[str, str] = {}
        denied: set[str] = set()
        call, key = (
            (self._sagemaker.delete_endpoint, "EndpointName")
            if kind == "endpoint"
            else (self._sagemaker.delete_inference_component, "InferenceComponentName")
        )

        def left() -> list[str]:
            there = [name for name in look() if name not in denied]
            for name in there:
                try:
                    call(**{key: name})
                    refused.pop(name, None)
                except ClientError as error:
                    answer: dict[str, Any] = error.response
                    if is_absent(error):
                        continue
                    refused[name] = str(answer["Error"].get("Message", ""))
                    if answer["Error"].get("Code") not in _FOR_NOW:
                        denied.add(name)
            return [name for name in look() if name not in denied] if there else []

        def why() -> list[str]:
            return [
                f"{kind} {name} does not go: {refused.get(name, 'it is being deleted')}; see it in "
                "SageMaker, and run the same command again"
                for name in look()
            ]

        try:
            patience.until_none(step, left, why)
        except BotoCoreError as error:
            raise StepError([f"SageMaker cannot be asked for {kind}s: {error}"]) from None
        if denied:
            raise StepError(why())


_FOR_NOW = ("ValidationException", "ResourceInUse", "ConflictException", "ThrottlingException")
"""What SageMaker says while something is being made, updated or deleted, or while it is asked too much."""


def _troubles(work: Callable[[], None]) -> Sequence[str]:
    """What keeps a piece of work from its end, a line each."""
    try:
        work()
    except StepError as error:
        return error.lines
    except (ClientError, BotoCoreError) as error:
        return [str(error)]
    return []
