"""Names, paths and rendered configuration of a site."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from rehearsal.site import cgroups, components, containers, edge
from rehearsal.site.components import render_coredns, render_kube_proxy
from rehearsal.site.layout import NODE_IP, SiteError, SiteLayout, default_home
from rehearsal.site.load_balancer import balanced_ports, ingress_status
from rehearsal.site.manifests import ROLES, bootstrap_documents
from rehearsal.site.network import render_cni

V1 = cgroups.Hierarchies(unified=False, folders=(Path("/sys/fs/cgroup/pids"),))
V2 = cgroups.Hierarchies(unified=True, folders=(Path("/sys/fs/cgroup"),))


@pytest.fixture(name="layout")
def fixture_layout(tmp_path: Path) -> SiteLayout:
    return SiteLayout("probe", tmp_path)


@pytest.mark.parametrize("name", ["", "Local", "1st", "a_b", "a-", "x" * 21, "../up", "a b"])
def test_a_name_that_no_node_could_carry_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="cannot be used"):
        SiteLayout(name, tmp_path)


def test_a_path_too_long_for_sockets_is_refused_with_the_way_out() -> None:
    with pytest.raises(SiteError, match="SPILLWAY_HOME"):
        SiteLayout("local", Path("/" + "x" * 80)).require_short_paths()


def test_home_follows_the_environment() -> None:
    assert default_home({"SPILLWAY_HOME": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a")
    assert default_home({"XDG_STATE_HOME": "/b"}) == Path("/b/spillway")
    assert default_home({}) == Path.home() / ".local/state/spillway"


def test_two_sites_share_no_name_and_no_path(tmp_path: Path) -> None:
    one, other = SiteLayout("one", tmp_path), SiteLayout("other", tmp_path)
    for attribute in ("netns", "cgroup", "cni_network", "node_name", "state", "lock_file"):
        assert getattr(one, attribute) != getattr(other, attribute)


def test_containerd_keeps_everything_below_the_state_folder(layout: SiteLayout) -> None:
    text = containers.render_containerd(layout, plugins=Path("/usr/lib/cni"), snapshots="overlayfs")
    config = tomllib.loads(text)
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    options = cri["containerd"]["runtimes"]["runc"]["options"]
    for path in (
        config["root"],
        config["state"],
        config["grpc"]["address"],
        cri["cni"]["conf_dir"],
        options["Root"],
    ):
        assert Path(path).is_relative_to(layout.state)
    assert cri["netns_mounts_under_state_dir"] is True
    assert cri["restrict_oom_score_adj"] is True


def test_containerd_leaves_the_machines_nri_socket_alone(layout: SiteLayout) -> None:
    config = tomllib.loads(containers.render_containerd(layout, plugins=Path("/x"), snapshots="overlayfs"))
    assert "io.containerd.nri.v1.nri" in config["disabled_plugins"]


def test_a_controller_that_is_not_handed_down_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory")
    (tmp_path / "cgroup.subtree_control").write_text("cpu")
    delegate = cgroups._delegate  # pyright: ignore[reportPrivateUsage]
    written: list[str] = []

    def refuse(_: Path, text: str) -> int:
        written.append(text)
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(SiteError, match=r"'memory' down from .*busy"):
        delegate(tmp_path)
    assert written == ["+io", "+memory"], "what is handed down already is left alone"


def test_a_home_behind_a_link_is_the_same_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert SiteLayout("probe", tmp_path / "link") == SiteLayout("probe", tmp_path / "real")


def test_etcd_writes_its_data_through_to_the_disk(
    layout: SiteLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tools:
        python = tmp_path

        def path(self, name: str) -> Path:
            return tmp_path / name

        folder = path

    def program(name: str, _: str) -> str:
        return name

    monkeypatch.setattr(components, "program", program)
    etcd = components.site_components(layout, Tools(), api_port=21001)[0]
    assert etcd.name == "etcd"
    assert not [argument for argument in etcd.command if "fsync" in argument]


def test_the_kubelet_asks_the_api_server_who_may_do_what(layout: SiteLayout) -> None:
    config = yaml.safe_load(containers.render_kubelet(layout, V1))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["cgroupRoot"] == "/spillway-probe/pods"
    assert Path(config["podLogsDir"]).is_relative_to(layout.state)
    assert config["imageGCHighThresholdPercent"] == 100


def test_pods_get_addresses_from_the_state_folder(layout: SiteLayout) -> None:
    config = json.loads(render_cni(layout))
    assert config["name"] == "spillway-probe"
    assert Path(config["plugins"][0]["ipam"]["dataDir"]).is_relative_to(layout.state)


def test_kube_proxy_leaves_the_machines_connection_table_alone(layout: SiteLayout) -> None:
    config = yaml.safe_load(render_kube_proxy(layout))
    assert config["mode"] == "nftables"
    assert set(config["conntrack"].values()) == {0, "0s"}


def test_coredns_uses_the_context_of_its_kubeconfig(layout: SiteLayout) -> None:
    assert f"kubeconfig {layout.kubeconfig('coredns')} spillway-probe" in render_coredns(layout)


def test_cgroup_versions_are_told_apart() -> None:
    v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
    v1 = "".join(
        f"cgroup /sys/fs/cgroup/{name} cgroup rw,{name} 0 0\n"
        for name in ("cpu,cpuacct", "cpuset", "memory", "pids")
    )
    assert cgroups.detect(v2, "cpuset cpu io memory hugetlb pids").unified
    with pytest.raises(SiteError, match="offers no cpuset, memory"):
        cgroups.detect(v2, "cpu io pids")
    assert not cgroups.detect(v1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n").unified
    with pytest.raises(SiteError, match="memory"):
        cgroups.detect(v1.replace("memory", "misc"))


def test_components_keep_their_memory_account_with_cgroup_v1(layout: SiteLayout) -> None:
    assert [str(path) for path in cgroups.component_files(layout, V1)] == [
        "/sys/fs/cgroup/pids/spillway-probe/components/cgroup.procs"
    ]
    assert len(cgroups.component_files(layout, V2)) == 1


def test_the_edge_listens_on_the_hosts_loopback_only(layout: SiteLayout) -> None:
    forwards = [edge.api_forward(21001), edge.Forward("a/b/80", 21002, "10.0.0.9", 30080)]
    listeners = json.loads(edge.render_listeners(layout, forwards))["resources"]
    addresses = [listener["address"]["socket_address"] for listener in listeners]
    assert {address["address"] for address in addresses} == {"127.0.0.1"}
    assert {address["network_namespace_filepath"] for address in addresses} == {str(layout.host_netns_path)}
    assert not any(listener["enable_reuse_port"] for listener in listeners)
    filters = [listener["filter_chains"][0]["filters"][0]["typed_config"] for listener in listeners]
    assert {one["idle_timeout"] for one in filters} == {"0s"}
    clusters = json.loads(edge.render_clusters(forwards))["resources"]
    assert {one["cluster"] for one in filters} == {cluster["name"] for cluster in clusters}


def test_no_role_of_the_site_reads_secrets() -> None:
    for rules in ROLES.values():
        for _, resources, verbs in rules:
            assert "secrets" not in resources
            assert "*" not in [*resources, *verbs]


def test_every_bootstrap_document_has_a_name_and_a_kind() -> None:
    documents = bootstrap_documents()
    identities = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(identities)) == len(identities)


def test_a_site_of_a_cloud_runs_no_model_even_in_an_image_of_its_own() -> None:
    def conditions(*, runs_models: bool) -> list[object]:
        (policy,) = (
            document
            for document in bootstrap_documents(runs_models=runs_models)
            if document["kind"] == "MutatingAdmissionPolicy"
        )
        return policy["spec"].get("matchConditions", [])

    assert conditions(runs_models=True)
    assert conditions(runs_models=False) == []


def test_private_ports_are_in_the_sites_own_namespace_and_never_on_the_host(tmp_path: Path) -> None:
    layout = SiteLayout("probe", tmp_path)
    assert edge.private_forwards(layout) == []
    edge.write_private_ports(layout, {443: 30443, 80: 30080})
    forwards = edge.private_forwards(layout)
    assert [(forward.host_port, forward.address, forward.port) for forward in forwards] == [
        (443, NODE_IP, 30443),
        (80, NODE_IP, 30080),
    ]
    listeners = json.loads(edge.render_listeners(layout, forwards))["resources"]
    for listener in listeners:
        assert "network_namespace_filepath" not in listener["address"]["socket_address"]


def service(**spec: object) -> dict[str, object]:
    ports = [{"port": 80, "nodePort": 30080}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]
    return {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.1.1", "ports": ports, **spec},
    }


def test_the_load_balancer_serves_tcp_ports_of_services_without_a_class() -> None:
    [port] = balanced_ports([service()])
    assert (port.key, port.address, port.target_port) == ("default/web/80", "10.0.0.9", 30080)
    assert balanced_ports([service(type="ClusterIP"), service(loadBalancerClass="other.example/lb")]) == []


def test_without_a_node_port_the_cluster_address_is_dialled() -> None:
    [port] = balanced_ports([service(ports=[{"port": 80}])])
    assert (port.address, port.target_port) == ("10.96.1.1", 80)


def test_the_status_says_where_the_service_is_reached() -> None:
    [ingress] = ingress_status([21002])["loadBalancer"]["ingress"]
    assert ingress == {"hostname": "localhost", "ports": [{"port": 21002, "protocol": "TCP"}]}
    assert ingress_status([]) == {"loadBalancer": {}}
