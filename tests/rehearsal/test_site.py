"""The embedded site, for real: a cluster is started, used, damaged, repaired and removed."""

import http.client
import io
import multiprocessing
import os
import signal
import ssl
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.site import Site, cgroups
from rehearsal.site.api import ApiError, Json, object_path
from rehearsal.site.certificates import CLUSTER_CA, certificate_file
from rehearsal.site.components import COMPONENTS
from rehearsal.site.edge import API_KEY, active_ports
from rehearsal.site.network import NetworkNamespace
from rehearsal.site.processes import end, find_site_processes, load_record
from rehearsal.site.teardown import look
from rehearsal.site.toolbox import SiteTools
from runtime.ops.progress import Progress
from tests.rehearsal.conftest import Cluster, eventually, fetch, restricted_namespace, restricted_pod

pytestmark = pytest.mark.rehearsal

NAMESPACE = "probe"
# Two clones may run these tests at once: what a site has once per machine carries its name.
SITE = f"probe-{os.getpid()}"
SERVER = ["python", "-u", "-m", "http.server", "8080", "--directory", "/models"]


def quiet() -> Progress:
    return Progress(io.StringIO())


def pid_of(site: Site, component: str) -> int:
    record = load_record(site.layout, component)
    assert record is not None
    assert record.identity.running()
    return record.identity.pid


@pytest.fixture(scope="module", name="cluster")
def fixture_cluster(tools: SiteTools, home: Path) -> Generator[Cluster]:
    site = Site(SITE, home)
    try:
        site.start(tools, Progress())
        cluster = Cluster(site)
        cluster.api.apply(restricted_namespace(NAMESPACE))
        probe = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
        account = object_path("v1", "ServiceAccount", NAMESPACE, "default")

        def admitted() -> Json | None:
            try:
                cluster.api.get(account)
            except ApiError:
                return None
            return cluster.api.apply(restricted_pod(NAMESPACE, "web", SERVER, readinessProbe=probe))

        eventually("a service account for the pods", admitted)
        cluster.when_ready(NAMESPACE, "web")
        yield cluster
    finally:
        left = site.stop(quiet())
        assert not left, left.lines()


def test_every_component_is_well(cluster: Cluster, tools: SiteTools) -> None:
    status = cluster.site.status(tools)
    assert {component.component: component.problem for component in status.components} == dict.fromkeys(
        COMPONENTS
    )
    assert status.healthy


def test_starting_again_changes_nothing(cluster: Cluster, tools: SiteTools) -> None:
    before = {name: pid_of(cluster.site, name) for name in COMPONENTS}
    started = time.monotonic()
    cluster.site.start(tools, quiet())
    assert {name: pid_of(cluster.site, name) for name in COMPONENTS} == before
    assert time.monotonic() - started < 15


def test_a_pod_runs_as_an_ordinary_user_with_nothing_allowed(cluster: Cluster) -> None:
    status = cluster.run_in(
        NAMESPACE, "web", ["sh", "-c", "id -u; grep -E 'CapEff|^Seccomp:' /proc/1/status"]
    )
    assert status.split() == ["1000", "CapEff:", "0000000000000000", "Seccomp:", "2"]
    assert "Read-only" in cluster.run_in(NAMESPACE, "web", ["sh", "-c", "touch /x /usr/x 2>&1"])


def test_the_probe_is_in_the_pods_log(cluster: Cluster) -> None:
    assert "GET / HTTP/1.1" in eventually("a line", lambda: cluster.logs(NAMESPACE, "web") or None)


def test_a_pod_above_the_restricted_level_is_refused(cluster: Cluster) -> None:
    pod = restricted_pod(NAMESPACE, "rude", ["sleep", "60"])
    del pod["spec"]["securityContext"]
    with pytest.raises(ApiError, match="PodSecurity"):
        cluster.api.apply(pod)


def test_pods_find_services_and_the_api_server_by_name(cluster: Cluster) -> None:
    code = (
        "import socket, time\n"
        "print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))\n"
        "print(socket.create_connection(('kubernetes.default', 443), 5).getpeername()[1])\n"
        "started = time.monotonic()\n"
        "try: socket.gethostbyname('example.com')\n"
        "except socket.gaierror as error: print(error.errno == socket.EAI_NONAME)\n"
        # A resolver without an answer waits for five seconds before it asks again.
        "print(time.monotonic() - started < 5)\n"
    )
    printed = cluster.run_in(NAMESPACE, "web", ["python", "-c", code])
    assert printed.split() == ["10.96.0.1", "443", "True", "True"]


