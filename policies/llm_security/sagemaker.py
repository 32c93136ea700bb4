"""SageMaker: what models, endpoints, notebooks and jobs may reach, and what is encrypted."""

from typing import Final

from policies.enforcement import ADVISORY_IN_DEV, ONLY_IN_PROD
from policies.frameworks import fsbp, gdpr
from policies.node_pools import ENDPOINT, read_node_pools
from policies.reading import Node, read
from policies.rule import Found, Problem, Resource, Rule, Severity

MODEL: Final = "aws:sagemaker/model:Model"
NOTEBOOK: Final = "aws:sagemaker/notebookInstance:NotebookInstance"
JOBS: Final = frozenset(
    {
        "aws:sagemaker/dataQualityJobDefinition:DataQualityJobDefinition",
        "aws:sagemaker/monitoringSchedule:MonitoringSchedule",
    }
)


def _check_model(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    isolated = root.child("enableNetworkIsolation")
    if not isolated.boolean(default=False):
        yield Problem(
            f"{isolated.path} is not true, so the model's container may call out.",
            f"Set {isolated.path} to true.",
        )
    if root.child("vpcConfig").is_missing:
        yield Problem("vpcConfig is missing, so the model is outside of your VPC.", "Set vpcConfig.")


def _check_endpoint(resource: Resource, _: Node) -> Found:
    missing = read(resource.props).child("kmsKeyArn").is_missing
    local = [pool for pool in read_node_pools(resource) or [] if all(one.nvme_gb for one in pool.instances())]
    if local and not missing:
        yield Problem(
            f"kmsKeyArn is set, and {local[0].path} has local disks, with which SageMaker refuses one.",
            "Remove kmsKeyArn: the machine's own hardware encrypts its disks. Or take a type without them.",
        )
    elif missing and len(local) < len(read_node_pools(resource) or [resource]):
        yield Problem(
            "kmsKeyArn is missing, so volumes of the endpoint are not encrypted with a key of yours.",
            "Set kmsKeyArn to the ARN of a key.",
        )


def _check_redundancy(resource: Resource, _: Node) -> Found:
    for variant in read(resource.props).child("productionVariants").items():
        if not variant.child("serverlessConfig").is_missing:
            continue
        scaling = variant.child("managedInstanceScaling")
        scaled = not scaling.is_missing
        count = scaling.child("minInstanceCount") if scaled else variant.child("initialInstanceCount")
        if count.integer(default=1) < 2:
            yield Problem(
                f"{count.path} is {count.integer(default=1)}, so one failed machine ends the service. "
                "Allowed in production: 2 or more.",
                f"Set {count.path} to 2.",
            )


def _check_capture(resource: Resource, _: Node) -> Found:
    capture = read(resource.props).child("dataCaptureConfig")
    if capture.is_missing or not capture.child("enableCapture").boolean(default=False):
        return
    if capture.child("kmsKeyId").is_missing:
        yield Problem(
            f"{capture.path}.kmsKeyId is missing, and what is captured are prompts and answers.",
            f"Set {capture.path}.kmsKeyId, and a lifecycle on the bucket that it goes to.",
        )


def _check_masked(resource: Resource, _: Node) -> Found:
    enabled = read(resource.props).child("dataCaptureConfig", "enableCapture")
    if enabled.boolean(default=False):
        yield Problem(
            f"{enabled.path} is true, so prompts and answers are stored with the personal data in them.",
            "Let the gateway keep masked copies instead: endpoints[].capture.personalData: masked.",
        )


def _check_notebook(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    for key in ("directInternetAccess", "rootAccess"):
        if root.child(key).text(default="Enabled") != "Disabled":
            yield Problem(f"{key} is not Disabled.", f"Set {key} to Disabled.")
    for key in ("subnetId", "kmsKeyId"):
        if root.child(key).is_missing:
            yield Problem(f"{key} is missing.", f"Set {key}.")


def _check_job(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    definition = root.child("monitoringScheduleConfig", "monitoringJobDefinition")
    job = root if definition.is_missing else definition
    cluster = next(
        (
            found
            for key in ("jobResources", "monitoringResources")
            if not (found := job.child(key)).is_missing
        ),
        job.child("jobResources"),
    ).child("clusterConfig")
    if cluster.child("volumeKmsKeyId").is_missing:
        yield Problem(f"{cluster.path}.volumeKmsKeyId is missing.", "Set it to the ARN of a key.")
    between = job.child("networkConfig", "enableInterContainerTrafficEncryption")
    if not between.boolean(default=False):
        yield Problem(f"{between.path} is not true.", f"Set {between.path} to true.")


_ONE: Final = {
    "productionVariants": [{"variantName": "a", "instanceType": "ml.g6e.4xlarge", "initialInstanceCount": 1}],
    "dataCaptureConfig": {"enableCapture": True},
}

_WITHOUT_DISKS: Final = {
    "productionVariants": [{"variantName": "a", "instanceType": "ml.m7i.2xlarge", "initialInstanceCount": 1}],
}

SAGEMAKER_ISOLATED: Final = Rule(
    name="sagemaker-isolated",
    description="SageMaker models run in your VPC and cannot call out. Whether a model's settings hold for "
    "inference components too is not proven: see docs/sagemaker.md.",
    severity=Severity.HIGH,
    remediation="Set enableNetworkIsolation to true, and vpcConfig.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*fsbp("SageMaker.5"), *gdpr(32)),
    check=_check_model,
    types=frozenset({MODEL}),
    example=Resource(MODEL, "llm", {"executionRoleArn": "arn:aws:iam::123456789012:role/llm"}),
)

SAGEMAKER_ENCRYPTED: Final = Rule(
    name="sagemaker-encrypted",
    description="Volumes of SageMaker endpoints are encrypted: with a key of yours, or by local disks' own.",
    severity=Severity.HIGH,
    remediation="Set kmsKeyArn, but not for machines with local disks.",
    enforcement=ADVISORY_IN_DEV,
    controls=gdpr(32),
    check=_check_endpoint,
    types=frozenset({ENDPOINT}),
    example=Resource(ENDPOINT, "llm", _WITHOUT_DISKS),
)

ENDPOINT_REDUNDANT_PROD: Final = Rule(
    name="endpoint-redundant-prod",
    description="In production an endpoint has two machines or more.",
    severity=Severity.MEDIUM,
    remediation="Set the number of machines to 2.",
    enforcement=ONLY_IN_PROD,
    controls=fsbp("SageMaker.4"),
    check=_check_redundancy,
    types=frozenset({ENDPOINT}),
    example=Resource(ENDPOINT, "llm", _ONE),
)

CAPTURE_ENCRYPTED: Final = Rule(
    name="capture-encrypted",
    description="Captured prompts and answers are encrypted with a key of yours.",
    severity=Severity.HIGH,
    remediation="Set kmsKeyId of dataCaptureConfig.",
    controls=gdpr(25, 32),
    check=_check_capture,
    types=frozenset({ENDPOINT}),
    example=Resource(ENDPOINT, "llm", _ONE),
)

CAPTURE_MASKED_PROD: Final = Rule(
    name="capture-masked-prod",
    description="In production prompts are not stored unmasked.",
    severity=Severity.HIGH,
    remediation="Remove dataCaptureConfig, and let the gateway keep masked copies.",
    enforcement=ONLY_IN_PROD,
    controls=gdpr(25),
    check=_check_masked,
    types=frozenset({ENDPOINT}),
    example=Resource(ENDPOINT, "llm", _ONE),
)

NOTEBOOK_CLOSED: Final = Rule(
    name="notebook-closed",
    description="Notebooks are in your VPC, without internet, without root, and encrypted.",
    severity=Severity.HIGH,
    remediation="Set directInternetAccess and rootAccess to Disabled, subnetId and kmsKeyId.",
    controls=(*fsbp("SageMaker.1", "SageMaker.2", "SageMaker.3"), *gdpr(32)),
    check=_check_notebook,
    types=frozenset({NOTEBOOK}),
    example=Resource(NOTEBOOK, "lab", {"instanceType": "ml.t3.medium"}),
)

JOBS_ENCRYPTED: Final = Rule(
    name="jobs-encrypted",
    description="Monitoring and evaluation jobs encrypt their volumes and their own traffic.",
    severity=Severity.MEDIUM,
    remediation="Set volumeKmsKeyId, and enableInterContainerTrafficEncryption to true.",
    enforcement=ADVISORY_IN_DEV,
    controls=gdpr(32),
    check=_check_job,
    types=JOBS,
    example=Resource(
        "aws:sagemaker/dataQualityJobDefinition:DataQualityJobDefinition", "drift", {"jobResources": {}}
    ),
)
