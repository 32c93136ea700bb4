"""The rules of pack gpu_cost, in the order of the documentation."""

from typing import Final

from policies.gpu_cost.fit import GPU_CAPACITY_FIT, GPU_QUOTA_FIT, NAMESPACE_GPU_QUOTA
from policies.gpu_cost.money import (
    EXPENSIVE_EXTRAS,
    GPU_EXPOSURE_TO_TTL,
    GPU_HOURLY_CEILING,
    GPU_MONTHLY_EXPECTED,
    GPU_POOL_HOURLY_CEILING,
)
from policies.gpu_cost.pools import GPU_INSTANCE_ALLOWLIST, GPU_MAX_PER_POOL
from policies.gpu_cost.scaling import (
    GPU_AUTOSCALER_BOUNDED,
    GPU_NODE_TAINTED,
    GPU_SCALE_TO_ZERO_DEV,
    GPU_SPOT_REQUIRED_DEV,
)
from policies.gpu_cost.tags import EXPIRY_REQUIRED, TTL_AND_OWNER_TAGS
from policies.rule import AnyRule

RULES: Final[tuple[AnyRule, ...]] = (
    GPU_INSTANCE_ALLOWLIST,
    GPU_MAX_PER_POOL,
    GPU_AUTOSCALER_BOUNDED,
    GPU_SCALE_TO_ZERO_DEV,
    GPU_SPOT_REQUIRED_DEV,
    GPU_POOL_HOURLY_CEILING,
    GPU_HOURLY_CEILING,
    GPU_MONTHLY_EXPECTED,
    GPU_EXPOSURE_TO_TTL,
    GPU_QUOTA_FIT,
    GPU_CAPACITY_FIT,
    TTL_AND_OWNER_TAGS,
    EXPIRY_REQUIRED,
    NAMESPACE_GPU_QUOTA,
    GPU_NODE_TAINTED,
    EXPENSIVE_EXTRAS,
)
