"""SageMaker models, endpoints and components, and what sizes them, made in moto: they cost money."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

import json
from typing import Any

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws.clients import DoubleError
from rehearsal.aws.resources.kind import Absent, Aws, Properties, given, kind, name_of, part, tags_of

_COMPONENT = "AWS::SageMaker::InferenceComponent"
# Where AWS does not just write the provider's name with a capital.
_SPELLINGS = {
    "enableSsmAccess": "EnableSSMAccess",
    "volumeSizeInGb": "VolumeSizeInGB",
    "s3DataSources": "S3DataSource",
    "routingConfigs": "RoutingConfig",
}
# Lists in the provider that hold the one object of the API.
_SINGLE = {"s3DataSources", "routingConfigs"}
# Maps whose keys are the program's own.
_FREE = {"environment"}


def _as_aws(content: Any) -> Any:
    """Properties in the API's spelling, with whole numbers as such."""
    if isinstance(content, list):
        return [_as_aws(one) for one in content]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(content, float) and content.is_integer():
        return int(content)
    if not isinstance(content, dict):
        return content
    written: Properties = {}
    for key, value in content.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            continue
        name = _SPELLINGS.get(str(key)) or str(key)[:1].upper() + str(key)[1:]  # pyright: ignore[reportUnknownArgumentType]
        inside: Any = value[0] if key in _SINGLE else value  # pyright: ignore[reportUnknownVariableType]
        written[name] = inside if key in _FREE else _as_aws(inside)
    return written


def _named(inputs: Properties, *names: str) -> Properties:
    return {key: value for key, value in _as_aws({name: inputs.get(name) for name in names}).items() if value}


def _there(call: Any, **arguments: Any) -> Any:
    """The answer of a call that says in words, and not in a code, that there is no such thing."""
    try:
        return call(**arguments)
    except ClientError as error:
        if any(words in str(error) for words in ("Could not find", "does not exist", "No scalable target")):
            raise Absent from None
        raise


