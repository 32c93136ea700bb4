"""Installs KubeRay's CRDs on the embedded site, beside Pulumi's state."""

from pathlib import Path

from rehearsal.site.api import ApiClient, object_path


def install_crds(api: ApiClient, folder: Path) -> int:
    """Applies every CRD in a folder of YAML files, and returns how many.

    By server-side apply: three of KubeRay's are larger than the annotation of a client-side one may be.
    The text goes to the API server as it is; parsing megabytes of YAML here would take seconds.
    """
    files = sorted(folder.glob("ray.io_*.yaml"))
    for file in files:
        plural = file.stem.removeprefix("ray.io_")
        path = object_path("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, f"{plural}.ray.io")
        api.apply_text(path, file.read_bytes())
    return len(files)
