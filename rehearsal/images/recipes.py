"""What the images are made of, and what their labels say about it."""

import hashlib
import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rehearsal.images.layout import VERSION_LABEL
from rehearsal.tools.catalogue import ENVOY
from rehearsal.tools.process import output_of

PROJECT = Path(__file__).parents[2]
RECIPES = PROJECT / "images"
SCRIPT = PROJECT / "runtime" / "serving" / "serving_check.py"
# By its code name: `stable` would be another system on the day of a release.
# renovate: datasource=debian-release depName=debian
DEBIAN = "trixie"
# Of that Debian.
PYTHON = "3.13"
BASE = "base"
GATEWAY = "gateway"
SERVING_CHECK = "serving-check"
BURST_CONTROLLER = "burst-controller"
SAGEMAKER_GATEWAY = "sagemaker-gateway"
EVALUATION = "evaluation"
# What runs the package `runtime` with the libraries of its requirements, on the serving check's Python.
PROGRAMS = (BURST_CONTROLLER, SAGEMAKER_GATEWAY, EVALUATION)
# What no cluster runs.
OFF_CLUSTER = (SAGEMAKER_GATEWAY, EVALUATION)
# In the order of building: the others stand on the first.
RECIPE_NAMES = (BASE, GATEWAY, SERVING_CHECK, *PROGRAMS)
USER = 65532
"""User and group that the images run as."""
_INPUTS = ("images", "rehearsal/images", "runtime")


def image_name(recipe: str) -> str:
    """Name of the image that a recipe gives."""
    return f"spillway-{recipe}"


def versions(debian: str) -> dict[str, str]:
    """Version of what each recipe's image holds.

    Args:
        debian: The point release that the packages were taken from, such as 13.2.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    return {BASE: debian, GATEWAY: ENVOY, **dict.fromkeys((SERVING_CHECK, *PROGRAMS), project)}


def package_files() -> dict[str, Path]:
    """The package `runtime` as an image has it: path below its root to the file here."""
    files = sorted((PROJECT / "runtime").rglob("*.py"))
    return {str(file.relative_to(PROJECT)): file for file in files}


@dataclass(frozen=True)
class PackageList:
    """What an image takes from Debian.

    Attributes:
        packages: Packages whose files it has.
        folders: Folders, without the leading slash, that no package lists because its scripts made them.
    """

    packages: tuple[str, ...]
    folders: tuple[str, ...]


def read_package_list(text: str) -> PackageList:
    """Reads a recipe's `packages`: one name a line, folders with a leading slash, comments after `#`."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return PackageList(
        packages=tuple(line for line in lines if not line.startswith("/")),
        folders=tuple(line.removeprefix("/") for line in lines if line.startswith("/")),
    )


def package_lists() -> dict[str, PackageList]:
    """The package list of each recipe that has one."""
    return {
        name: read_package_list((RECIPES / name / "packages").read_text())
        for name in RECIPE_NAMES
        if (RECIPES / name / "packages").exists()
    }


def declared_volumes(recipe: str) -> tuple[str, ...]:
    """The folders that a recipe's Containerfile declares as volumes, as it writes them: a JSON list."""
    lines = (RECIPES / recipe / "Containerfile").read_text().splitlines()
    said = [line.removeprefix("VOLUME ") for line in lines if line.startswith("VOLUME ")]
    return tuple(folder for one in said for folder in json.loads(one))


def recipe_key() -> str:
    """Tells whether what was built is from the recipes as they are now; Debian's packages do not count."""
    digest = hashlib.sha256(f"{DEBIAN} {ENVOY} {versions('')}".encode())
    files = [path for path in RECIPES.rglob("*") if path.is_file()]
    own = Path(__file__).parent.glob("*.py")
    for path in sorted({*files, *own, SCRIPT, *package_files().values()}):
        digest.update(f"\0{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """Which source the images are built from.

    Attributes:
        revision: Commit that last changed what goes into them, `-dirty` where that is changed since; empty
            outside a clone.
        epoch: Time that all their files and they themselves carry, in seconds since 1970.
        source: Address of the repository; empty where the clone has none.
    """

    revision: str
    epoch: int
    source: str

    def labels(self, version: str) -> dict[str, str]:
        """OCI's labels for an image; what is unknown is left out."""
        named = {
            VERSION_LABEL: version,
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.source": self.source,
        }
        return {label: value for label, value in named.items() if value}


def find_origin() -> Origin:
    """Asks git; SOURCE_DATE_EPOCH, the convention of reproducible builds, sets the time where it is set."""
    # As root in somebody's clone git would refuse; we run this clone's code anyway.
    git = ("git", "-C", PROJECT, "-c", f"safe.directory={PROJECT}")
    revision, time, source, changed = "", "0", "", ""
    if shutil.which("git") and (PROJECT / ".git").exists():
        revision, _, time = (
            output_of([*git, "log", "-1", "--format=%H %ct", "--", *_INPUTS]).strip().partition(" ")
        )
        source = output_of([*git, "config", "--get", "remote.origin.url"]).strip()
        changed = output_of([*git, "status", "--porcelain", "--", *_INPUTS]).strip()
    return Origin(
        revision=f"{revision}-dirty" if revision and changed else revision,
        epoch=int(os.environ.get("SOURCE_DATE_EPOCH") or time or 0),
        source=public_address(source),
    )


def public_address(remote: str) -> str:
    """A remote's address as it may stand in an image: without user or token; empty if no web page."""
    parts = urlsplit(remote)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
