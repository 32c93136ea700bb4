"""Names and labels that every Kubernetes object of a platform carries."""

from runtime.labels import PLATFORM_LABEL


def labels(platform: str, component: str) -> dict[str, str]:
    """The recommended Kubernetes labels, and the platform's own to select by."""
    return {
        "app.kubernetes.io/name": component,
        "app.kubernetes.io/part-of": platform,
        "app.kubernetes.io/managed-by": "spillway",
        PLATFORM_LABEL: platform,
    }


def selector(platform: str, component: str) -> dict[str, str]:
    """The part of the labels that never changes, to select pods by."""
    return {"app.kubernetes.io/name": component, PLATFORM_LABEL: platform}
