"""Configuration of containerd and of the kubelet, and the wrapper around runc."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from rehearsal.site import host_program_runtime
from rehearsal.site.certificates import CLUSTER_CA, certificate_file, key_file
from rehearsal.site.cgroups import Hierarchies, pods_cgroup
from rehearsal.site.layout import CLUSTER_DOMAIN, DNS_SERVICE_IP, SiteLayout
from rehearsal.site.network import cni_plugins, program, replace_file

PAUSE_IMAGE = "site.local/pause:1"
SYSTEM_FOLDERS = ("/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc/ssl", "/etc/alternatives")


def containerd_config_file(layout: SiteLayout) -> Path:
    """Where containerd's configuration is."""
    return layout.config / "containerd.toml"


def kubelet_config_file(layout: SiteLayout) -> Path:
    """Where the kubelet's configuration is."""
    return layout.config / "kubelet.yaml"


def wrapper_file(layout: SiteLayout) -> Path:
    """The program that containerd starts in place of runc."""
    return layout.config / "runc-with-host-programs"


def snapshotter(layout: SiteLayout) -> str:
    """Chooses `overlayfs`, or `native` where the state folder's file system cannot carry overlays."""
    overlay_hostile = {"overlay", "nfs", "nfs4", "fuse", "9p", "ecryptfs", "vfat"}
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    mount = next(str(folder) for folder in [layout.state, *layout.state.parents] if str(folder) in kinds)
    return "native" if kinds[mount] in overlay_hostile else "overlayfs"


def render_containerd(layout: SiteLayout, *, plugins: Path, snapshots: str) -> str:
    """Renders containerd's configuration, version 2: read by containerd 1.6 and 1.7, migrated by 2.x.

    Args:
        layout: The site.
        plugins: Folder of the CNI plugins.
        snapshots: Name of the snapshotter.
    """
    quote = json.dumps  # TOML's basic strings are JSON's
    return f"""\
version = 2
root = {quote(str(layout.containerd_root))}
state = {quote(str(layout.run / "containerd"))}
# The first keeps a folder in /opt for programs that nobody here installs; the second (containerd 1.7 and
# newer) would take the machine's own NRI socket; the others belong to snapshotters that are not used and
# only warn.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = {quote(str(layout.containerd_socket))}
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE, as in many containers, the OOM score cannot be lowered; runc dies on trying.
  restrict_oom_score_adj = true
  sandbox_image = {quote(PAUSE_IMAGE)}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {quote(str(plugins))}
    conf_dir = {quote(str(layout.config / "cni"))}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = {quote(snapshots)}
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = {quote(str(wrapper_file(layout)))}
        Root = {quote(str(layout.run / "runc"))}
        SystemdCgroup = false
"""


def render_kubelet(layout: SiteLayout, hierarchies: Hierarchies) -> str:
    """Renders the kubelet's configuration."""
    configuration: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificate_file(layout, CLUSTER_CA))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate_file(layout, "kubelet-server")),
        "tlsPrivateKeyFile": str(key_file(layout, "kubelet-server")),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": pods_cgroup(layout),
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": CLUSTER_DOMAIN,
        # Pods ask the cluster's DNS only; there is no way out of the namespace.
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(layout.pod_logs),
        "volumePluginDir": str(layout.state / "volume-plugins"),
        "evictionHard": {"memory.available": "100Mi"},
        # 100 turns image garbage collection off: images made on the spot cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "healthzBindAddress": "127.0.0.1",
        "registerWithTaints": [],
        "nodeStatusUpdateFrequency": "5s",
    }
    if not hierarchies.unified:
        # The kubelet's own default for v1 would be refused by versions that have dropped support.
        configuration["cgroupsPerQOS"] = True
    return yaml.safe_dump(configuration, sort_keys=True)


def write_container_configuration(
    layout: SiteLayout, hierarchies: Hierarchies, *, host_programs: Sequence[Path], cni: str
) -> None:
    """Writes the files that containerd, its runtime wrapper and the kubelet read.

    Args:
        layout: The site.
        hierarchies: The machine's cgroups.
        host_programs: Folders bound into marked images beside the system's own.
        cni: The rendered CNI configuration.
    """
    bindings = layout.config / "host-programs.json"
    runc = program("runc", "runc")
    folders = [*SYSTEM_FOLDERS, *dict.fromkeys(str(folder) for folder in host_programs)]
    replace_file(bindings, json.dumps({"runc": runc, "folders": folders}, indent=2))
    wrapper = wrapper_file(layout)
    # Most calls are about state and signals: only `create` is worth starting Python for.
    replace_file(
        wrapper,
        "#!/bin/sh\n"
        'for argument in "$@"; do\n'
        '  [ "$argument" = create ] &&\n'
        f"    exec '{sys.executable}' -I -S '{host_program_runtime.__file__}' '{bindings}' \"$@\"\n"
        "done\n"
        f"exec '{runc}' \"$@\"\n",
    )
    wrapper.chmod(0o755)
    replace_file(layout.config / "cni" / "10-site.conflist", cni)
    replace_file(
        containerd_config_file(layout),
        render_containerd(layout, plugins=cni_plugins(), snapshots=snapshotter(layout)),
    )
    replace_file(kubelet_config_file(layout), render_kubelet(layout, hierarchies))
