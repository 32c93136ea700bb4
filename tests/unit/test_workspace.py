"""Where Pulumi runs for one stack: environment, private stack file, and what a killed Pulumi leaves."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from rehearsal import workspace as module
from rehearsal.places import pods_by_model, stand_in_images
from rehearsal.platform import Platform
from rehearsal.rehearsed_stack import as_rehearsed
from rehearsal.workspace import Workspace, WorkspaceError
from runtime.ops.progress import Progress
from stacks import check
from stacks.settings import parse


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in list(os.environ):
        if name.startswith("PULUMI_") or name in {"KUBECONFIG", "CONTEXT"}:
            monkeypatch.delenv(name)
    return Workspace(tmp_path / "home", "local", tmp_path / "kubeconfig")


def test_a_stack_without_a_file_is_one_message_with_the_stacks_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"STACK = nowhere: .*allowed: .*local.*onprem"):
        Workspace(tmp_path, "nowhere", tmp_path / "k").check()


def test_state_and_passphrase_are_spillways_own_unless_the_user_has_some(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = workspace.variables()
    assert own["PULUMI_BACKEND_URL"] == f"file://{workspace.home / 'state'}"
    assert own["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(workspace.home / "passphrase")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "mine")
    users = workspace.variables()
    assert "PULUMI_BACKEND_URL" not in users
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in users
    assert workspace.environment()["PULUMI_BACKEND_URL"] == "s3://states"


def test_a_shell_that_sources_the_file_has_the_same_environment(workspace: Workspace) -> None:
    file = workspace.write_environment_file()
    assert file.stat().st_mode & 0o077 == 0
    script = f'. "{file}"; echo "$PULUMI_BACKEND_URL|$KUBECONFIG|$PULUMI_STACK|$PATH"'
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    backend, kubeconfig, stack, path = printed.split("|")
    assert backend == workspace.variables()["PULUMI_BACKEND_URL"]
    assert (kubeconfig, stack) == (str(workspace.kubeconfig), "local")
    assert path == workspace.environment()["PATH"]


def test_plain_pulumi_reads_a_rehearsals_settings_from_outside_the_project(workspace: Workspace) -> None:
    rehearsal = Workspace.rehearsing(workspace.home, "cpu", workspace.kubeconfig)
    file = Path(rehearsal.variables()["PULUMI_OPTION_CONFIG_FILE"])
    assert file == rehearsal.copy_stack_file()
    assert file.is_relative_to(workspace.home)
    assert "PULUMI_OPTION_CONFIG_FILE" not in workspace.variables()


def test_pulumi_writes_its_salt_into_a_copy_that_follows_the_committed_file(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROJECT", tmp_path / "project")
    committed = tmp_path / "project" / "stacks" / "Pulumi.local.yaml"
    committed.parent.mkdir(parents=True)
    committed.write_text("config: {spillway:platform: {name: a}}\n")
    copy = workspace.copy_stack_file()
    copy.write_text(copy.read_text() + "encryptionsalt: v1:abc\n")  # as the CLI does
    committed.write_text("config: {spillway:platform: {name: b}}\n")
    settings = yaml.safe_load(workspace.copy_stack_file().read_text())
    assert settings == {"config": {"spillway:platform": {"name": "b"}}}
    assert "encryptionsalt" not in committed.read_text()


def test_a_passphrase_is_made_once_and_never_again(workspace: Workspace) -> None:
    workspace.home.mkdir()
    workspace._make_passphrase()  # pyright: ignore[reportPrivateUsage] - `install` needs all the tools
    file = workspace.home / "passphrase"
    first = file.read_text()
    assert len(first) > 30
    assert file.stat().st_mode & 0o077 == 0
    workspace._make_passphrase()  # pyright: ignore[reportPrivateUsage]
    assert file.read_text() == first
    assert [path.name for path in workspace.home.iterdir()] == ["passphrase"]


def test_locks_in_our_backend_name_the_process_and_host_that_hold_them(workspace: Workspace) -> None:
    assert workspace.locks() == []
    folder = workspace.home / "state" / ".pulumi" / "locks" / "organization" / "spillway" / "local"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps({"pid": 4711, "hostname": "elsewhere", "username": "root"}))
    (lock,) = workspace.locks()
    assert (lock.pid, lock.host, lock.is_here) == (4711, "elsewhere", False)
    (folder / "1.json").write_text('{"pid": 47')  # by a Pulumi that was killed while it wrote
    (lock,) = workspace.locks()
    assert (lock.pid, lock.is_here) == (0, True)


def test_a_context_of_the_shell_does_not_reach_the_embedded_site(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXT", "lab")
    assert "CONTEXT" not in workspace.environment()
    assert "unset CONTEXT" in workspace.write_environment_file().read_text()


@pytest.mark.parametrize("simulated", [False, True])
def test_a_stack_file_that_is_no_yaml_is_told_as_make_validate_tells_it(
    simulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.chdir(module.PROJECT)
    file = Path("stacks/Pulumi.test-broken.yaml")
    file.write_text("config:\n  spillway:platform: [\n")
    try:
        with pytest.raises(WorkspaceError) as error:
            Platform("test-broken", "local", Progress(), simulated=simulated).up()
        assert check.main([str(file)]) == 1
    finally:
        file.unlink()
    assert str(error.value) == capsys.readouterr().err.strip()
    assert str(error.value).startswith(
        "1 mistake in stacks/Pulumi.test-broken.yaml:\n  - line 3: is no YAML: "
    )


def test_a_rehearsed_stack_file_means_what_it_means_to_pulumi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/Pulumi.x.yaml").write_text(
        "config:\n  spillway:platform: {revision: 2026-01-01, name: yes}\n"
    )
    copy = Workspace.rehearsing(tmp_path / "home", "x", tmp_path / "k").copy_stack_file()
    platform = yaml.safe_load(copy.read_text())["config"]["spillway:platform"]
    assert (platform["revision"], platform["name"]) == ("2026-01-01", "yes")


def test_two_makes_of_one_stack_wait_for_each_other(workspace: Workspace) -> None:
    order: list[str] = []

    def second() -> None:
        with workspace.locked(Progress()):
            order.append("second")

    with workspace.locked(Progress()):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_kubeconfig_that_is_not_there_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    with pytest.raises(WorkspaceError, match=r"KUBECONFIG = /nowhere/kubeconfig: .* unset KUBECONFIG"):
        Platform("local", "local", Progress())


def test_another_sites_kubeconfig_is_refused_with_the_sites_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "sites" / "other" / "kubeconfig"
    kubeconfig.parent.mkdir(parents=True)
    kubeconfig.write_text("apiVersion: v1\n")
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(
        WorkspaceError, match="that is the embedded site other; unset KUBECONFIG, or say SITE=other"
    ):
        Platform("local", "local", Progress())


def test_up_and_preview_refuse_a_wrong_stack_file_before_any_tool_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr("rehearsal.platform.ensure", None)  # called, it would be a TypeError
    file = module.PROJECT / "stacks" / "Pulumi.test-wrong.yaml"
    local = (module.PROJECT / "stacks" / "Pulumi.local.yaml").read_text()
    file.write_text(local.replace("replicas: 1", "replicas: 0"))
    try:
        platform = Platform("test-wrong", "local", Progress())
        for command in (platform.up, platform.preview):
            with pytest.raises(
                WorkspaceError, match=r"1 mistake in .*\n  - spillway:platform\.gateway\.replicas = 0"
            ):
                command()
    finally:
        file.unlink()


def test_down_of_a_stack_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(WorkspaceError, match="STACK = lcoal"):
        Platform("lcoal", "local", Progress()).down()


def test_kubeconfig_and_context_of_the_user_reach_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "lab"
    kubeconfig.write_text("apiVersion: v1\n")
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("CONTEXT", "lab")
    variables = Platform("onprem", "local", Progress()).workspace.variables()
    assert (variables["KUBECONFIG"], variables["CONTEXT"]) == (str(kubeconfig), "lab")


def test_every_run_is_judged_by_the_policy_pack_with_the_stacks_config(workspace: Workspace) -> None:
    variables = workspace.variables()
    assert variables["PULUMI_OPTION_POLICY_PACK"] == str(module.PROJECT / "policies/pack")
    assert "PULUMI_OPTION_POLICY_PACK_CONFIG" not in variables
    onprem = Workspace(workspace.home, "onprem", workspace.kubeconfig).variables()
    assert onprem["PULUMI_OPTION_POLICY_PACK_CONFIG"] == str(module.PROJECT / "policies/config/onprem.json")


def test_a_shell_that_sourced_the_file_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = workspace.variables()
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    assert workspace.variables() == before


def test_a_stack_without_the_sites_images_must_name_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(WorkspaceError, match=r"Pulumi\.onprem\.yaml names no cluster .* set KUBECONFIG"):
        Platform("onprem", "local", Progress())


def test_a_cluster_in_the_stack_file_is_used_whatever_the_shell_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setenv("SPILLWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", "/etc/elsewhere")
    monkeypatch.setenv("CONTEXT", "elsewhere")
    (tmp_path / "stacks").mkdir()
    cluster = {"kubeconfig": "/etc/lab", "context": "lab"}
    platform = {"cluster": cluster, "ray": {"image": "rayproject/ray-llm:2.60.0"}}
    (tmp_path / "stacks" / "Pulumi.lab.yaml").write_text(
        yaml.safe_dump({"config": {"spillway:platform": platform}})
    )
    workspace = Platform("lab", "local", Progress()).workspace
    assert (workspace.kubeconfig, workspace.context) == (Path("/etc/lab"), "lab")


def test_a_rehearsal_never_touches_the_cluster_or_the_state_of_the_stack(workspace: Workspace) -> None:
    stack_file = {
        "config": {
            "spillway:platform": {
                "cluster": {"kubeconfig": "/etc/prod", "context": "prod", "access": "namespace"},
                "kuberay": {"version": "9.9.9"},
                "models": [{"name": "m"}],
            }
        }
    }
    platform = as_rehearsed(stack_file)["config"]["spillway:platform"]
    assert platform["cluster"] == {"access": "namespace"}
    assert platform["kuberay"]["repository"] is None
    assert platform["kuberay"]["version"] == "1.6.2", "the chart that is here"
    assert platform["models"] == [{"name": "m"}]
    rehearsal = Workspace.rehearsing(workspace.home, "onprem", workspace.kubeconfig)
    assert rehearsal.stack == "onprem-rehearsal"
    assert rehearsal.stack_file.name == "Pulumi.onprem.yaml"
    assert rehearsal.policy_config == module.POLICY_CONFIGS / "onprem.json"


def test_only_a_rehearsal_finds_a_stand_in_under_the_name_of_the_aws_plugin(workspace: Workspace) -> None:
    rehearsal = Workspace.rehearsing(workspace.home, "onprem", workspace.kubeconfig)
    assert rehearsal.variables()["PULUMI_HOME"] != workspace.variables()["PULUMI_HOME"]
    assert workspace.variables()["PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL"] == "true"


def test_a_rehearsal_finds_examples_and_their_policy_configuration(workspace: Workspace) -> None:
    rehearsal = Workspace.rehearsing(workspace.home, "amd-mi300x", workspace.kubeconfig)
    rehearsal.check()
    assert rehearsal.stack_file == module.EXAMPLES / "amd-mi300x.yaml"
    assert rehearsal.policy_config == module.EXAMPLES / "amd-mi300x.policy.json"
    with pytest.raises(WorkspaceError, match=r"STACK = nowhere: .*allowed: amd-mi300x.*onprem"):
        Workspace.rehearsing(workspace.home, "nowhere", workspace.kubeconfig).check()


def test_an_example_is_no_stack_before_it_is_copied(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"there is no stacks/Pulumi\.amd-mi300x\.yaml"):
        Workspace(workspace.home, "amd-mi300x", workspace.kubeconfig).check()


def test_an_operator_that_is_there_already_stays_as_the_stack_says() -> None:
    platform = {"kuberay": {"install": "existing", "namespace": "ray"}}
    rehearsed = as_rehearsed({"config": {"spillway:platform": platform}})["config"]["spillway:platform"]
    assert rehearsed["kuberay"] == platform["kuberay"]


def test_a_model_that_runs_for_real_on_prem_keeps_its_name_and_what_it_is_in_the_cloud() -> None:
    hybrid = yaml.safe_load((module.PROJECT / "stacks" / "Pulumi.hybrid.yaml").read_text())
    simulated, real = (
        parse(as_rehearsed(hybrid, weights)["config"]["spillway:platform"]).models[0]
        for weights in (None, Path("/tmp/weights"))
    )
    assert (real.accelerator, real.image) == ("cpu", "site.local/ray-llm-cpu:2.60.0")
    assert (real.name, real.model_id, real.max_sequences) == (simulated.name, simulated.model_id, 8)
    there, before = real.in_cloud, simulated.in_cloud
    assert there is not None
    assert before is not None
    assert (there.accelerator, there.worker, there.tensor_parallel) == (
        before.accelerator,
        before.worker,
        before.tensor_parallel,
    )
    assert there.image == "rayproject/ray-llm:2.60.0-py312-cu130"


def test_every_image_that_a_rehearsed_stack_names_has_a_stand_in() -> None:
    platform = {
        "ray": {"image": "rayproject/ray-llm:2.60.0"},
        "models": [{"name": "a"}, {"name": "b", "image": "registry/b:1"}],
    }
    assert stand_in_images(platform) == {
        "envoyproxy/envoy:v1.40.0": "site.local/envoy:1.40.0",
        "quay.io/kuberay/operator:v1.6.2": "site.local/kuberay-operator:1.6.2",
        "rayproject/ray-llm:2.60.0": "site.local/ray-llm-cpu:2.60.0",
        "registry/b:1": "site.local/ray-llm-cpu:2.60.0",
    }
    assert stand_in_images({"ray": {"image": "site.local/ray-llm-cpu:2.60.0"}}).keys() == {
        "envoyproxy/envoy:v1.40.0",
        "quay.io/kuberay/operator:v1.6.2",
    }


def test_an_image_of_the_checks_own_and_what_a_mirror_makes_of_the_names_have_stand_ins_too() -> None:
    platform = {
        "images": {"mirror": "registry.example/llm"},
        "checkImage": "quay.io/us/check:1",
        "ray": {"image": "rayproject/ray-llm:2.60.0"},
    }
    assert stand_in_images(platform) == {
        "registry.example/llm/envoyproxy/envoy:v1.40.0": "site.local/envoy:1.40.0",
        "registry.example/llm/kuberay/operator:v1.6.2": "site.local/kuberay-operator:1.6.2",
        "registry.example/llm/rayproject/ray-llm:2.60.0": "site.local/ray-llm-cpu:2.60.0",
        "registry.example/llm/us/check:1": "site.local/ray-llm-cpu:2.60.0",
    }


def test_a_rehearsal_says_where_the_pods_of_each_model_are() -> None:
    def pod(role: str, node: str, **devices: str) -> dict[str, object]:
        labels = {"spillway.dev/model": "m", "ray.io/node-type": role}
        container = {"resources": {"limits": {"cpu": "1", **devices}}}
        return {"metadata": {"labels": labels}, "spec": {"nodeName": node, "containers": [container]}}

    worker = {"nvidia.com/gpu": "4"}
    pods = [pod("head", "cpu-0"), pod("worker", "gpu-0", **worker), pod("worker", "gpu-0", **worker)]
    assert pods_by_model(pods) == ("m: 1 head on cpu-0, 2 worker on gpu-0 with 4 nvidia.com/gpu",)


def test_an_update_that_does_not_finish_is_noted_until_one_does(workspace: Workspace) -> None:
    workspace.cluster_file.parent.mkdir(parents=True)

    def interrupted() -> None:
        with workspace.updating():
            assert workspace.is_unfinished, "a kill -9 now would leave no note"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert workspace.is_unfinished
    with workspace.updating():
        pass
    assert not workspace.is_unfinished