def test_a_load_balancer_service_answers_on_the_hosts_loopback(cluster: Cluster) -> None:
    path = object_path("v1", "Service", NAMESPACE, "edge")
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": NAMESPACE, "name": "edge"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }

    def published() -> int | None:
        ingress = cluster.api.get(path)["status"].get("loadBalancer", {}).get("ingress")
        return ingress[0]["ports"][0]["port"] if ingress else None

    def answered(port: int) -> str | None:
        try:
            text = fetch(port)
        except OSError:
            return None
        return text if "spillway-tiny" in text else None

    cluster.api.apply(service)
    port = eventually("an address", published)
    eventually("an answer", lambda: answered(port))
    cluster.api.delete(path)
    key = f"{NAMESPACE}/edge/80"
    eventually("the port is closed", lambda: key not in active_ports(cluster.site.layout) or None)
    cluster.api.apply(service)
    assert eventually("an address", published) == port, "a Service keeps its port"
    eventually("an answer", lambda: answered(port))


def test_two_pods_talk_through_a_service(cluster: Cluster) -> None:
    cluster.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": NAMESPACE, "name": "inner"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }
    )
    cluster.api.apply(restricted_pod(NAMESPACE, "client", ["sleep", "600"]))
    cluster.when_ready(NAMESPACE, "client")
    ask = ["wget", "-q", "-T", "5", "-O-", "http://inner.probe.svc/"]
    eventually("an answer", lambda: "spillway-tiny" in cluster.run_in(NAMESPACE, "client", ask) or None)
    to_itself = ["wget", "-q", "-T", "5", "-O-", "http://inner/"]
    assert "spillway-tiny" in cluster.run_in(NAMESPACE, "web", to_itself)


def test_a_gpu_pod_lands_on_a_simulated_node_only(cluster: Cluster) -> None:
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
    toleration = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    nodes: set[str] = set()
    for number in range(2):
        name = f"gpu-{number}"
        cluster.api.apply(restricted_pod(NAMESPACE, name, ["sleep", "60"], tolerations=toleration, **gpus))
        nodes.add(cluster.when_ready(NAMESPACE, name)["spec"]["nodeName"])
    assert nodes == {f"{SITE}-gpu-h100-0", f"{SITE}-gpu-h100-1"}
    cluster.api.apply(restricted_pod(NAMESPACE, "gpu-2", ["sleep", "60"], tolerations=toleration, **gpus))

    def unschedulable() -> bool | None:
        conditions: list[Json] = cluster.pod(NAMESPACE, "gpu-2")["status"].get("conditions", [])
        return any(one.get("reason") == "Unschedulable" for one in conditions) or None

    eventually("no room for a third", unschedulable)
    for number in range(3):
        cluster.api.delete(object_path("v1", "Pod", NAMESPACE, f"gpu-{number}"))


def test_the_sites_own_users_can_do_their_work_and_no_more(cluster: Cluster) -> None:
    secrets = object_path("v1", "Secret", "kube-system")
    for user in ("kwok", "coredns", "load-balancer", "kube-proxy", "kube-apiserver-kubelet-client"):
        assert cluster.refusal(user, "GET", secrets) == http.client.FORBIDDEN, user
    assert cluster.refusal("kwok", "GET", object_path("v1", "Node", None)) == http.client.OK
    assert cluster.refusal("coredns", "GET", object_path("v1", "Node", None)) == http.client.FORBIDDEN
    assert (
        cluster.refusal("load-balancer", "GET", object_path("v1", "Pod", "default")) == http.client.FORBIDDEN
    )
    simulated = object_path("v1", "Node", None, f"{SITE}-gpu-h100-0")
    assert cluster.refusal("kubelet", "DELETE", simulated) == http.client.FORBIDDEN


def test_nobody_gets_in_without_a_certificate(cluster: Cluster) -> None:
    tls = ssl.create_default_context(cafile=str(certificate_file(cluster.site.layout, CLUSTER_CA)))
    port = active_ports(cluster.site.layout)[API_KEY]
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=60)
    connection.request("GET", "/api/v1/secrets")
    assert connection.getresponse().status == http.client.UNAUTHORIZED
    connection.close()


def service_reached(cluster: Cluster) -> bool:
    code = "import socket; print(socket.create_connection(('kubernetes.default', 443), 5).getpeername()[1])"
    return cluster.run_in(NAMESPACE, "web", ["python", "-c", code]).strip() == "443"


