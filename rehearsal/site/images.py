"""Makes the site's container images on the spot, without a registry, and imports them into containerd.

An image is an OCI layout in one tar archive with one layer. The same inputs give the same bytes, so an image
is imported only when something in it changed.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rehearsal.images.layout import BuiltImage, layout_folder, read_layout
from rehearsal.images.recipes import OFF_CLUSTER, image_name, package_files
from rehearsal.site.containers import PAUSE_IMAGE, snapshotter
from rehearsal.site.host_program_runtime import MARKER
from rehearsal.site.layout import REGISTRY, SiteLayout
from rehearsal.site.network import program, replace_file, run_command
from rehearsal.site.tiny_model import MODEL_NAME, model_files
from rehearsal.site.toolbox import SiteTools
from rehearsal.tools.cache import Cache
from runtime import versions
from runtime.images import full_name

OPERATOR_IMAGE = f"{REGISTRY}/kuberay-operator:{versions.KUBERAY}"
ENVOY_IMAGE = f"{REGISTRY}/envoy:{versions.ENVOY}"
RAY_IMAGE = f"{REGISTRY}/ray-llm-cpu:{versions.RAY}"
CONTROLLER_IMAGE = f"{REGISTRY}/burst-controller:1"
NAMESPACE = "k8s.io"
# vLLM compiles one small function of its sampler with the machine's C++ compiler when it is first sampled,
# whatever `enforce_eager` says. Here that takes longer than all else between Ready and the first answer,
# and a machine without a compiler would have no answer at all.
ENGINE_ENVIRONMENT = {"TORCH_COMPILE_DISABLE": "1"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IMPORT_TIMEOUT_S = 120


class SiteImage(Protocol):
    """An image that containerd can be given."""

    @property
    def reference(self) -> str:
        """Its full name."""
        ...

    def key(self) -> str:
        """Identifies the content."""
        ...

    def write(self, archive: Path) -> None:
        """Writes the image as an OCI layout in a tar archive."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """A file of an image: its content, or the file of this machine that it is copied from."""

    content: bytes | Path
    mode: int = 0o644


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        reference: Its full name.
        files: Files by path without a leading slash.
        user: The numeric user that it runs as; also owns `home`.
        host_programs: Whether the site's runtime binds the host's programs into its containers.
    """

    reference: str
    files: Mapping[str, ImageFile]
    user: int
    user_name: str
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    home: str = "/"
    host_programs: bool = False

    def key(self) -> str:
        """Identifies the content; a copied file counts by size and time of change."""
        digest = hashlib.sha256()
        for path, file in sorted(self.files.items()):
            if isinstance(file.content, Path):
                found = file.content.stat()
                source = f"{found.st_size} {found.st_mtime_ns}"
            else:
                source = hashlib.sha256(file.content).hexdigest()
            digest.update(f"{path} {file.mode:o} {source}\n".encode())
        digest.update(json.dumps([self._configuration(), self.host_programs, self.user_name]).encode())
        return digest.hexdigest()

    def write(self, archive: Path) -> None:
        """Writes the image as an OCI layout in a tar archive."""
        layer = archive.with_suffix(".layer")
        self._write_layer(layer)
        with layer.open("rb") as file:
            layer_digest = hashlib.file_digest(file, "sha256").hexdigest()
        configuration = json.dumps(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": self._configuration(),
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("application/vnd.oci.image.config.v1+json", configuration),
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": f"sha256:{layer_digest}",
                        "size": layer.stat().st_size,
                    }
                ],
            }
        ).encode()
        named = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
        named["annotations"] = {"io.containerd.image.name": self.reference}
        index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
        with tarfile.open(archive, "w") as tar:
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(tar, "index.json", index)
            _add(tar, f"blobs/sha256/{layer_digest}", layer)
            for blob in (configuration, manifest):
                _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        layer.unlink()

    def _configuration(self) -> dict[str, object]:
        environment = {"PATH": _SYSTEM_PATH, **self.environment}
        return {
            "User": f"{self.user}:{self.user}",
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "WorkingDir": self.home,
        }

    def _write_layer(self, layer: Path) -> None:
        group = f"root:x:0:\n{self.user_name}:x:{self.user}:\n"
        passwd = (
            "root:x:0:0:root:/root:/bin/sh\n"
            f"{self.user_name}:x:{self.user}:{self.user}::{self.home}:/bin/sh\n"
        )
        files = {
            "etc/passwd": ImageFile(passwd.encode()),
            "etc/group": ImageFile(group.encode()),
            "etc/nsswitch.conf": ImageFile(b"hosts: files dns\n"),
            **self.files,
        }
        if self.host_programs:
            files[MARKER] = ImageFile(b"")
        folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        with tarfile.open(layer, "w") as tar:
            for folder in sorted(folders | {"etc", "run", "var", "root", "home"}):
                _add_folder(tar, folder, 0o755, 0)
            for folder in ("tmp", "var/tmp"):
                _add_folder(tar, folder, 0o1777, 0)
            if self.home != "/":
                _add_folder(tar, self.home.lstrip("/"), 0o755, self.user)
            for path, file in sorted(files.items()):
                _add(tar, path, file.content, file.mode)


