"""What the AWS double refuses of SageMaker, as SageMaker does late: the pitfalls can be seen to bite."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.scaling_targets import deregister_changed
from tests.support.aws import RunningDouble, running_double


@pytest.fixture
def double(tmp_path: Path) -> Generator[RunningDouble]:
    with running_double(tmp_path / "aws") as running:
        yield running


def variant(instance_type: str = "ml.g6e.2xlarge", **changes: Any) -> dict[str, Any]:
    return {
        "VariantName": "a",
        "ModelName": "m",
        "InstanceType": instance_type,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
        **changes,
    }


@pytest.fixture
def sagemaker(double: RunningDouble) -> Any:
    """A client, and an endpoint `e` with configuration `c` and model `m`."""
    found = double.client("sagemaker")
    found.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r")
    found.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant()])
    found.create_endpoint(EndpointName="e", EndpointConfigName="c")
    return found


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value)


def test_a_key_for_volumes_of_local_disks_is_refused(sagemaker: Any) -> None:
    said = refused(
        sagemaker.create_endpoint_config,
        EndpointConfigName="k",
        ProductionVariants=[variant()],
        KmsKeyId="arn:aws:kms:us-east-1:123456789012:key/k",
    )
    assert "local disks" in said
    sagemaker.create_endpoint_config(
        EndpointConfigName="k",
        ProductionVariants=[variant("ml.m7i.2xlarge")],
        KmsKeyId="arn:aws:kms:us-east-1:123456789012:key/k",
    )


def test_a_configuration_of_that_name_is_refused_a_second_time(sagemaker: Any) -> None:
    assert "already existing" in refused(
        sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant()]
    )


def test_another_instance_type_and_another_variant_are_refused_under_a_registered_target(
    double: RunningDouble, sagemaker: Any
) -> None:
    scaling = double.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/e/variant/a",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    sagemaker.create_endpoint_config(
        EndpointConfigName="larger", ProductionVariants=[variant("ml.g6e.12xlarge")]
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="renamed", ProductionVariants=[variant(VariantName="b")]
    )
    for name in ("larger", "renamed"):
        assert "deregister" in refused(sagemaker.update_endpoint, EndpointName="e", EndpointConfigName=name)
    scaling.deregister_scalable_target(**target)
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="larger")
    assert sagemaker.describe_endpoint(EndpointName="e")["EndpointConfigName"] == "larger"


def test_an_endpoint_with_components_is_not_deleted(double: RunningDouble, sagemaker: Any) -> None:
    sagemaker.create_inference_component(
        InferenceComponentName="part",
        EndpointName="e",
        VariantName="a",
        Specification={"ModelName": "m", "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024}},
        RuntimeConfig={"CopyCount": 0},
    )
    assert "part" in refused(sagemaker.delete_endpoint, EndpointName="e")
    double.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="inference-component/part",
        ScalableDimension="sagemaker:inference-component:DesiredCopyCount",
        MinCapacity=0,
        MaxCapacity=2,
    )
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="part", DesiredRuntimeConfig={"CopyCount": 2}
    )
    described = sagemaker.describe_inference_component(InferenceComponentName="part")
    assert described["RuntimeConfig"]["CurrentCopyCount"] == 2
    sagemaker.delete_inference_component(InferenceComponentName="part")
    sagemaker.delete_endpoint(EndpointName="e")


def test_a_variant_without_a_model_needs_the_endpoints_own_role(sagemaker: Any) -> None:
    bare = {"VariantName": "a", "InstanceType": "ml.g6.2xlarge", "InitialInstanceCount": 1}
    assert "ExecutionRoleArn" in refused(
        sagemaker.create_endpoint_config, EndpointConfigName="shared", ProductionVariants=[bare]
    )


def test_scaling_is_taken_off_the_variants_that_go_or_change_their_type_and_off_no_other(
    double: RunningDouble, sagemaker: Any
) -> None:
    assert sagemaker.describe_endpoint(EndpointName="e")["EndpointConfigName"] == "c"
    # Nothing scales the variant, so there is nothing to take off.
    assert deregister_changed(double, "e", {"a": "ml.g6e.12xlarge"}) == []
    scaling = double.client("application-autoscaling")
    for types in ({"a": "ml.g6e.12xlarge"}, {"another": "ml.g6e.2xlarge"}):
        scaling.register_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId="endpoint/e/variant/a",
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            MinCapacity=1,
            MaxCapacity=2,
        )
        assert deregister_changed(double, "e", {"a": "ml.g6e.2xlarge"}) == []
        assert len(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]) == 1
        assert deregister_changed(double, "e", types) == ["a"]
        assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_a_change_of_weights_is_under_way_once_and_changes_nothing_else(sagemaker: Any) -> None:
    variants = [variant(InitialInstanceCount=2, InitialVariantWeight=0), variant(VariantName="b")]
    sagemaker.create_endpoint_config(EndpointConfigName="two", ProductionVariants=variants)
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="two")

    def seen() -> tuple[str, list[tuple[float, float, int]]]:
        found = sagemaker.describe_endpoint(EndpointName="e")
        keys = ("CurrentWeight", "DesiredWeight", "CurrentInstanceCount")
        return found["EndpointStatus"], [
            tuple(one[key] for key in keys) for one in found["ProductionVariants"]
        ]

    assert seen() == ("InService", [(0.0, 0.0, 2), (1.0, 1.0, 1)])
    change = sagemaker.update_endpoint_weights_and_capacities
    all_of_it = [{"VariantName": "a", "DesiredWeight": 1.0}, {"VariantName": "b", "DesiredWeight": 0.0}]
    change(EndpointName="e", DesiredWeightsAndCapacities=all_of_it)
    assert "in-progress" in refused(change, EndpointName="e", DesiredWeightsAndCapacities=all_of_it)
    assert seen() == ("Updating", [(0.0, 1.0, 2), (1.0, 0.0, 1)])
    assert seen() == ("InService", [(1.0, 1.0, 2), (0.0, 0.0, 1)])
    nothing = [{"VariantName": "a", "DesiredWeight": 0.0}]
    assert "above 0" in refused(change, EndpointName="e", DesiredWeightsAndCapacities=nothing)
    unknown = [{"VariantName": "c", "DesiredWeight": 1.0}]
    assert "does not know c" in refused(change, EndpointName="e", DesiredWeightsAndCapacities=unknown)


def test_an_endpoint_knows_the_alarms_that_take_its_updates_back(sagemaker: Any) -> None:
    deployment = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}
    sagemaker.create_endpoint(EndpointName="watched", EndpointConfigName="c", DeploymentConfig=deployment)
    described = sagemaker.describe_endpoint(EndpointName="watched")["LastDeploymentConfig"]
    assert described["AutoRollbackConfiguration"] == deployment["AutoRollbackConfiguration"]
    assert "already existing" in refused(
        sagemaker.create_endpoint, EndpointName="watched", EndpointConfigName="c"
    )
