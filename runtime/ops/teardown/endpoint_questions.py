"""The questions about SageMaker: endpoints, what they stand on and what sizes them, jobs, the registry."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Finding, Tags

ENDPOINT = "aws:sagemaker/endpoint:Endpoint"
PACKAGE_GROUP = "aws:sagemaker/modelPackageGroup:ModelPackageGroup"
COMPONENT = "aws:cloudcontrol/resource:Resource"
_ROLE = "aws:iam/role:Role"
_BUCKET = "aws:s3/bucket:Bucket"


def bears_our_tags(cloud: AskedCloud, arn: str) -> bool:
    """Whether SageMaker says that a thing has the stack's tags; one that is gone has none."""
    found = cloud.exists("sagemaker", "list_tags", ResourceArn=arn)
    return found is not None and cloud.is_ours(Tags.read(found.get("Tags")))


def _named(
    sweep: AskedCloud, call: str, key: str, name: str, type_: str, **request: Any
) -> Iterator[Mapping[str, Any]]:
    """What SageMaker lists and is the stack's.

    That is what the state knew, and what has the stack's tags. Tags are one call for each thing, so that only
    what bears the platform's name is asked for them where there may be thousands.
    """
    known = set(sweep.cloud.ids(type_))
    for one in sweep.pages("sagemaker", call, key, **request):
        arn = str(one[f"{name.removesuffix('Name')}Arn"])
        if {str(one[name]), arn} & known or (
            str(one[name]).startswith(f"{sweep.cloud.platform}-") and bears_our_tags(sweep, arn)
        ):
            yield one


def endpoints(sweep: AskedCloud) -> Iterator[Finding]:
    """Endpoints, and each of their variants with the machines that are paid for."""
    known = set(sweep.cloud.ids(ENDPOINT))
    for one in sweep.pages("sagemaker", "list_endpoints", "Endpoints"):
        name = str(one["EndpointName"])
        if name not in known and not bears_our_tags(sweep, str(one["EndpointArn"])):
            continue
        yield sweep.find("SageMaker endpoint", name, str(one.get("EndpointStatus", "")), billed=False)
        yield from _variants(sweep, name)


def _variants(sweep: AskedCloud, endpoint: str) -> Iterator[Finding]:
    described = sweep.exists("sagemaker", "describe_endpoint", EndpointName=endpoint) or {}
    configured = described.get("EndpointConfigName")
    asked = {"EndpointConfigName": configured}
    configuration = configured and sweep.exists("sagemaker", "describe_endpoint_config", **asked)
    types = {str(one["VariantName"]): str(one["InstanceType"]) for one in _both(configuration or {})}
    sizes = {str(one["VariantName"]): one for one in _both(described)}
    for variant in dict.fromkeys([*sizes, *types]):
        size = sizes.get(variant, {})
        # While an endpoint is made it may say nothing of its machines, and they are paid for.
        counts = [size[key] for key in ("CurrentInstanceCount", "DesiredInstanceCount") if key in size]
        number, type_ = max(counts, default=1), types.get(variant)
        yield sweep.find(
            "machines of an endpoint",
            f"{endpoint}/{variant}",
            f"{number} x {type_ or 'an instance type that is not known'}",
            price_item=type_,
            amount=Decimal(number),
            billed=number > 0,
        )


def _both(described: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        *(described.get("ProductionVariants") or ()),
        *(described.get("ShadowProductionVariants") or ()),
    ]


def notebooks(sweep: AskedCloud) -> Iterator[Finding]:
    """Notebook instances."""
    for one in sweep.pages("sagemaker", "list_notebook_instances", "NotebookInstances"):
        if bears_our_tags(sweep, str(one["NotebookInstanceArn"])):
            name = str(one["NotebookInstanceName"])
            yield sweep.find("SageMaker notebook", name, str(one.get("NotebookInstanceStatus", "")))


def configurations(sweep: AskedCloud) -> Iterator[Finding]:
    """Endpoint configurations."""
    call, key, name = "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"
    type_ = "aws:sagemaker/endpointConfiguration:EndpointConfiguration"
    for one in _named(sweep, call, key, name, type_):
        yield sweep.find("endpoint configuration", str(one[name]), billed=False)


def models(sweep: AskedCloud) -> Iterator[Finding]:
    """Models, which are names of an image and of weights."""
    for one in _named(sweep, "list_models", "Models", "ModelName", "aws:sagemaker/model:Model"):
        yield sweep.find("SageMaker model", str(one["ModelName"]), billed=False)