def site_images(tools: SiteTools) -> list[Image]:
    """Lists the images of a site."""
    serving = tools.python.parent
    return [
        # Holds a pod's namespaces; containerd ends it with SIGKILL, so that it needs no signal handler.
        Image(PAUSE_IMAGE, {}, 65535, "pause", entrypoint=("/bin/sleep", "infinity"), host_programs=True),
        Image(
            OPERATOR_IMAGE,
            {"manager": ImageFile(tools.path("kuberay-operator"), 0o755)},
            65532,
            "nonroot",
            entrypoint=("/manager",),
        ),
        # The binary is the image's own; only its C library is the host's.
        Image(
            ENVOY_IMAGE,
            {"opt/envoy/envoy": ImageFile(tools.path("envoy"), 0o755)},
            1000,
            "envoy",
            entrypoint=("/opt/envoy/envoy",),
            environment={"PATH": f"/opt/envoy:{_SYSTEM_PATH}"},
            host_programs=True,
        ),
        Image(
            RAY_IMAGE,
            {f"models/{MODEL_NAME}/{name}": ImageFile(data) for name, data in model_files().items()},
            1000,
            "ray",
            environment={
                "PATH": f"{serving}:{_SYSTEM_PATH}",
                "HOME": "/home/ray",
                "RAY_USAGE_STATS_ENABLED": "0",
                **ENGINE_ENVIRONMENT,
            },
            home="/home/ray",
            host_programs=True,
        ),
        # The package is the image's own; Python and its libraries are the serving environment's.
        Image(
            CONTROLLER_IMAGE,
            {f"opt/spillway/{path}": ImageFile(file) for path, file in package_files().items()},
            65532,
            "nonroot",
            entrypoint=("python3", "-m", "runtime.burst"),
            command=("serve",),
            environment={"PATH": f"{serving}:{_SYSTEM_PATH}", "PYTHONPATH": "/opt/spillway"},
            host_programs=True,
        ),
    ]


@dataclass(frozen=True)
class PublishedImage:
    """An image of our own as `make images` built it, under the name that a stack file has for it."""

    built: BuiltImage

    @property
    def reference(self) -> str:
        """The name with the digest, and the site in place of a registry."""
        return self.built.by_digest(REGISTRY)

    def key(self) -> str:
        """The digest says all."""
        return self.built.digest

    def write(self, archive: Path) -> None:
        """Writes the image as it would be pulled."""
        self.built.write_archive(self.reference, archive)


def published_images() -> list[PublishedImage]:
    """The images of our own that were built on this machine and that a cluster runs; most machines have none.

    Raises:
        ToolError: They are damaged.
    """
    left_out = {image_name(recipe) for recipe in OFF_CLUSTER}
    built = read_layout(layout_folder(Cache.locate()))
    return [PublishedImage(image) for image in built if image.name not in left_out]


def import_images(layout: SiteLayout, images: Sequence[SiteImage]) -> list[str]:
    """Imports what is missing in containerd or has changed.

    Returns:
        The references that were imported.
    """
    ctr = [program("ctr", "containerd"), "--address", str(layout.containerd_socket), "--namespace", NAMESPACE]
    present = set(run_command(*ctr, "images", "list", "--quiet").split())
    record = layout.images / "imported.json"
    try:
        imported: dict[str, str] = json.loads(record.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        imported = {}
    layout.images.mkdir(parents=True, exist_ok=True)
    done: list[str] = []
    for image in images:
        key = image.key()
        if image.reference in present and imported.get(image.reference) == key:
            continue
        archive = layout.images / f"{image.reference.partition('/')[2].replace(':', '-')}.tar"
        image.write(archive)
        run_command(
            *ctr,
            "images",
            "import",
            "--snapshotter",
            snapshotter(layout),
            archive,
            timeout_s=_IMPORT_TIMEOUT_S,
        )
        archive.unlink()
        imported[image.reference] = key
        replace_file(record, json.dumps(imported, indent=2, sort_keys=True))
        done.append(image.reference)
    return done


def tag_images(layout: SiteLayout, stand_ins: Mapping[str, str]) -> None:
    """Gives images of the site further names, under which pods find them without a registry.

    Args:
        layout: The running site.
        stand_ins: Name as pods write it, to the site's image that stands in for it.
    """
    ctr = [program("ctr", "containerd"), "--address", str(layout.containerd_socket), "--namespace", NAMESPACE]
    for name, image in stand_ins.items():
        run_command(*ctr, "images", "tag", "--force", image, full_name(name))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def _add(tar: tarfile.TarFile, path: str, content: bytes | Path, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as file:
            tar.addfile(entry, file)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, path: str, mode: int, owner: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.type = tarfile.DIRTYPE
    entry.mode = mode
    entry.uid = entry.gid = owner
    tar.addfile(entry)
