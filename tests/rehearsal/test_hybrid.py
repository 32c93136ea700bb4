"""Stack hybrid in rehearsal: both sides come up, load bursts and goes back to zero, faults lose no request.

On-prem and EKS are embedded sites with the real operator, gateway and burst controller. Engines, Ray's
autoscaler, the node autoscaler and AWS are doubles. Every request is counted. `make test-faults` runs this.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.burst_cycle import CLIENTS, LOAD_S, TOKEN_S, BurstDriver
from rehearsal.burst_load import Counts
from rehearsal.cloud import RehearsedCloud
from rehearsal.site.processes import load_record
from rehearsal.site.simulated_engines import Speed
from rehearsal.site.toolbox import SiteTools
from rehearsal.workspace import Workspace
from runtime.ops.progress import Progress
from tests.rehearsal.conftest import eventually
from tests.support.stage import Stage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STACK, NAMESPACE, MODEL = "hybrid", "llm", "Qwen/Qwen3-8B"
MAY_SPILL, STAYS = "default", "research-on-prem"


class Hybrid:
    """The stack on its two sites."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cloud = RehearsedCloud(stage.home, stage.site, "us-east-1")
        self.driver = BurstDriver(stage.site, self.cloud, NAMESPACE, "llm-gateway", MODEL, Progress())

    def run(self, command: str, status: int = 0) -> str:
        return self.stage.run(
            command, "--simulated", "--stack", STACK, "--site", self.stage.name, status=status
        )

    def pulumi(self, command: str) -> str:
        workspace = Workspace.rehearsing(self.stage.home, STACK, self.stage.site.kubeconfig)
        script = (
            f". {workspace.environment_file}; pulumi {command} --stack {workspace.stack} --non-interactive"
        )
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=Path(__file__).parents[2],
            env=self.stage.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def seen_on_eks(self) -> int:
        """Chat requests in the access logs of the gateway over there."""
        api = self.cloud.site.api()
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        pods = api.get(path, labelSelector="app.kubernetes.io/name=gateway")["items"]
        logs = [api.request("GET", f"{path}/{pod['metadata']['name']}/log").decode() for pod in pods]
        return sum('"path":"/v1/chat/completions"' in line for log in logs for line in log.splitlines())

    def overload(self, client: str, seconds: float, **headers: str) -> Counts:
        """So many clients for so long, with engines slow enough that the site is full."""
        self.driver.set_speed(Speed(token_s=TOKEN_S, load_s=LOAD_S))
        load = self.driver.load(client, **headers)
        load.add(CLIENTS)
        time.sleep(seconds)
        counts = load.stop()
        self.driver.set_speed(Speed())
        return counts


@pytest.fixture(scope="module", name="hybrid")
def fixture_hybrid(tools: SiteTools, home: Path) -> Generator[Hybrid]:
    del tools  # their being there is what makes `up` quick
    with Stage.on(f"hyb-{os.getpid() % 10000}", home) as stage:
        hybrid = Hybrid(stage)
        try:
            yield hybrid
        finally:
            hybrid.cloud.stop(Progress())


def test_up_brings_both_sides_with_no_gpu_node_and_a_preview_then_changes_nothing(hybrid: Hybrid) -> None:
    hybrid.run("up")
    assert hybrid.driver.gpu_nodes() == []
    hybrid.pulumi("preview --expect-no-changes")


def test_nothing_spills_before_weights_and_images_were_verified(hybrid: Hybrid) -> None:
    counts = hybrid.overload(MAY_SPILL, 10.0)
    assert counts.refused > 0
    assert counts.served("spill") == 0
    assert (counts.lost, counts.failed) == ([], [])
    assert hybrid.seen_on_eks() == 0
    assert hybrid.driver.gpu_nodes() == []


def test_load_bursts_and_goes_back_to_no_node_and_no_accepted_request_is_lost(hybrid: Hybrid) -> None:
    said = hybrid.run("stage")
    assert "models/qwen3-8b" in said
    cycle = hybrid.driver.cycle(MAY_SPILL, CLIENTS)
    print("\n".join(cycle.lines()))
    assert cycle.counts.served("spill") >= 50
    assert (cycle.counts.lost, cycle.counts.failed) == ([], []), cycle.counts.failed[:3]
    assert cycle.warm_s < cycle.first_spilled_s
    assert hybrid.driver.gpu_nodes() == []


def test_a_client_that_may_not_spill_is_never_seen_on_eks_whatever_it_sends(hybrid: Hybrid) -> None:
    before = hybrid.seen_on_eks()
    counts = hybrid.overload(
        STAYS,
        15.0,
        **{"x-spillway-client": MAY_SPILL, "Cookie": "spillway-pool=spill", "x-spillway-session": "1"},
    )
    assert counts.refused > 0
    assert counts.served("spill") == 0
    assert (counts.lost, counts.failed) == ([], [])
    assert hybrid.seen_on_eks() == before


def test_an_update_in_the_middle_of_a_burst_does_not_undo_it(hybrid: Hybrid) -> None:
    hybrid.driver.set_speed(Speed(token_s=TOKEN_S, load_s=LOAD_S))
    load = hybrid.driver.load(MAY_SPILL)
    load.add(CLIENTS)
    try:
        load.until("spilled", lambda counts: counts.served("spill") > 20, 240.0, Progress())
        nodes = hybrid.driver.gpu_nodes()
        groups = {group["nodeGroup"]: group["desiredSize"] for group in hybrid.cloud.double.node_groups()}
        hybrid.run("up")
        after = {group["nodeGroup"]: group["desiredSize"] for group in hybrid.cloud.double.node_groups()}
        assert nodes
        assert all(after[name] >= size for name, size in groups.items())
        served = load.counts.served("spill")
        load.until("spilled on", lambda counts: counts.served("spill") > served + 20, 60.0, Progress())
    finally:
        counts = load.stop()
        hybrid.driver.set_speed(Speed())
    assert (counts.lost, counts.failed) == ([], [])


