"""What moto lacks of SageMaker hosting and of its scaling, in the same two tables as `rehearsal.aws.shim`.

It refuses what SageMaker refuses late and what a program is easily wrong about: a key for volumes of local
disks, a variant that goes or changes its instance type under a registered scaling target, an endpoint with
components on it.
"""

# moto gives no types.
# pyright: basic, reportPrivateUsage=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import copy
import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any

import botocore.session
from moto.applicationautoscaling import models as scaling_models
from moto.applicationautoscaling import responses as scaling_responses
from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig
from moto.sagemaker.responses import SageMakerResponse

from rehearsal.aws.capacity import Script
from runtime.sagemaker.instances import ENDPOINT_TYPES, has_local_disks

_COMPONENTS = "sagemaker:inference-component:DesiredCopyCount"
_VARIANTS = "sagemaker:variant:DesiredInstanceCount"

_script: Callable[[], Script] = Script


@cache
def _types() -> frozenset[str]:
    """Instance types that the installed SDK lets an endpoint have."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape: Any = model.shape_for("ProductionVariantInstanceType")
    return frozenset(shape.enum)


def _create_endpoint_config(self: SageMakerResponse) -> ActionResult:
    backend, name = self.sagemaker_backend, self._get_param("EndpointConfigName")
    if name in backend.endpoint_configs:
        raise ValidationError(f"Cannot create already existing endpoint configuration '{name}'.")
    variants = self._get_param("ProductionVariants")
    shadows = self._get_param("ShadowProductionVariants") or []
    for variant in (*variants, *shadows):
        _check_variant(self, variant)
    # moto's own check of variants knows neither newer types nor variants without a model.
    made: Any = FakeEndpointConfig(
        account_id=self.current_account,
        region_name=self.region,
        endpoint_config_name=name,
        production_variants=[],
        async_inference_config=self._get_param("AsyncInferenceConfig"),
        data_capture_config=self._get_param("DataCaptureConfig"),
        tags=self._get_param("Tags"),
        kms_key_id=self._get_param("KmsKeyId"),
    )
    made.production_variants = variants
    made.shadow_production_variants = shadows
    made.execution_role_arn = self._get_param("ExecutionRoleArn")
    backend.endpoint_configs[name] = made
    return ActionResult({"EndpointConfigArn": made.endpoint_config_arn})


def _check_variant(self: SageMakerResponse, variant: dict[str, Any]) -> None:
    kind, model = variant.get("InstanceType"), variant.get("ModelName")
    if kind not in _types():
        raise ValidationError(f"1 validation error detected: Value '{kind}' at 'instanceType' is no member.")
    if model is not None and model not in self.sagemaker_backend._models:
        raise ValidationError(f"Could not find model '{model}'.")
    if model is None and self._get_param("ExecutionRoleArn") is None:
        raise ValidationError("ExecutionRoleArn is required where a variant has no ModelName.")
    has_disks = kind in ENDPOINT_TYPES and has_local_disks(str(kind))
    if has_disks and (self._get_param("KmsKeyId") or variant.get("VolumeSizeInGB")):
        raise ValidationError(
            f"KmsKeyId and VolumeSizeInGB cannot be used with {kind}, which has local disks."
        )


def _create_endpoint(self: SageMakerResponse) -> ActionResult:
    """With the alarms that take updates back, and with weights of 0, both of which moto drops."""
    backend, name = self.sagemaker_backend, self._get_param("EndpointName")
    if name in backend.endpoints:
        raise ValidationError(f"Cannot create already existing endpoint '{name}'.")
    config = self._get_param("EndpointConfigName")
    endpoint: Any = backend.create_endpoint(name, config, self._get_param("Tags"))
    endpoint.production_variants = _at_first(endpoint, backend.endpoint_configs[config])
    endpoint.last_deployment_config = self._get_param("DeploymentConfig")
    endpoint.failure_reason = _script().failing.get(name)
    if endpoint.failure_reason is not None:
        endpoint.endpoint_status = "Failed"
    return ActionResult({"EndpointArn": endpoint.arn})


def _at_first(endpoint: Any, config: Any) -> list[dict[str, Any]]:
    """The variants of a configuration with their weights, which are 1 where it does not say."""
    found = endpoint._process_production_variants(config.production_variants)
    for variant, declared in zip(found, config.production_variants, strict=True):
        variant["CurrentWeight"] = variant["DesiredWeight"] = declared.get("InitialVariantWeight", 1.0)
    return found


def _describe_endpoint(self: SageMakerResponse) -> ActionResult:
    """What an update of weights asks for is so after it was seen once to be under way."""
    name = self._get_param("EndpointName")
    found = copy.deepcopy(self.sagemaker_backend.describe_endpoint(name))
    endpoint: Any = self.sagemaker_backend.endpoints[name]
    if endpoint.endpoint_status == "Updating":
        endpoint.endpoint_status = "InService"
        for variant in endpoint.production_variants:
            variant["CurrentWeight"] = variant["DesiredWeight"]
            if "DesiredInstanceCount" in variant:
                variant["CurrentInstanceCount"] = variant["DesiredInstanceCount"]
    return ActionResult(found)


def _update_endpoint_weights_and_capacities(self: SageMakerResponse) -> ActionResult:
    """Changes only what is named; moto forgets the number of instances of a variant that gets a weight."""
    name, wanted = self._get_param("EndpointName"), self._get_param("DesiredWeightsAndCapacities")
    self.sagemaker_backend.describe_endpoint(name)  # raises where there is none
    endpoint: Any = self.sagemaker_backend.endpoints[name]
    if endpoint.endpoint_status != "InService":
        raise ValidationError(f"Cannot update in-progress endpoint '{endpoint.arn}'.")
    variants = {one["VariantName"]: dict(one) for one in endpoint.production_variants}
    for one in wanted:
        unknown = set(one) - {"VariantName", "DesiredWeight", "DesiredInstanceCount"}
        if unknown or one["VariantName"] not in variants:
            raise ValidationError(f"This double does not know {unknown or one['VariantName']}.")
        variants[one["VariantName"]] |= one
    if not sum(one["DesiredWeight"] for one in variants.values()):
        raise ValidationError("At least one variant must have a weight above 0.")
    endpoint.production_variants = list(variants.values())
    endpoint.endpoint_status = "Updating"
    return ActionResult({"EndpointArn": endpoint.arn})


def _update_endpoint(self: SageMakerResponse) -> ActionResult:
    backend = self.sagemaker_backend
    backend.describe_endpoint(self._get_param("EndpointName"))  # raises where there is none
    endpoint: Any = backend.endpoints[self._get_param("EndpointName")]
    # Without the one that it runs on it takes no other (hashicorp/terraform-provider-aws issue 48997).
    for name in (endpoint.endpoint_config_name, self._get_param("EndpointConfigName")):
        backend.describe_endpoint_config(name)
    old: Any = backend.endpoint_configs[endpoint.endpoint_config_name]
    new: Any = backend.endpoint_configs[self._get_param("EndpointConfigName")]
    after = {one["VariantName"]: one["InstanceType"] for one in new.production_variants}
    for one in old.production_variants:
        changed = after.get(one["VariantName"]) != one["InstanceType"]
        where = f"endpoint/{endpoint.endpoint_name}/variant/{one['VariantName']}"
        scaling = applicationautoscaling_backends[self.current_account][self.region]
        if changed and where in scaling.targets.get(_VARIANTS, {}):
            raise ValidationError(
                f"The variant {one['VariantName']} is registered as a scalable target; deregister it before "
                "it is taken away or its instance type is changed."
            )
    endpoint.last_deployment_config = self._get_param("DeploymentConfig")
    endpoint.failure_reason = _script().taken_back.get(endpoint.endpoint_name)
    if endpoint.failure_reason is not None:
        # In service again, as it was before.
        return ActionResult({"EndpointArn": endpoint.arn})
    endpoint.endpoint_config_name = new.endpoint_config_name
    endpoint.production_variants = _at_first(endpoint, new)
    endpoint.data_capture_config = new.data_capture_config
    endpoint.last_modified_time = datetime.now(UTC)
    return ActionResult({"EndpointArn": endpoint.arn})


def _delete_endpoint(self: SageMakerResponse) -> ActionResult:
    name = self._get_param("EndpointName")
    left = [one["InferenceComponentName"] for one in _all(self).values() if one["EndpointName"] == name]
    if left:
        raise ValidationError(
            f"Endpoint {name} has inference components: {', '.join(left)}; delete them first."
        )
    self.sagemaker_backend.delete_endpoint(name)
    return EmptyResult()


def _delete_model_package_group(self: SageMakerResponse) -> ActionResult:
    name = self._get_param("ModelPackageGroupName")
    self.sagemaker_backend.describe_model_package_group(name)
    if any(one.model_package_group_name == name for one in self.sagemaker_backend.model_packages.values()):
        raise ValidationError(f"Model package group {name} has model packages; delete them first.")
    del self.sagemaker_backend.model_package_groups[name]
    return EmptyResult()


def _delete_model_package(self: SageMakerResponse) -> ActionResult:
    arn = self.sagemaker_backend.describe_model_package(self._get_param("ModelPackageName")).arn
    del self.sagemaker_backend.model_packages[arn]
    return EmptyResult()


def endpoint_quotas(values: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """Code, value and name of the quota of each instance type: as scripted by name, or enough.

    The codes are made up here: AWS' own are not known, and nothing may rely on them.
    """
    names = [f"{type_} for endpoint usage" for type_ in sorted(_types())]
    return [(f"L-{zlib.crc32(name.encode()):08X}", values.get(name, 64.0), name) for name in names]


# Inference components ----------------------------------------------------------------------------


def _all(self: SageMakerResponse) -> dict[str, dict[str, Any]]:
    backend: Any = self.sagemaker_backend
    if not hasattr(backend, "inference_components"):
        backend.inference_components = {}
    return backend.inference_components


def _one(self: SageMakerResponse) -> dict[str, Any]:
    name = self._get_param("InferenceComponentName")
    if name not in _all(self):
        raise ValidationError(f"Could not find inference component '{name}'.")
    return _all(self)[name]


def _create_inference_component(self: SageMakerResponse) -> ActionResult:
    name = self._get_param("InferenceComponentName")
    if name in _all(self):
        raise ValidationError(f"Cannot create already existing inference component '{name}'.")
    self.sagemaker_backend.describe_endpoint(self._get_param("EndpointName"))
    self.sagemaker_backend.describe_model(self._get_param("Specification")["ModelName"])
    arn = f"arn:aws:sagemaker:{self.region}:{self.current_account}:inference-component/{name}"
    _all(self)[name] = {
        "InferenceComponentName": name,
        "InferenceComponentArn": arn,
        "EndpointName": self._get_param("EndpointName"),
        "VariantName": self._get_param("VariantName"),
        "Specification": self._get_param("Specification"),
        "tags": self._get_param("Tags") or [],
        "copies": (self._get_param("RuntimeConfig") or {"CopyCount": 1})["CopyCount"],
        "created": datetime.now(UTC),
    }
    return ActionResult({"InferenceComponentArn": arn})


def _described(component: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in component.items() if key[0].isupper()}
    return {
        **kept,
        "EndpointArn": component["InferenceComponentArn"].rpartition(":")[0]
        + f":endpoint/{component['EndpointName']}",
        "InferenceComponentStatus": "InService",
        "RuntimeConfig": {
            "DesiredCopyCount": component["copies"],
            "CurrentCopyCount": component["copies"],
        },
        "CreationTime": component["created"],
        "LastModifiedTime": component["created"],
    }


def _describe_inference_component(self: SageMakerResponse) -> ActionResult:
    return ActionResult(_described(_one(self)))


def _list_inference_components(self: SageMakerResponse) -> ActionResult:
    at = self._get_param("EndpointNameEquals")
    found = [_described(one) for one in _all(self).values() if at in (None, one["EndpointName"])]
    shown = (
        "CreationTime",
        "InferenceComponentArn",
        "InferenceComponentName",
        "EndpointArn",
        "EndpointName",
        "VariantName",
        "InferenceComponentStatus",
        "LastModifiedTime",
    )
    return ActionResult({"InferenceComponents": [{key: one[key] for key in shown} for one in found]})


def _update_inference_component(self: SageMakerResponse) -> ActionResult:
    component = _one(self)
    if self._get_param("Specification"):
        self.sagemaker_backend.describe_model(self._get_param("Specification")["ModelName"])
        component["Specification"] = self._get_param("Specification")
    if self._get_param("RuntimeConfig"):
        component["copies"] = self._get_param("RuntimeConfig")["CopyCount"]
    return ActionResult({"InferenceComponentArn": component["InferenceComponentArn"]})


def _update_inference_component_runtime_config(self: SageMakerResponse) -> ActionResult:
    component = _one(self)
    component["copies"] = self._get_param("DesiredRuntimeConfig")["CopyCount"]
    return ActionResult({"InferenceComponentArn": component["InferenceComponentArn"]})


def _delete_inference_component(self: SageMakerResponse) -> ActionResult:
    del _all(self)[_one(self)["InferenceComponentName"]]
    return EmptyResult()


def _list_tags(self: SageMakerResponse) -> ActionResult:
    arn = self._get_param("ResourceArn")
    if ":inference-component/" not in arn:
        return _TAGS_OF_MOTO(self)
    found = [one["tags"] for one in _all(self).values() if one["InferenceComponentArn"] == arn]
    return ActionResult({"Tags": found[0] if found else []})


_TAGS_OF_MOTO = SageMakerResponse.list_tags


def _list_tags_for_resource(_: ApplicationAutoScalingResponse) -> str:
    return json.dumps({"Tags": {}})


ADDED: dict[type, dict[str, Callable[..., Any]]] = {
    SageMakerResponse: {
        function.__name__[1:]: function
        for function in (
            _update_endpoint,
            _delete_model_package,
            _delete_model_package_group,
            _create_inference_component,
            _describe_inference_component,
            _list_inference_components,
            _update_inference_component,
            _update_inference_component_runtime_config,
            _delete_inference_component,
        )
    },
    ApplicationAutoScalingResponse: {"list_tags_for_resource": _list_tags_for_resource},
}
"""Actions that moto does not have."""

REPLACED: dict[type, dict[str, tuple[Callable[..., Any], str]]] = {
    SageMakerResponse: {
        "create_endpoint_config": (_create_endpoint_config, "ShadowProductionVariants"),
        "create_endpoint": (_create_endpoint, "DeploymentConfig"),
        "describe_endpoint": (_describe_endpoint, "advance"),
        "update_endpoint_weights_and_capacities": (_update_endpoint_weights_and_capacities, "advance"),
        "delete_endpoint": (_delete_endpoint, "inference"),
        "list_tags": (_list_tags, "inference"),
    },
}
"""Actions of moto that lack something, with a word that their source will have once they do not."""

_DIMENSIONS = scaling_models.ScalableDimensionValueSet


def gained() -> list[str]:
    """What moto knows by now beside actions: the dimension of components."""
    return ["ScalableDimensionValueSet"] if _COMPONENTS in [one.value for one in _DIMENSIONS] else []


def widen(script: Callable[[], Script]) -> None:
    """Lets components be scaled, of which moto's list of dimensions does not know.

    Args:
        script: Gives the script that holds now.
    """
    global _script
    _script = script
    every = {one.name: one.value for one in _DIMENSIONS}
    wider: Any = Enum("ScalableDimensionValueSet", {**every, "SAGEMAKER_INFERENCE_COMPONENT": _COMPONENTS})
    for module in (scaling_models, scaling_responses):
        setattr(module, "ScalableDimensionValueSet", wider)  # noqa: B010 - it is not the module's to export
