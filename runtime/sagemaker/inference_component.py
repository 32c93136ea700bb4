"""An inference component as CloudFormation writes it: what Cloud Control is asked for.

The classic provider has no such type; `AWS::SageMaker::InferenceComponent` has the properties of the API's
CreateInferenceComponent, against which a test compares every name.
"""

import json
from collections.abc import Mapping
from typing import Final

from runtime.sagemaker.endpoints import Component, SharedInstances
from runtime.sagemaker.metrics import SHARED_VARIANT
from runtime.sagemaker.models import EndpointModel

TYPE_NAME: Final = "AWS::SageMaker::InferenceComponent"


def desired_state(
    *,
    name: str,
    endpoint_name: str,
    model_name: str,
    component: Component,
    shared: SharedInstances,
    model: EndpointModel,
    tags: Mapping[str, str],
) -> str:
    """The component as JSON. Keys are sorted, so that the same component is the same text.

    Args:
        name: What SageMaker calls it.
        endpoint_name: The endpoint's name.
        model_name: SageMaker's name of the model.
        component: What the stack file says of it.
        shared: The instances that it is on.
        model: The model.
        tags: Tags, because the provider's own default tags do not reach it.
    """
    requirements: dict[str, object] = {"MinMemoryRequiredInMb": component.memory_mib}
    if model.devices:
        requirements["NumberOfAcceleratorDevicesRequired"] = model.devices
    state = {
        "InferenceComponentName": name,
        "EndpointName": endpoint_name,
        "VariantName": SHARED_VARIANT,
        "Specification": {
            "ModelName": model_name,
            "ComputeResourceRequirements": requirements,
            "StartupParameters": {
                "ModelDataDownloadTimeoutInSeconds": shared.download_seconds,
                "ContainerStartupHealthCheckTimeoutInSeconds": shared.startup_seconds,
            },
        },
        "RuntimeConfig": {"CopyCount": component.copies.min},
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
    }
    return json.dumps(state, sort_keys=True)