def components(sweep: AskedCloud) -> Iterator[Finding]:
    """Inference components. The machines that they are on are the endpoint's."""
    call, key, name = "list_inference_components", "InferenceComponents", "InferenceComponentName"
    for one in _named(sweep, call, key, name, COMPONENT):
        status = str(one.get("InferenceComponentStatus", ""))
        yield sweep.find("inference component", str(one[name]), status, billed=False)


def package_groups(sweep: AskedCloud) -> Iterator[Finding]:
    """Groups of the registry with the versions in them."""
    call, key, name = "list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"
    for one in _named(sweep, call, key, name, PACKAGE_GROUP):
        group = str(one[name])
        number = sum(1 for _ in versions(sweep, group))
        yield sweep.find("model package group", group, f"{number} versions", billed=False)


def versions(sweep: AskedCloud, group: str) -> Iterator[str]:
    """ARNs of what is registered in a group."""
    asked = {"ModelPackageGroupName": group, "ModelPackageType": "Versioned"}
    for one in sweep.pages("sagemaker", "list_model_packages", "ModelPackageSummaryList", **asked):
        yield str(one["ModelPackageArn"])


_JOBS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    # Kind, word in the calls' names, where the answer has its machines.
    ("processing job", "Processing", ("ProcessingResources", "ClusterConfig")),
    ("training job", "Training", ("ResourceConfig",)),
    ("transform job", "Transform", ("TransformResources",)),
)


def jobs(sweep: AskedCloud) -> Iterator[Finding]:
    """Jobs that run: by tags, which are up to the caller, and by the stack's roles, subnets and buckets."""
    for kind, word, place in _JOBS:
        for status in ("InProgress", "Stopping"):
            call, key = f"list_{word.lower()}_jobs", f"{word}JobSummaries"
            for one in sweep.pages("sagemaker", call, key, StatusEquals=status):
                name = f"{word}JobName"
                described = sweep.exists("sagemaker", f"describe_{word.lower()}_job", **{name: one[name]})
                if described and (
                    _uses_ours(sweep, described) or bears_our_tags(sweep, one[f"{word}JobArn"])
                ):
                    yield _running(sweep, kind, str(one[name]), status, _inside(described, place))


def _running(sweep: AskedCloud, kind: str, name: str, status: str, machines: Mapping[str, Any]) -> Finding:
    type_, number = machines.get("InstanceType"), int(machines.get("InstanceCount") or 1)
    detail = f"{status}, {number} x {type_ or 'an instance type that is not known'}"
    return sweep.find(kind, name, detail, price_item=type_, amount=Decimal(number))


def _inside(described: Mapping[str, Any], place: Sequence[str]) -> Mapping[str, Any]:
    for key in place:
        described = described.get(key) or {}
    return described


def _uses_ours(sweep: AskedCloud, described: dict[str, Any]) -> bool:
    cloud = sweep.cloud
    network: dict[str, Any] = described.get("NetworkConfig") or described
    vpc: dict[str, Any] = network.get("VpcConfig") or {}
    subnets: list[str] = vpc.get("Subnets") or []
    role = str(described.get("RoleArn", "")).rpartition("/")[2]
    if role in cloud.ids(_ROLE) or set(subnets) & set(cloud.ids("aws:ec2/subnet:Subnet")):
        return True
    return any(f"s3://{bucket}/" in str(described) for bucket in cloud.ids(_BUCKET))


def scaling_targets(sweep: AskedCloud) -> Iterator[Finding]:
    """What Application Auto Scaling would still size. It has no tags in its lists."""
    known = set(sweep.cloud.ids("aws:appautoscaling/target:Target"))
    for namespace in SCALED_SERVICES:
        call, key = "describe_scalable_targets", "ScalableTargets"
        for one in sweep.pages("application-autoscaling", call, key, ServiceNamespace=namespace):
            if one["ResourceId"] in known:
                sizes = f"{one['MinCapacity']} to {one['MaxCapacity']}"
                yield sweep.find("scaling target", str(one["ResourceId"]), sizes, billed=False)


def scheduled_actions(sweep: AskedCloud) -> Iterator[Finding]:
    """Sizes at certain times, of targets that the state knew."""
    known = set(sweep.cloud.ids("aws:appautoscaling/target:Target"))
    for namespace in SCALED_SERVICES:
        call, key = "describe_scheduled_actions", "ScheduledActions"
        for one in sweep.pages("application-autoscaling", call, key, ServiceNamespace=namespace):
            if one["ResourceId"] in known:
                name = f"{one['ScheduledActionName']} of {one['ResourceId']}"
                yield sweep.find("scheduled action", name, str(one["Schedule"]), billed=False)


SCALED_SERVICES = ("sagemaker", "ecs")
"""Namespaces of Application Auto Scaling in which a stack has something."""
