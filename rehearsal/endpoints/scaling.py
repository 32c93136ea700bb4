"""Application Auto Scaling of inference components, played by what the stack declared of it.

moto evaluates no alarm and acts on no policy. This acts once it is told what SageMaker would measure, and
only if the whole chain is declared: the alarm on the component's metric, the policy that it calls, and the
target whose bounds hold.
"""

from typing import Any

from runtime.ops.teardown.account import Clients

_NAMESPACE = "sagemaker"
_NO_CAPACITY = "NoCapacityInvocationFailures"


class NotDeclaredError(Exception):
    """A part of the chain is missing; the text says which."""


class ComponentScaling:
    """The copies of one inference component.

    Args:
        clients: Clients of the AWS double.
        component: Its name.
    """

    def __init__(self, clients: Clients, component: str) -> None:
        self._component = component
        self._sagemaker: Any = clients("sagemaker")
        self._cloudwatch: Any = clients("cloudwatch")
        self._scaling: Any = clients("application-autoscaling")

    @property
    def copies(self) -> int:
        """Copies that it has."""
        described = self._sagemaker.describe_inference_component(InferenceComponentName=self._component)
        return int(described["RuntimeConfig"]["CurrentCopyCount"])

    def refused(self, requests: int = 1) -> int:
        """A minute in which so many requests found no copy; returns the copies after it.

        Raises:
            NotDeclaredError: No alarm watches for that, or it calls no policy of this component.
        """
        dimension = {"Name": "InferenceComponentName", "Value": self._component}
        alarms = [
            one
            for one in self._cloudwatch.describe_alarms()["MetricAlarms"]
            if one.get("MetricName") == _NO_CAPACITY and dimension in one["Dimensions"]
        ]
        if not alarms:
            raise NotDeclaredError(f"no alarm watches {_NO_CAPACITY} of {self._component}")
        for alarm in alarms:
            if requests < alarm["Threshold"]:
                continue
            for policy in self._policies("StepScaling"):
                if policy["PolicyARN"] in alarm["AlarmActions"]:
                    steps = policy["StepScalingPolicyConfiguration"]["StepAdjustments"]
                    return self._set(self.copies + int(steps[0]["ScalingAdjustment"]))
        raise NotDeclaredError(f"alarm {alarms[0]['AlarmName']} calls no step policy of {self._component}")

    def idle(self) -> int:
        """So long without a request that target tracking has gone as low as it may; returns the copies.

        Raises:
            NotDeclaredError: No policy tracks a target.
        """
        if not self._policies("TargetTrackingScaling"):
            raise NotDeclaredError(f"no policy tracks a target of {self._component}")
        return self._set(0)

    def _policies(self, kind: str) -> list[dict[str, Any]]:
        found = self._scaling.describe_scaling_policies(
            ServiceNamespace=_NAMESPACE, ResourceId=self._resource
        )["ScalingPolicies"]
        return [one for one in found if one["PolicyType"] == kind]

    def _set(self, wanted: int) -> int:
        targets = self._scaling.describe_scalable_targets(
            ServiceNamespace=_NAMESPACE, ResourceIds=[self._resource]
        )["ScalableTargets"]
        if not targets:
            raise NotDeclaredError(f"{self._component} is no scalable target")
        copies = min(max(wanted, int(targets[0]["MinCapacity"])), int(targets[0]["MaxCapacity"]))
        self._sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=self._component, DesiredRuntimeConfig={"CopyCount": copies}
        )
        return copies

    @property
    def _resource(self) -> str:
        return f"inference-component/{self._component}"
