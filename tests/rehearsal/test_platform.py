"""The main job, end to end, as the README has it: `make up`, use it, change it, break it, `make down`.

The tests share one platform and run in the order in which they stand.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rehearsal.site import Site
from rehearsal.site.api import ApiError, object_path
from rehearsal.site.processes import load_record
from rehearsal.site.tiny_model import model_files
from rehearsal.site.tiny_weights import tiny_weights
from rehearsal.site.toolbox import SiteTools
from tests.rehearsal.conftest import eventually
from tests.support.stack_files import ROOT, platform_object
from tests.support.stage import environment_of

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(1200)]

SITE = f"platform-{os.getpid()}"
STACK = "test-platform"
MODEL = "spillway-tiny"


class Deployment:
    """A stack of its own on a site of its own, driven by the README's commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.site = Site(SITE, home)
        self.stack_file = ROOT / "stacks" / f"Pulumi.{STACK}.yaml"
        self.environment = environment_of(home)
        self.write()

    def write(self, **model: Any) -> None:
        """Writes the stack file: `local`, with changes of its model."""
        platform = platform_object("local")
        platform["models"][0].update(model)
        self.stack_file.write_text(
            yaml.safe_dump({"config": {"spillway:platform": platform}}, sort_keys=False)
        )

    def start(self, target: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["make", "--no-print-directory", target, f"STACK={STACK}", f"SITE={SITE}"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, target: str) -> str:
        """Runs a make target to its end and returns what it printed."""
        process = self.start(target)
        printed, _ = process.communicate(timeout=1000)
        assert process.returncode == 0, printed
        return printed

    def shell(self, script: str) -> str:
        """Runs a script in a shell that sourced the printed file."""
        file = self.home / "stacks" / f"{STACK}.env"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f". {file}\n{script}"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def output(self, name: str) -> str:
        return self.shell(f"pulumi stack output {name} --show-secrets").strip()

    def ask(self, method: str, path: str, key: str | None, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """One request to the gateway; returns status and JSON."""
        address = urllib.parse.urlsplit(self.output("endpoint")).netloc
        connection = http.client.HTTPConnection(address, timeout=60)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def ray_service(self) -> dict[str, Any] | None:
        try:
            return self.site.api().get(object_path("ray.io/v1", "RayService", "llm", "tiny"))
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return None


@pytest.fixture(scope="module")
def up(tools: SiteTools, home: Path) -> Generator[Deployment]:
    del tools  # their being there is what makes `up` quick
    deployment = Deployment(home)
    try:
        yield deployment
    finally:
        deployment.start("down").communicate(timeout=600)
        deployment.stack_file.unlink(missing_ok=True)


def test_a_pulumi_can_be_killed_while_helm_installs_the_operator(up: Deployment) -> None:
    """The hardest moment: Helm keeps the name of a killed install. The next test's `up` must get over it."""
    first = up.start("up")

    def half_made() -> bool | None:
        try:
            secrets = up.site.api().get("/api/v1/secrets", labelSelector="owner=helm,status=pending-install")
        except (ApiError, OSError):
            return None  # the site is still starting
        return bool(secrets["items"]) or None

    eventually("Helm installs", half_made, 600.0)
    for process in psutil.Process(first.pid).children(recursive=True):
        if process.name().startswith("pulumi"):
            with contextlib.suppress(psutil.Error):
                process.kill()
    first.communicate(timeout=300)
    assert first.returncode != 0


def test_make_up_ends_with_a_streamed_answer_and_says_how_to_go_on(up: Deployment) -> None:
    printed = up.make("up")
    assert re.search(r"The platform is up: spillway-tiny answered \d+ chunks", printed)
    for needed in ("/v1", "API key", "curl -N", "from openai import OpenAI", "make preview", "make down"):
        assert needed in printed
    # Every step over two seconds shows itself while it runs.
    assert re.search(r"\.\.\. .*pulumi up: .*RayService tiny since \d+ s", printed)


def test_the_committed_stack_files_get_no_salt(up: Deployment) -> None:
    assert "encryptionsalt" not in up.stack_file.read_text()


def test_the_readmes_curl_example_streams_an_answer(up: Deployment) -> None:
    printed = up.shell(_example("curl"))
    events = [line for line in printed.splitlines() if line.startswith("data: ")]
    assert len(events) > 2
    assert events[-1] == "data: [DONE]"


def test_the_readmes_openai_example_gets_an_answer_and_a_stream(up: Deployment) -> None:
    # One after the other in one shell, as a reader of the README does.
    printed = up.shell(f"{_example('curl')}\necho\n{sys.executable} - <<'EOF'\n{_example('openai')}\nEOF")
    answer, _, stream = printed.rpartition("data: [DONE]")[2].strip().partition("\n")
    assert answer.strip()
    assert stream.strip()


def test_without_or_with_a_wrong_key_the_answer_is_401(up: Deployment) -> None:
    for key in (None, "sk-wrong-wrong-wrong-wrong"):
        status, answer = up.ask("POST", "/v1/chat/completions", key, _chat(MODEL))
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


def test_an_unknown_model_is_404_with_the_list_of_models(up: Deployment) -> None:
    status, answer = up.ask("POST", "/v1/chat/completions", up.output("apiKey"), _chat("gpt-9"))
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert MODEL in answer["error"]["message"]


def test_a_body_over_the_limit_is_413(up: Deployment) -> None:
    status, answer = up.ask("POST", "/v1/chat/completions", up.output("apiKey"), b" " * (11 * 1024 * 1024))
    assert status == 413
    assert answer["error"]["message"]


def test_a_second_up_changes_nothing(up: Deployment) -> None:
    assert re.search(r"done +pulumi up: 0 resources", up.make("up"))
    up.shell(f"pulumi preview --stack {STACK} --expect-no-changes")


def test_keys_are_secret_in_state_and_output(up: Deployment) -> None:
    key = up.output("apiKey").removeprefix("sk-")
    assert key not in up.shell(f"pulumi stack export --stack {STACK}")
    assert key not in up.shell(f"pulumi stack output --stack {STACK}")


def test_a_changed_model_is_a_readable_diff(up: Deployment) -> None:
    up.write(maxSequences=6)
    diff = up.make("preview")
    assert re.search(r"max_num_seqs\s*: 4 => 6", diff)
    assert "2 changes" in diff or re.search(r"~ 1 to update\s+\+-1 to replace", diff)


def test_a_wrong_stack_file_is_one_message_and_changes_nothing(up: Deployment) -> None:
    up.write(accelerator="cpus")
    process = up.start("up")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert 'spillway:platform.models[0].accelerator = "cpus": must be one of cpu,' in printed
    assert "did you mean cpu?" in printed
    assert "Traceback" not in printed
    up.write()


def test_a_policy_stops_accelerators_that_the_stack_may_not_use_before_anything_changes(
    up: Deployment,
) -> None:
    before = up.ray_service()
    up.write(accelerator="nvidia-h100")
    process = up.start("up")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "policy gpu-instance-allowlist on RayService tiny" in printed
    assert "nvidia-h100" in printed
    after = up.ray_service()
    assert before is not None
    assert after is not None
    assert before["spec"] == after["spec"]
    up.write()


def test_after_kill_9_of_the_api_server_the_next_up_serves(up: Deployment) -> None:
    record = load_record(up.site.layout, "kube-apiserver")
    assert record is not None
    os.kill(record.identity.pid, signal.SIGKILL)
    assert "answered" in up.make("up")
    assert up.site.status().healthy


def test_after_kill_9_of_the_ray_head_the_next_up_serves(up: Deployment) -> None:
    heads = [process for process in psutil.process_iter() if _is_ray_head_of(process, up.site)]
    assert heads
    for process in heads:
        process.kill()
    assert "answered" in up.make("up")


def test_ctrl_c_in_the_middle_of_up_is_orderly(up: Deployment) -> None:
    up.write(maxSequences=5)
    first = up.start("up")
    _read_until(first, "Job tiny-check since")
    os.killpg(first.pid, signal.SIGINT)  # what a terminal does
    printed, _ = first.communicate(timeout=300)
    assert first.returncode != 0
    assert "stopped; the same command goes on from here" in printed
    assert "Traceback" not in printed


def test_the_next_up_goes_on_and_after_a_kill_9_of_its_pulumi_the_one_after_it_finishes(
    up: Deployment,
) -> None:
    up.write(maxSequences=3)
    second = up.start("up")
    printed = _read_until(second, "Job tiny-check since")
    assert "removed the lock" not in printed, "an interrupted Pulumi gives its lock back itself"
    (engine,) = [
        process
        for process in psutil.Process(second.pid).children(recursive=True)
        if process.name() == "pulumi"
    ]
    engine.kill()
    second.communicate(timeout=300)
    assert second.returncode != 0
    printed = up.make("up")
    assert "answered" in printed
    assert "removed the lock of a Pulumi that was killed" in printed
    service = up.ray_service()
    assert service is not None
    assert "max_num_seqs: 3" in service["spec"]["serveConfigV2"]


def test_a_model_folder_of_this_machine_is_served_by_a_new_cluster(up: Deployment) -> None:
    folder = up.home / "my model"
    folder.mkdir()
    for name, content in {**model_files(), "model.safetensors": tiny_weights()}.items():
        (folder / name).write_bytes(content)
    before = up.ray_service()
    arguments = {"max_num_batched_tokens": 256}  # without load_format: the weights are read
    up.write(maxSequences=3, source={"hostFolder": str(folder)}, engineArguments=arguments)
    assert "answered" in up.make("up")
    after = up.ray_service()
    assert before is not None
    assert after is not None
    old, new = (one["status"]["activeServiceStatus"]["rayClusterName"] for one in (before, after))
    assert old != new
    assert "model_source: /models/volume" in after["spec"]["serveConfigV2"]


def test_on_a_site_that_was_stopped_and_lost_everything_the_next_up_serves_again(up: Deployment) -> None:
    key = up.output("apiKey")
    stop = [sys.executable, "-m", "rehearsal.site", "stop", "--site", SITE]
    subprocess.run(stop, cwd=ROOT, env=up.environment, check=True, capture_output=True, timeout=300)
    printed = up.make("up")
    assert "the site is a new one" in printed
    assert "answered" in printed
    assert up.output("apiKey") == key


def test_a_destroy_keeps_the_operator_until_the_ray_service_is_gone_and_leaves_nothing(
    up: Deployment,
) -> None:
    seen: list[tuple[bool, bool]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, ApiError):
                seen.append((up.ray_service() is not None, _operator_is_there(up)))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        up.shell(f"pulumi destroy --yes --stack {STACK}")
    finally:
        stop.set()
        watcher.join()
    assert (True, True) in seen
    assert (True, False) not in seen
    with pytest.raises(ApiError):
        up.site.api().get(object_path("v1", "Namespace", None, "llm"))
    assert not json.loads(up.shell(f"pulumi stack export --stack {STACK}"))["deployment"].get("resources")


def test_make_down_shows_that_nothing_is_left(up: Deployment) -> None:
    printed = up.make("down")
    assert "Nothing is left:" in printed
    kinds = ("processes", "containers", "mounts", "network namespaces", "cgroups", "Pulumi locks")
    for kind in kinds:
        assert f"  {kind}: none" in printed
    assert not (up.home / "sites" / SITE).exists()
    assert not Path(f"/run/netns/spillway-{SITE}").exists()

    def nothing_runs() -> bool | None:
        state = str(up.home)
        return (
            None if any(state in " ".join(_arguments(process)) for process in psutil.process_iter()) else True
        )

    eventually("no process of the site", nothing_runs, 30.0)


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    pytest.fail(f"it ended without {text!r}:\n{printed}")


def _example(name: str) -> str:
    text = (ROOT / "README.md").read_text()
    match = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


def _chat(model: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_ray_head_of(process: psutil.Process, site: Site) -> bool:
    """The processes of the head's container that hold the cluster's state."""
    if "gcs_server" not in " ".join(_arguments(process)):
        return False
    try:
        return f"spillway-{site.layout.name}" in Path(f"/proc/{process.pid}/cgroup").read_text()
    except OSError:
        return False


def _operator_is_there(deployment: Deployment) -> bool:
    pods = deployment.site.api().get(object_path("v1", "Pod", "kuberay-system"))
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in pods["items"]
        for condition in pod["status"].get("conditions", [])
    )