def test_a_cut_link_costs_overflow_only_and_spilling_goes_on_when_it_is_mended(hybrid: Hybrid) -> None:
    hybrid.driver.set_speed(Speed(token_s=TOKEN_S, load_s=LOAD_S))
    load = hybrid.driver.load(MAY_SPILL)
    load.add(CLIENTS)
    try:
        load.until("spilled", lambda counts: counts.served("spill") > 20, 240.0, Progress())
        hybrid.cloud.link.cut()
        time.sleep(5.0)
        refused, here = load.counts.refused, load.counts.served("onprem")
        load.until(
            "on-prem serves alone",
            lambda counts: counts.refused > refused + 20 and counts.served("onprem") > here + 20,
            60.0,
            Progress(),
        )
        hybrid.cloud.link.mend()
        served = load.counts.served("spill")
        load.until("spilled again", lambda counts: counts.served("spill") > served + 20, 120.0, Progress())
    finally:
        hybrid.cloud.link.mend()
        counts = load.stop()
        hybrid.driver.set_speed(Speed())
    print(counts.words())
    assert counts.failed == []
    hybrid.driver.until_no_node()


def test_a_controller_that_is_killed_is_replaced_and_forgets_nothing(hybrid: Hybrid) -> None:
    api = hybrid.stage.site.api()
    path = f"/api/v1/namespaces/{NAMESPACE}"

    def holder() -> str:
        lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/llm-burst-controller")
        return str(lease["spec"].get("holderIdentity") or "")

    def state() -> dict[str, object]:
        data = api.get(f"{path}/configmaps/llm-burst-controller-state")["data"]
        return json.loads(data["state"])["months"]

    first, spent = holder(), state()
    api.delete(f"{path}/pods/{first.rpartition('-')[0]}", gracePeriodSeconds=0)
    eventually("another one leads", lambda: True if holder() not in ("", first) else None, 60.0)
    assert state().keys() >= spent.keys()
    cycle = hybrid.driver.cycle(MAY_SPILL, CLIENTS)
    assert (cycle.counts.lost, cycle.counts.failed) == ([], [])


def test_without_capacity_on_aws_clients_are_told_to_come_back_until_there_is_some(hybrid: Hybrid) -> None:
    script = hybrid.cloud.double.script()
    hybrid.cloud.double.put_script({**script, "shortages": [{"instanceType": "*"}]})
    hybrid.driver.set_speed(Speed(token_s=TOKEN_S, load_s=LOAD_S))
    load = hybrid.driver.load(MAY_SPILL)
    load.add(CLIENTS)
    try:
        eventually(
            "the circuit opens",
            lambda: "circuit open for" in hybrid.driver.ask_controller("/explain")[1] or None,
            120.0,
        )
        assert load.counts.served("spill") == 0
        here = load.counts.served("onprem")
        load.until("on-prem goes on", lambda counts: counts.served("onprem") > here + 20, 60.0, Progress())
        hybrid.cloud.double.put_script(script)
        load.until("capacity is back", lambda counts: counts.served("spill") > 20, 240.0, Progress())
    finally:
        hybrid.cloud.double.put_script(script)
        counts = load.stop()
        hybrid.driver.set_speed(Speed())
    print(counts.words())
    assert (counts.lost, counts.failed) == ([], [])
    hybrid.driver.until_no_node()


def test_while_the_eks_api_is_down_what_runs_there_goes_on_serving(hybrid: Hybrid) -> None:
    record = load_record(hybrid.cloud.site.layout, "kube-apiserver")
    assert record is not None
    hybrid.driver.set_speed(Speed(token_s=TOKEN_S, load_s=LOAD_S))
    load = hybrid.driver.load(MAY_SPILL)
    load.add(CLIENTS)
    try:
        load.until("spilled", lambda counts: counts.served("spill") > 20, 240.0, Progress())
        os.kill(record.identity.pid, signal.SIGSTOP)
        time.sleep(10.0)
        served = load.counts.served("spill")
        load.until("spilled on", lambda counts: counts.served("spill") > served + 20, 60.0, Progress())
    finally:
        os.kill(record.identity.pid, signal.SIGCONT)
        counts = load.stop()
        hybrid.driver.set_speed(Speed())
    print(counts.words())
    assert (counts.lost, counts.failed) == ([], [])
    hybrid.driver.until_no_node()


def test_a_destroy_leaves_nothing_in_the_account_and_nothing_on_the_machine(hybrid: Hybrid) -> None:
    said = hybrid.run("down")
    assert "Nothing is left" in said
    assert "AWS account: nothing" in said


def test_one_command_rehearses_it_all_with_the_real_engine_on_prem(tools: SiteTools, home: Path) -> None:
    del tools
    with Stage.on(f"hyr-{os.getpid() % 10000}", home) as stage:
        said = stage.run("rehearse", "--stack", STACK, "--site", stage.name)
    assert "on-prem vLLM ran a tiny model as Qwen/Qwen3-8B" in said
    assert "0 lost, 0 failed" in said
    assert "Nothing is left" in said
    assert "AWS account: nothing" in said
