"""Which Kubernetes resources are accelerators, and how a pod says which product it wants.

Names are `vendor-product` in lower case: `nvidia-h100`, `amd-mi300x`, `intel-max-1550`, `intel-gaudi`.
Sources of resource and label names: the vendors' device plugins and node labellers, GKE and Karpenter.
"""

import re
from dataclasses import dataclass
from typing import Final

from policies.reading import Node, Presence


@dataclass(frozen=True, slots=True)
class Family:
    """The accelerators of one vendor that share resource and label names.

    Attributes:
        vendor: The first part of the names.
        resources: Matches the whole of a Kubernetes resource name that hands out these accelerators.
        labels: Node labels of which the value names the product.
        models: Words that name a product whatever stands around them in the label's value, such as `h100`
            in `NVIDIA-H100-80GB-HBM3`. Other values keep all their words.
        product: The only name of the family where no label tells its products apart.
    """

    vendor: str
    resources: re.Pattern[str]
    labels: tuple[str, ...] = ()
    models: frozenset[str] = frozenset()
    product: str | None = None


FAMILIES: Final = (
    Family(
        "nvidia",
        # Whatever the device plugin is told to call them: gpu, gpu.shared, gpu-a100, mig-1g.10gb, GRID_T4-1Q.
        # Not the network operator's resources.
        re.compile(r"nvidia\.com/(?!hostdev|rdma).+"),
        (
            "nvidia.com/gpu.product",
            "cloud.google.com/gke-accelerator",
            "karpenter.k8s.aws/instance-gpu-name",
            "eks.amazonaws.com/instance-gpu-name",
        ),
        frozenset(
            [
                "t4",
                "t4g",
                "p4",
                "p100",
                "v100",
                "l4",
                "l40",
                "l40s",
                "a2",
                "a10",
                "a10g",
                "a16",
                "a30",
                "a40",
                "a100",
            ]
        )
        | frozenset(["h20", "h100", "h200", "h800", "gh200", "b200", "b300", "gb200", "gb300"]),
    ),
    Family(
        "amd",
        # Partitions are resources of their own when the plugin's naming strategy is "mixed".
        re.compile(r"amd\.com/(?!v?nic).+"),
        ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
        frozenset(
            ["mi100", "mi210", "mi250", "mi250x", "mi300a", "mi300x", "mi308x", "mi325x", "mi350x", "mi355x"]
        ),
    ),
    Family("intel", re.compile(r"gpu\.intel\.com/(i915|xe)"), ("gpu.intel.com/product",)),
    Family("intel", re.compile(r"habana\.ai/gaudi"), product="intel-gaudi"),
    Family("aws", re.compile(r"aws\.amazon\.com/neuron.*"), product="aws-neuron"),
    Family("google", re.compile(r"google\.com/tpu"), ("cloud.google.com/gke-tpu-accelerator",)),
)

# Words that stand before the product's own name in label values.
_PREFIXES: Final = frozenset({"nvidia", "tesla", "amd", "instinct", "intel"})


def family_of(resource: str) -> Family | None:
    """Returns the family that a Kubernetes resource name belongs to; None if it is no accelerator."""
    return next((family for family in FAMILIES if family.resources.fullmatch(resource)), None)


def product_name(family: Family, label_value: str) -> str:
    """Returns the name of the product that a node label's value stands for.

    Two values get one name only if they name one model, so no product can pass for a cheaper one.
    """
    words = [word for word in re.split(r"[-_ ]+", label_value.lower()) if word]
    models = {word for word in words if word in family.models}
    if len(models) == 1:
        return f"{family.vendor}-{models.pop()}"
    while words and words[0] in _PREFIXES:
        words.pop(0)
    return "-".join((family.vendor, *words))


def judged_name(declared: str) -> str:
    """Returns the name under which the pods of a declared accelerator are judged.

    `intel-gaudi3` is `intel-gaudi` to the rules: no label on its nodes tells the generations apart, so an
    allow-list can only name the family. `nvidia-a100-40gb` is `nvidia-a100`: memory sizes are one product.
    """
    declared = re.sub(r"-\d+gb$", "", declared)
    families = (family.product for family in FAMILIES if family.product is not None)
    return next((product for product in families if declared.startswith(product)), declared)


def named_products(pod: Node, family: Family) -> set[str]:
    """Returns every product of a family that a pod may be placed on, by its node selector and affinity.

    Args:
        pod: The pod's spec.
        family: The family whose labels count.

    Returns:
        The products' names. Empty if the pod may also be placed on a node with another product.

    Raises:
        Unreadable: A part of the selector or affinity that decides is unknown.
    """
    if family.product is not None:
        return {family.product}
    selector = pod.child("nodeSelector")
    values = [
        value for label in family.labels if (value := selector.child(label)).presence is not Presence.MISSING
    ]
    selected = {product_name(family, value.text()) for value in values}
    required = pod.child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    # Terms are alternatives: one that leaves the product open leaves it open for the pod.
    terms = [_products_of_term(term, family) for term in required.child("nodeSelectorTerms").items()]
    if terms and all(terms):
        return selected.union(*terms)
    return selected


def _products_of_term(term: Node, family: Family) -> set[str]:
    return {
        product_name(family, value.text())
        for expression in term.child("matchExpressions").items()
        if expression.child("key").text() in family.labels and expression.child("operator").text() == "In"
        for value in expression.child("values").items()
    }
