"""Publishes the images that were built: skopeo copies them to a registry and asks for them by digest."""

import os
import re
from collections.abc import Sequence

from rehearsal.images.layout import BuiltImage
from rehearsal.tools.cache import Cache
from rehearsal.tools.errors import ToolError
from rehearsal.tools.process import output_of, run_logged
from runtime.ops.progress import Progress

_PLACE = re.compile(
    r"(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:\d{1,5})?(/[a-z0-9]+([._-]{1,2}[a-z0-9]+)*)*", re.ASCII
)


def check_place(place: str) -> str:
    """The registry and path to publish to, as given.

    Raises:
        ToolError: It is none; asked before minutes of building, not after.
    """
    match = _PLACE.fullmatch(place)
    if not match or not re.search(r"[.:]|^localhost$", place.partition("/")[0]):
        raise ToolError(
            f"PUSH = {place}: must be REGISTRY or REGISTRY/PATH such as registry.example.com/llm; "
            "write it in small letters, without https:// and without a tag"
        )
    return place


def is_loopback(place: str) -> bool:
    """Whether the registry is on this machine; such a one may do without TLS, as container tools agree."""
    host = place.partition("/")[0].partition(":")[0]
    return host == "localhost" or bool(re.fullmatch(r"127(\.\d+){3}", host))


def publish(images: Sequence[BuiltImage], place: str, cache: Cache, progress: Progress) -> None:
    """Copies the images with their digests unchanged, then asks the registry for each by its digest.

    Who may publish is skopeo's matter: `skopeo login`, or REGISTRY_AUTH_FILE.

    Raises:
        ToolError: The registry refused one, or has another image under its digest.
    """
    verified = "false" if is_loopback(place) else "true"
    for image in images:
        with progress.step(f"{place}/{image.name}:{image.version}"):
            run_logged(
                [
                    *("skopeo", "copy", "--preserve-digests", f"--dest-tls-verify={verified}"),
                    f"oci:{image.layout}:{image.name}",
                    f"docker://{place}/{image.name}:{image.version}",
                ],
                title=f"publication of {image.name} to {place}",
                log=cache.logs / "images-published.log",
                cwd=image.layout,
                environment=os.environ,
            )
            found = output_of(
                [
                    *("skopeo", "inspect", f"--tls-verify={verified}", "--format", "{{.Digest}}"),
                    f"docker://{image.by_digest(place)}",
                ]
            )
            if found.strip() != image.digest:
                raise ToolError(f"{image.by_digest(place)} was published, but the registry answers: {found}")
