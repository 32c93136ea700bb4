"""Moves traffic to a canary step by step, or all of it back, under the endpoint's own alarms.

Everything is read from the account before each step, so that a run that was stopped goes on where it was, and
a canary that was exchanged meanwhile gets nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.evaluation.gate import Decision
from runtime.ops.evaluation import hosted_endpoint
from runtime.ops.evaluation.hosted_endpoint import EndpointError, HostedEndpoint, at_rest
from runtime.ops.evaluation.places import Client
from runtime.sagemaker.traffic import TOLERANCE, TrafficError, moved, too_few

LOOK_S = 15.0
# How often a roll back is tried while something else, such as scaling, keeps beginning an update.
_TRIES = 20


class RolloutError(Exception):
    """Traffic is not moved, or not all of it; the text says why, what is so now, and what to do."""


class AlarmError(Exception):
    """An alarm went off while a canary had more traffic; the text names it."""


@dataclass(kw_only=True)
class Rollout:
    """The two variants of an endpoint between which traffic moves.

    Attributes:
        sagemaker: boto3's client for `sagemaker`.
        cloudwatch: boto3's client for `cloudwatch`.
        endpoint: Name of the endpoint.
        canary: The variant that is judged.
        stable: The variant that serves beside it.
        said: Called with each line for people.
        waiting: Called with what is waited for.
        sleep: Waits some seconds.
    """

    sagemaker: Client
    cloudwatch: Client
    endpoint: str
    canary: str
    stable: str
    said: Callable[[str], None] = print
    waiting: Callable[[str], None] = field(default=lambda _: None)
    sleep: Callable[[float], None] = time.sleep
    _seen: HostedEndpoint | None = field(default=None, init=False)
    _given: float | None = field(default=None, init=False)

    def look(self) -> HostedEndpoint:
        """The endpoint as it is, once nothing changes it.

        Raises:
            RolloutError: It has no such variants.
            EndpointError: It does not answer requests.
        """
        found = at_rest(self.sagemaker, self.endpoint, self.waiting, self.sleep)
        for option, name in (("--canary", self.canary), ("--stable", self.stable)):
            if name not in found.variants:
                there = ", ".join(found.variants) or "none with a model of its own"
                raise RolloutError(f"{option} {name}: endpoint {self.endpoint} has the variants {there}")
        if self.canary == self.stable:
            raise RolloutError(f"--canary and --stable are both {self.canary}; name two variants")
        self._seen, self._given = found, None
        return found

    def check_is_of(self, decision: Decision, now: HostedEndpoint) -> None:
        """Checks that a decision is about what the canary serves, and against what the stable variant does.

        One that promotes has to be of the canary's own answers: those of an OpenAI-style endpoint, or of
        inference components, are of no variant.

        Raises:
            RolloutError: It is not.
        """
        judged, served = (decision.model, decision.revision), now.variants[self.canary].revision
        if judged != (served.model, served.revision):
            raise RolloutError(
                f"the decision is about {' '.join(judged)}, and variant {self.canary} of {self.endpoint} "
                f"serves {served.model} {served.revision}; evaluate what it serves (evaluate run --variant "
                f"{self.canary}), with this revision in the job"
            )
        if decision.outcome != "promote":
            return
        answered = decision.results.variants
        if set(answered) != {self.canary} or answered[self.canary] < decision.results.scored:
            by = ", ".join(f"{count} by {name}" for name, count in answered.items()) or "none by a variant"
            raise RolloutError(
                f"only answers by variant {self.canary} promote it, one for each of the "
                f"{decision.results.scored} records, and the decision is about {by}; ask it by its name "
                f"(evaluate run or submit processing, --variant {self.canary}), into another folder"
            )
        compares = any(one.regression is not None for one in decision.policy.thresholds)
        serves = now.variants[self.stable].revision.revision
        if compares and serves not in (decision.baseline, decision.revision):
            against = decision.baseline or "nothing, as if it were the first revision"
            raise RolloutError(
                f"the decision compares with {against}, and variant {self.stable} serves {serves}; judge "
                "again with its results (evaluate decide --baseline)"
            )

    def ringing(self, now: HostedEndpoint) -> list[str]:
        """The endpoint's alarms that are on.

        Raises:
            EndpointError: One is not there, so that nobody can know.
        """
        if not now.alarms:
            return []
        found: dict[str, Any] = self.cloudwatch.describe_alarms(
            AlarmNames=list(now.alarms), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        states = {
            str(one["AlarmName"]): str(one["StateValue"])
            for one in [*found.get("MetricAlarms", []), *found.get("CompositeAlarms", [])]
        }
        if missing := [one for one in now.alarms if one not in states]:
            raise EndpointError(
                f"alarm {', '.join(missing)} of endpoint {self.endpoint} is not in CloudWatch, so nothing "
                "would take a bad canary back; `pulumi up` makes it"
            )
        return [name for name, state in states.items() if state == "ALARM"]

    def ahead(self, now: HostedEndpoint, steps: Sequence[float]) -> list[float]:
        """The steps that are still to do. The one that is reached is among them while others follow it."""
        share = now.share(self.canary)
        if share >= steps[-1] - TOLERANCE:
            return []
        return [one for one in steps if one >= share - TOLERANCE]

    def check_capacity(self, now: HostedEndpoint, share: float) -> None:
        """Checks that the canary has instances enough for a share.

        Raises:
            RolloutError: It has too few.
        """
        few = too_few(now.variants[self.canary].fleet, now.variants[self.stable].fleet, share)
        if few:
            raise RolloutError(
                f"variant {self.canary} has too few instances for {share:.0%} of the traffic: {few}; raise "
                "its replicas.min, take a smaller step and let it scale, or say --allow-few-instances"
            )

    def rise(
        self,
        decision: Decision,
        steps: Sequence[float],
        bake_s: float,
        *,
        allow_few: bool = False,
    ) -> HostedEndpoint:
        """Gives the canary its share, step by step, and watches after each.

        Args:
            decision: Says promote, about what the canary serves.
            steps: Shares from 0 to 1, rising.
            bake_s: Seconds that the alarms are watched after each step.
            allow_few: Whether the canary may have fewer instances than the share asks for.

        Raises:
            RolloutError: The decision is not of this canary, it may not have more, or it cannot be watched
                any more; its traffic stays.
            AlarmError: An alarm went off after a step.
            EndpointError: The endpoint does not answer requests.
        """
        if decision.outcome != "promote":
            raise AssertionError("only a decision that promotes gives a canary more traffic")
        now = self.look()
        try:
            for share in self.ahead(now, steps):
                now = self._step(decision, share, bake_s, allow_few=allow_few)
        except (BotoCoreError, ClientError, EndpointError) as error:
            raise self._unwatched(error, "see to it and run this again, which watches it on, or") from error
        return now

    def _step(self, decision: Decision, share: float, bake_s: float, *, allow_few: bool) -> HostedEndpoint:
        now = self.look()
        self.check_is_of(decision, now)
        if share > now.share(self.canary) + TOLERANCE:
            if on := self.ringing(now):
                raise RolloutError(
                    f"alarm {', '.join(on)} is on, so {self.canary} stays at "
                    f"{now.share(self.canary):.1%}; see to it, and run this again"
                )
            if not allow_few:
                self.check_capacity(now, share)
            now = self._set(now, share)
        self._bake(now, bake_s)
        return now

    def roll_back(self) -> HostedEndpoint:
        """Takes all traffic from the canary and gives it to the stable variant.

        SageMaker refuses it during an update, which scaling may begin at any time; then it is tried again.

        Raises:
            RolloutError: SageMaker does not do it; the text says which share the canary has.
        """
        try:
            for _ in range(_TRIES - 1):
                try:
                    return self._nothing()
                except RolloutError as error:
                    if not _is_busy(error.__cause__):
                        raise
                self.waiting(f"SageMaker cannot take {self.canary} back yet; trying again")
                self.sleep(hosted_endpoint.POLL_S)
            return self._nothing()
        except (BotoCoreError, ClientError, EndpointError, RolloutError) as error:
            raise self._unwatched(error, "see to it, and") from error

    def _nothing(self) -> HostedEndpoint:
        now = self.look()
        if now.weights[self.canary] == 0:
            self.said(f"{self.canary} of {self.endpoint} has no traffic")
            return now
        return self._set(now, 0.0)

    def _unwatched(self, error: Exception, then: str) -> RolloutError:
        """Adds what AWS' words leave open: the share that the canary has, and that nobody watches it."""
        if self._seen is None:
            return RolloutError(str(error))
        both = self._seen.weights[self.canary] + self._seen.weights[self.stable]
        share = self._seen.share(self.canary) if self._given is None else self._given
        return RolloutError(
            f"{error}\n{self.canary} of {self.endpoint} has {share:.1%} of the traffic, and nobody watches "
            f"it: {then} take it back by\n  aws sagemaker update-endpoint-weights-and-capacities "
            f"--endpoint-name {self.endpoint} --desired-weights-and-capacities "
            f"VariantName={self.canary},DesiredWeight=0 VariantName={self.stable},DesiredWeight={both:g}"
        )

    def _set(self, now: HostedEndpoint, share: float) -> HostedEndpoint:
        before = now.share(self.canary)
        try:
            weights = moved(now.weights, self.canary, self.stable, share)
        except TrafficError as error:
            raise RolloutError(str(error)) from error
        try:
            # Both in one call, and without numbers of instances, which are the scaling's.
            self.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=self.endpoint,
                DesiredWeightsAndCapacities=[
                    {"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()
                ],
            )
        except (BotoCoreError, ClientError) as error:
            raise RolloutError(
                f"SageMaker refuses {share:.1%} for {self.canary}, and it stays at {before:.1%}: {error}"
            ) from error
        self._given = share
        found = self.look()
        if any(abs(found.weights[name] - weight) > TOLERANCE for name, weight in weights.items()):
            raise RolloutError(
                f"SageMaker did not keep {share:.1%} for {self.canary}, which is at "
                f"{found.share(self.canary):.1%} now; look at the endpoint's events, and run this again"
            )
        self.said(f"{self.canary} of {self.endpoint}: {before:.1%} of the traffic before, {share:.1%} now")
        return found

    def _bake(self, now: HostedEndpoint, bake_s: float) -> None:
        left = bake_s
        while True:
            if on := self.ringing(now):
                raise AlarmError(
                    f"alarm {', '.join(on)} went off at {now.share(self.canary):.1%} of the traffic"
                )
            if left <= 0:
                return
            self.waiting(f"{self.canary} at {now.share(self.canary):.1%}, watched for {left:.0f} s more")
            self.sleep(min(LOOK_S, left))
            left -= LOOK_S


def _is_busy(error: BaseException | None) -> bool:
    answer: Any = getattr(error, "response", None)
    return isinstance(error, ClientError) and answer["Error"]["Code"] == "ValidationException"
