"""What every site has in its API server: the DNS Service and the rights of the site's own users."""

from rehearsal.site.api import Json
from rehearsal.site.layout import API_PORT, DNS_SERVICE_IP, NODE_IP

_RBAC = "rbac.authorization.k8s.io"
Rule = tuple[str, list[str], list[str]]

# Group, resources, verbs: no more than each program asks for, and no secrets for any of them.
ROLES: dict[str, list[Rule]] = {
    "coredns": [
        ("", ["namespaces", "pods", "services"], ["list", "watch"]),
        ("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
    ],
    "kwok": [
        ("", ["nodes"], ["get", "list", "watch", "patch", "update"]),
        ("", ["nodes/status"], ["patch", "update"]),
        ("", ["pods"], ["get", "list", "watch", "patch", "update", "delete"]),
        ("", ["pods/status"], ["patch", "update"]),
        ("", ["events"], ["create", "patch", "update"]),
        ("coordination.k8s.io", ["leases"], ["get", "list", "watch", "create", "patch", "update", "delete"]),
    ],
    "load-balancer": [
        ("", ["services"], ["list", "watch"]),
        ("", ["services/status"], ["patch"]),
    ],
}


def bootstrap_documents() -> list[Json]:
    """Lists the objects, in the order in which they are applied."""
    documents: list[Json] = []
    for user, rules in ROLES.items():
        documents += [
            _cluster_role(f"spillway:{user}", rules),
            _binding(f"spillway:{user}", f"spillway:{user}"),
        ]
    # The API server asks the kubelet for logs and exec.
    documents.append(_binding("spillway:kube-apiserver", "system:kubelet-api-admin"))
    # The name that the API server itself would give it (--endpoint-reconciler-type).
    api_ports: list[Json] = [{"name": "https", "port": API_PORT, "protocol": "TCP"}]
    documents.append(_endpoints("default", "kubernetes", "kubernetes", api_ports))
    ports: list[Json] = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    documents.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
            },
            # No selector: CoreDNS is a process of the node.
            "spec": {"clusterIP": DNS_SERVICE_IP, "ports": ports},
        }
    )
    documents.append(_endpoints("kube-system", "kube-dns", "kube-dns-site", ports))
    return documents


def _endpoints(namespace: str, service: str, name: str, ports: list[Json]) -> Json:
    """Leads a Service to a process of the node."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": True}}],
    }


def _cluster_role(name: str, rules: list[Rule]) -> Json:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [group], "resources": resources, "verbs": verbs}
            for group, resources, verbs in rules
        ],
    }


def _binding(user: str, role: str) -> Json:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
    }