class Model:
    """aws.sagemaker.Model. Its id is its name. moto forgets that it has no network."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        wanted = _named(inputs, "executionRoleArn", "primaryContainer", "containers", "vpcConfig")
        wanted |= _named(inputs, "inferenceExecutionConfig", "enableNetworkIsolation")
        aws.client("sagemaker").create_model(ModelName=name, **wanted, **tags_of(inputs))
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = _there(aws.client("sagemaker").describe_model, ModelName=id_)
        return {"name": id_, "arn": found["ModelArn"], "executionRoleArn": found["ExecutionRoleArn"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Tags are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        _there(aws.client("sagemaker").delete_model, ModelName=id_)


class EndpointConfiguration:
    """aws.sagemaker.EndpointConfiguration. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        name = name_of(inputs)
        wanted = _named(inputs, "productionVariants", "shadowProductionVariants", "asyncInferenceConfig")
        wanted |= _named(inputs, "dataCaptureConfig", "executionRoleArn")
        wanted |= given(inputs, KmsKeyId="kmsKeyArn")
        aws.client("sagemaker").create_endpoint_config(EndpointConfigName=name, **wanted, **tags_of(inputs))
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = _there(aws.client("sagemaker").describe_endpoint_config, EndpointConfigName=id_)
        return {"name": id_, "arn": found["EndpointConfigArn"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Tags are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        _there(aws.client("sagemaker").delete_endpoint_config, EndpointConfigName=id_)


def _check_timeouts(inputs: Properties) -> None:
    """Refuses what the provider refuses, with less than SageMaker takes: see MAX_TIMEOUT_S."""
    for key in ("blueGreenUpdatePolicy", "rollingUpdatePolicy"):
        found = part(part(inputs, "deploymentConfig"), key).get("maximumExecutionTimeoutInSeconds", 600)
        if not 600 <= found <= 14_400:
            raise DoubleError(
                f"expected deployment_config.0.{key}.maximum_execution_timeout_in_seconds to be in the range "
                f"(600 - 14400), got {found:g}"
            )


class Endpoint:
    """aws.sagemaker.Endpoint. Its id is its name. It is in service at once, also after an update."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        _check_timeouts(inputs)
        name = name_of(inputs)
        aws.client("sagemaker").create_endpoint(
            EndpointName=name, **_named(inputs, "endpointConfigName", "deploymentConfig"), **tags_of(inputs)
        )
        found = aws.client("sagemaker").describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] == "Failed":
            # The provider sets the id only when it is in service, so nothing of it gets into the state.
            raise DoubleError(
                f"waiting for SageMaker AI Endpoint ({name}) create: unexpected state 'Failed', wanted "
                f"target 'InService'. last error: {found['FailureReason']}"
            )
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = _there(aws.client("sagemaker").describe_endpoint, EndpointName=id_)
        return {"name": id_, "arn": found["EndpointArn"], "endpointConfigName": found["EndpointConfigName"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Gives it another configuration."""
        _check_timeouts(new)
        aws.client("sagemaker").update_endpoint(
            EndpointName=id_, **_named(new, "endpointConfigName", "deploymentConfig")
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; SageMaker refuses while components are on it."""
        _there(aws.client("sagemaker").delete_endpoint, EndpointName=id_)


class ModelPackageGroup:
    """aws.sagemaker.ModelPackageGroup. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        wanted = _named(inputs, "modelPackageGroupName", "modelPackageGroupDescription")
        aws.client("sagemaker").create_model_package_group(**wanted, **tags_of(inputs))
        return str(inputs["modelPackageGroupName"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = _there(aws.client("sagemaker").describe_model_package_group, ModelPackageGroupName=id_)
        return {"modelPackageGroupName": id_, "arn": found["ModelPackageGroupArn"]}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Tags are in the state only."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        _there(aws.client("sagemaker").delete_model_package_group, ModelPackageGroupName=id_)


class CloudControl:
    """aws.cloudcontrol.Resource, for inference components only. Its id is the component's name.

    Its desired state is checked against the API of which CloudFormation's type has the properties.
    """

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes the component."""
        if inputs["typeName"] != _COMPONENT:
            raise DoubleError(f"typeName is {inputs['typeName']}; the double serves {_COMPONENT}")
        state = json.loads(inputs["desiredState"])
        aws.client("sagemaker").create_inference_component(**state)
        return str(state["InferenceComponentName"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = _there(aws.client("sagemaker").describe_inference_component, InferenceComponentName=id_)
        told = {key: found[key] for key in ("InferenceComponentName", "EndpointName", "VariantName")}
        told["CurrentCopyCount"] = found["RuntimeConfig"]["CurrentCopyCount"]
        return {"properties": json.dumps(told, sort_keys=True), "typeName": _COMPONENT}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts another model on it, or another number of copies."""
        state = json.loads(new["desiredState"])
        was = json.loads(old["desiredState"])
        fixed = ("InferenceComponentName", "EndpointName")
        if any(state[key] != was[key] for key in fixed):
            raise DoubleError(f"{' and '.join(fixed)} of a component cannot be changed")
        aws.client("sagemaker").update_inference_component(
            InferenceComponentName=id_,
            Specification=state["Specification"],
            RuntimeConfig=state["RuntimeConfig"],
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        _there(aws.client("sagemaker").delete_inference_component, InferenceComponentName=id_)


def _which(properties: Properties) -> Properties:
    return _named(properties, "serviceNamespace", "resourceId", "scalableDimension")


class ScalingTarget:
    """aws.appautoscaling.Target. Its id is the id of what it scales."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Registers it."""
        self._register(aws, inputs)
        return str(inputs["resourceId"])

    def _register(self, aws: Aws, inputs: Properties) -> None:
        aws.client("application-autoscaling").register_scalable_target(
            **_which(inputs),
            MinCapacity=int(inputs["minCapacity"]),
            MaxCapacity=int(inputs["maxCapacity"]),
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it."""
        asked = {"ServiceNamespace": known.get("serviceNamespace", "sagemaker"), "ResourceIds": [id_]}
        found = aws.client("application-autoscaling").describe_scalable_targets(**asked)["ScalableTargets"]
        if not found:
            raise Absent
        one = found[0]
        return {
            "arn": aws.arn("application-autoscaling", f"scalable-target/{id_}"),
            "minCapacity": one["MinCapacity"],
            "maxCapacity": one["MaxCapacity"],
            "resourceId": id_,
            "scalableDimension": one["ScalableDimension"],
            "serviceNamespace": one["ServiceNamespace"],
            "roleArn": known.get("roleArn") or "arn:aws:iam::aws:role/aws-service-role",
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Registers it anew."""
        self._register(aws, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Takes it away, if it is there."""
        _there(aws.client("application-autoscaling").deregister_scalable_target, **_which(known))


class ScalingPolicy:
    """aws.appautoscaling.Policy. Its id is its name. moto scales nothing."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Puts one."""
        name = name_of(inputs)
        self._put(aws, name, inputs)
        return name

    def _put(self, aws: Aws, name: str, inputs: Properties) -> None:
        wanted = _named(
            inputs,
            "policyType",
            "targetTrackingScalingPolicyConfiguration",
            "stepScalingPolicyConfiguration",
        )
        step: Properties = wanted.get("StepScalingPolicyConfiguration", {})
        adjustments: list[Properties] = step.get("StepAdjustments", [])
        for one in adjustments:
            # The provider has them as text.
            for bound in ("MetricIntervalLowerBound", "MetricIntervalUpperBound"):
                if bound in one:
                    one[bound] = float(one[bound])
        tracking: dict[str, Properties] = wanted.get("TargetTrackingScalingPolicyConfiguration", {})
        for key in ("PredefinedMetricSpecification", "CustomizedMetricSpecification"):
            if key in tracking:
                tracking[key] = {name: value for name, value in tracking[key].items() if value != ""}
        aws.client("application-autoscaling").put_scaling_policy(PolicyName=name, **_which(inputs), **wanted)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it."""
        found = aws.client("application-autoscaling").describe_scaling_policies(
            ServiceNamespace=known.get("serviceNamespace", "sagemaker"), PolicyNames=[id_]
        )["ScalingPolicies"]
        mine = [one for one in found if one["PolicyName"] == id_]
        if not mine:
            raise Absent
        return {
            "name": id_,
            "arn": mine[0]["PolicyARN"],
            "alarmArns": [],
            "policyType": mine[0]["PolicyType"],
            "resourceId": mine[0]["ResourceId"],
            "scalableDimension": mine[0]["ScalableDimension"],
            "serviceNamespace": mine[0]["ServiceNamespace"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts it anew."""
        self._put(aws, id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        self.read(aws, id_, known)
        aws.client("application-autoscaling").delete_scaling_policy(PolicyName=id_, **_which(known))


class ScheduledAction:
    """aws.appautoscaling.ScheduledAction. Its id is its name and what it is about."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Puts one."""
        self._put(aws, inputs)
        return f"{name_of(inputs)}-{inputs['serviceNamespace']}-{inputs['resourceId']}"

    def _put(self, aws: Aws, inputs: Properties) -> None:
        aws.client("application-autoscaling").put_scheduled_action(
            ScheduledActionName=name_of(inputs),
            **_which(inputs),
            **_named(inputs, "schedule", "timezone", "scalableTargetAction"),
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it."""
        namespace = known.get("serviceNamespace", "sagemaker")
        found = aws.client("application-autoscaling").describe_scheduled_actions(ServiceNamespace=namespace)
        for one in found["ScheduledActions"]:
            if id_ == f"{one['ScheduledActionName']}-{namespace}-{one['ResourceId']}":
                return {
                    "name": one["ScheduledActionName"],
                    "arn": one["ScheduledActionARN"],
                    "resourceId": one["ResourceId"],
                    "scalableDimension": one["ScalableDimension"],
                    "serviceNamespace": namespace,
                    "schedule": one["Schedule"],
                }
        raise Absent

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts it anew."""
        self._put(aws, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        found = self.read(aws, id_, known) or {}
        aws.client("application-autoscaling").delete_scheduled_action(
            ScheduledActionName=found["name"], **_which(found)
        )


KINDS = (
    kind(
        "aws:sagemaker/model:Model",
        Model(),
        "name executionRoleArn primaryContainer containers vpcConfig inferenceExecutionConfig"
        " enableNetworkIsolation",
        name_length=63,
    ),
    kind(
        "aws:sagemaker/endpointConfiguration:EndpointConfiguration",
        EndpointConfiguration(),
        "name namePrefix productionVariants shadowProductionVariants asyncInferenceConfig dataCaptureConfig"
        " executionRoleArn kmsKeyArn",
        name_length=63,
    ),
    kind("aws:sagemaker/endpoint:Endpoint", Endpoint(), "name", "sagemaker.UpdateEndpoint", name_length=63),
    kind(
        "aws:sagemaker/modelPackageGroup:ModelPackageGroup",
        ModelPackageGroup(),
        "modelPackageGroupName modelPackageGroupDescription",
        name_length=63,
    ),
    kind(
        "aws:cloudcontrol/resource:Resource",
        CloudControl(),
        "typeName",
        "sagemaker.UpdateInferenceComponent",
    ),
    kind(
        "aws:appautoscaling/target:Target",
        ScalingTarget(),
        "resourceId scalableDimension serviceNamespace",
        "application-autoscaling.RegisterScalableTarget",
    ),
    kind(
        "aws:appautoscaling/policy:Policy",
        ScalingPolicy(),
        "name resourceId scalableDimension serviceNamespace",
        "application-autoscaling.PutScalingPolicy",
        name_length=256,
    ),
    kind(
        "aws:appautoscaling/scheduledAction:ScheduledAction",
        ScheduledAction(),
        "name resourceId scalableDimension serviceNamespace",
        "application-autoscaling.PutScheduledAction",
        name_length=256,
    ),
)
