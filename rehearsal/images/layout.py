"""Reads the images that were built: an OCI layout, in which every file is named by its digest.

Source of the format: OCI image specification 1.1, `image-layout.md` and `manifest.md`.
"""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.tools.cache import Cache
from rehearsal.tools.errors import ToolError

VERSION_LABEL = "org.opencontainers.image.version"
_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class BuiltImage:
    """One image of a layout.

    Attributes:
        layout: The layout's folder.
        name: Name without a registry.
        digest: Digest of its manifest; what runs is known by it.
        descriptor: The manifest's entry in the layout's index.
        config: What the image says of its containers: user, environment, labels, entry point.
        blobs: Digests of all that the image is made of, the manifest's first.
        size: Bytes that a pull transfers.
    """

    layout: Path
    name: str
    digest: str
    descriptor: Mapping[str, Any]
    config: Mapping[str, Any]
    blobs: Sequence[str]
    size: int

    @property
    def version(self) -> str:
        """Version of what the image holds, from its label."""
        return str(self.config["Labels"][VERSION_LABEL])

    def by_digest(self, place: str) -> str:
        """The reference for a stack file.

        Args:
            place: Registry and path that have the image.
        """
        return f"{place}/{self.name}@{self.digest}"

    def write_archive(self, reference: str, archive: Path) -> None:
        """Writes a tar archive of this image alone, which containerd imports under a reference."""
        descriptor = {**self.descriptor, "annotations": {_CONTAINERD_NAME: reference}}
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        with tarfile.open(archive, "w") as tar:
            for name, content in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            for digest in self.blobs:
                path = blob(self.layout, digest)
                tar.add(path, str(path.relative_to(self.layout)))


def layout_folder(cache: Cache) -> Path:
    """Where `make images` leaves what it built."""
    return cache.images / "layout"


def blob(layout: Path, digest: str) -> Path:
    """The file of a digest."""
    return layout / "blobs" / Path(*digest.split(":", 1))


def read_layout(layout: Path) -> tuple[BuiltImage, ...]:
    """The images of a layout, by name; none where nothing was built yet.

    Raises:
        ToolError: The layout is damaged.
    """
    if not (layout / "index.json").exists():
        return ()
    try:
        entries: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
        return tuple(sorted((_read(layout, entry) for entry in entries), key=lambda image: image.name))
    except (OSError, ValueError, KeyError) as error:
        raise ToolError(
            f"the images in {layout} are damaged ({error}); build them again: make images"
        ) from None


def _read(layout: Path, descriptor: dict[str, Any]) -> BuiltImage:
    digest: str = descriptor["digest"]
    manifest = json.loads(blob(layout, digest).read_bytes())
    parts = [manifest["config"], *manifest["layers"]]
    for part in parts:
        if blob(layout, part["digest"]).stat().st_size != part["size"]:
            raise ValueError(f"{part['digest']} is not whole")
    return BuiltImage(
        layout=layout,
        name=descriptor["annotations"][_NAME],
        digest=digest,
        descriptor={key: descriptor[key] for key in ("mediaType", "digest", "size")},
        config=json.loads(blob(layout, parts[0]["digest"]).read_bytes())["config"],
        blobs=tuple(dict.fromkeys([digest, *(part["digest"] for part in parts)])),
        size=sum(part["size"] for part in parts),
    )