def test_services_answer_when_endpoints_went_away_just_before_kube_proxy_ended(
    cluster: Cluster, tools: SiteTools
) -> None:
    path = object_path("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes")
    saved = cluster.api.get(path)
    cluster.api.delete(path)
    time.sleep(0.7)  # for kube-proxy to empty the chain, but not to remove it
    os.kill(pid_of(cluster.site, "kube-proxy"), signal.SIGKILL)
    restored = {key: saved[key] for key in ("apiVersion", "kind", "addressType", "ports", "endpoints")}
    restored["metadata"] = {key: saved["metadata"][key] for key in ("name", "namespace", "labels")}
    cluster.api.apply(restored)
    cluster.site.start(tools, quiet())
    assert eventually("the API server's Service", lambda: service_reached(cluster) or None)


def test_a_killed_api_server_comes_back_with_its_data(cluster: Cluster, tools: SiteTools) -> None:
    os.kill(pid_of(cluster.site, "kube-apiserver"), signal.SIGKILL)
    assert not cluster.site.status(tools).healthy
    cluster.site.start(tools, quiet())
    assert cluster.site.status(tools).healthy
    assert cluster.pod(NAMESPACE, "web")["status"]["phase"] == "Running"
    assert service_reached(cluster)


def test_containers_outlive_containerd_and_the_kubelet(cluster: Cluster, tools: SiteTools) -> None:
    before = cluster.when_ready(NAMESPACE, "web")["status"]["containerStatuses"][0]["containerID"]
    for component in ("containerd", "kubelet", "kube-proxy", "envoy", "load-balancer"):
        os.kill(pid_of(cluster.site, component), signal.SIGKILL)
    cluster.site.start(tools, quiet())
    after = cluster.when_ready(NAMESPACE, "web")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before, 0)

    def still_here() -> bool | None:
        try:
            return cluster.run_in(NAMESPACE, "web", ["echo", "still here"]).strip() == "still here"
        except ConnectionRefusedError:
            return None  # a kubelet that has just started reads its pods first

    assert eventually("exec", still_here)


def crash(site: Site) -> None:
    """Leaves what a machine leaves that lost its power: files, and nothing that runs."""
    layout = site.layout
    found = find_site_processes(
        layout,
        netns_inodes=frozenset({NetworkNamespace(layout).inode() or 0}),
        cgroup_pids=cgroups.processes(layout),
    )
    assert end([process.identity for process in found], grace_s=0.0) == []
    NetworkNamespace(layout).delete()
    cgroups.remove(layout)
    (layout.run / "boot").write_text("the boot before")


def start_in_child(name: str, home: Path, tools: SiteTools) -> None:
    Site(name, home).start(tools, quiet())


def test_an_interrupted_start_goes_on_and_data_is_kept_on_request(tools: SiteTools, home: Path) -> None:
    site = Site(f"{SITE}-2", home)
    config_map: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kept", "namespace": "default"},
        "data": {"a": "b"},
    }
    try:
        child = multiprocessing.get_context("fork").Process(
            target=start_in_child, args=(site.layout.name, home, tools)
        )
        child.start()
        eventually("the API server was started", lambda: load_record(site.layout, "kube-apiserver"))
        child.kill()
        child.join()
        site.start(tools, quiet())
        site.api().apply(config_map)
        assert not site.stop(quiet(), keep_data=True)
        site.start(tools, quiet())
        kept = site.api().get(object_path("v1", "ConfigMap", "default", "kept"))
        assert kept["data"] == {"a": "b"}
        cluster = Cluster(site)
        cluster.api.apply(restricted_pod("default", "web", SERVER))
        cluster.when_ready("default", "web")
        crash(site)
        site.start(tools, quiet())
        assert site.status(tools).healthy

        def restarted() -> bool | None:
            [container] = cluster.pod("default", "web")["status"]["containerStatuses"]
            return (container["restartCount"] > 0 and container["ready"]) or None

        eventually("the pod runs again", restarted)
        assert site.api().get(object_path("v1", "ConfigMap", "default", "kept"))["data"] == {"a": "b"}
        for component in COMPONENTS:
            os.kill(pid_of(site, component), signal.SIGKILL)
    finally:
        left = site.stop(quiet())
    assert not left, left.lines()
    assert not look(site.layout)
    assert not site.layout.state.exists()
