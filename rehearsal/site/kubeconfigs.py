"""Kubeconfig files: one per component for use inside the site, one for the user on the host."""

import base64
from pathlib import Path

import yaml

from rehearsal.site.certificates import CLUSTER_CA, certificate_file, key_file, write_private
from rehearsal.site.layout import API_PORT, NODE_IP, SiteLayout

COMPONENT_USERS = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kwok",
    "load-balancer",
)


def render_kubeconfig(layout: SiteLayout, user: str, server: str) -> bytes:
    """Renders a kubeconfig with the user's certificate embedded.

    Args:
        layout: The site.
        user: Name of the user's certificate file.
        server: URL of the API server.
    """

    def embedded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    name = layout.netns
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": embedded(certificate_file(layout, CLUSTER_CA)),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": embedded(certificate_file(layout, user)),
                    "client-key-data": embedded(key_file(layout, user)),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def write_component_kubeconfigs(layout: SiteLayout) -> None:
    """Writes the kubeconfig of every component."""
    for user in COMPONENT_USERS:
        text = render_kubeconfig(layout, user, f"https://{NODE_IP}:{API_PORT}")
        write_private(layout.kubeconfig(user), text)


def write_admin_kubeconfig(layout: SiteLayout, host_port: int) -> None:
    """Writes the user's kubeconfig, which reaches the API server at a port of the host's loopback."""
    text = render_kubeconfig(layout, "admin", f"https://127.0.0.1:{host_port}")
    write_private(layout.admin_kubeconfig, text)
