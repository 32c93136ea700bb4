"""The rules of pack llm_security, in the order of the documentation."""

from typing import Final

from policies.llm_security.cluster import (
    AUDIT_LOGS,
    IMDSV2,
    PRIVATE_CONTROL_PLANE,
    PRIVATE_NODES,
    SECRETS_CMK,
    SUPPORTED_KUBERNETES,
)
from policies.llm_security.ecs import ECS_HARDENED
from policies.llm_security.identity import LEAST_PRIVILEGE, RBAC_MINIMAL
from policies.llm_security.network import (
    FLOW_LOGS,
    GPU_SUBNETS_PRIVATE,
    NETWORK_POLICIES,
    NO_PUBLIC_INFERENCE_PORT,
    PRIVATE_ENDPOINTS,
    TLS_EVERYWHERE,
)
from policies.llm_security.pods import IMAGE_DIGEST, IMAGE_PINNED, POD_BASELINE, SECRETS_AS_FILES
from policies.llm_security.sagemaker import (
    CAPTURE_ENCRYPTED,
    CAPTURE_MASKED_PROD,
    ENDPOINT_REDUNDANT_PROD,
    JOBS_ENCRYPTED,
    NOTEBOOK_CLOSED,
    SAGEMAKER_ENCRYPTED,
    SAGEMAKER_ISOLATED,
)
from policies.llm_security.storage import (
    BUCKET_COMPLETE,
    BUCKET_HARDENED,
    KMS_ROTATION,
    LOG_RETENTION,
    REGISTRY_HARDENED,
)
from policies.rule import AnyRule

RULES: Final[tuple[AnyRule, ...]] = (
    PRIVATE_CONTROL_PLANE,
    SECRETS_CMK,
    AUDIT_LOGS,
    SUPPORTED_KUBERNETES,
    PRIVATE_NODES,
    GPU_SUBNETS_PRIVATE,
    IMDSV2,
    FLOW_LOGS,
    PRIVATE_ENDPOINTS,
    NO_PUBLIC_INFERENCE_PORT,
    BUCKET_HARDENED,
    BUCKET_COMPLETE,
    KMS_ROTATION,
    REGISTRY_HARDENED,
    SAGEMAKER_ISOLATED,
    SAGEMAKER_ENCRYPTED,
    ENDPOINT_REDUNDANT_PROD,
    CAPTURE_ENCRYPTED,
    CAPTURE_MASKED_PROD,
    NOTEBOOK_CLOSED,
    JOBS_ENCRYPTED,
    ECS_HARDENED,
    LEAST_PRIVILEGE,
    LOG_RETENTION,
    TLS_EVERYWHERE,
    POD_BASELINE,
    NETWORK_POLICIES,
    SECRETS_AS_FILES,
    IMAGE_PINNED,
    IMAGE_DIGEST,
    RBAC_MINIMAL,
)
