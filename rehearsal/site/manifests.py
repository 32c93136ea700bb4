"""What every site has in its API server: DNS, the rights of its own users, and where models may run."""

from rehearsal.site.api import Json
from rehearsal.site.layout import API_PORT, DNS_SERVICE_IP, NODE_IP, SITE_IMAGES
from rehearsal.site.simulated_nodes import SELECTOR_LABEL, SELECTOR_VALUE, SIMULATED_TAINT
from runtime.labels import MODEL_LABEL

ADMISSION_API = "admissionregistration.k8s.io/v1beta1"
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
    "simulated-engines": [
        ("", ["pods"], ["list"]),
    ],
    "load-balancer": [
        ("", ["services"], ["list", "watch"]),
        ("", ["services/status"], ["patch"]),
    ],
}


def bootstrap_documents(*, runs_models: bool = True) -> list[Json]:
    """Lists the objects, in the order in which they are applied.

    Args:
        runs_models: Whether pods of models whose image is the site's own run for real.
    """
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
    return documents + _placement_on_simulated_nodes(runs_models=runs_models)


def _placement_on_simulated_nodes(*, runs_models: bool) -> list[Json]:
    """Sends the pods of models that this site cannot run to the simulated nodes.

    A model whose image is the site's own runs for real. Any other image is not here, nor is its hardware:
    its pods, the Ray head too, belong on simulated nodes. The stack's objects stay as they are rendered. A
    claim with the weights is the user's own and not here either; nothing reads them, so it becomes a folder.
    """
    key, value = SIMULATED_TAINT
    toleration = (
        f"Object.spec.tolerations{{key: '{key}', operator: 'Equal', value: '{value}', effect: 'NoSchedule'}}"
    )
    expression = f"""
      [has(object.spec.tolerations)
        ? JSONPatch{{op: "add", path: "/spec/tolerations/-", value: {toleration}}}
        : JSONPatch{{op: "add", path: "/spec/tolerations", value: [{toleration}]}},
       has(object.spec.nodeSelector)
        ? JSONPatch{{op: "add", path: "/spec/nodeSelector/{SELECTOR_LABEL}", value: "{SELECTOR_VALUE}"}}
        : JSONPatch{{op: "add", path: "/spec/nodeSelector",
                    value: {{"{SELECTOR_LABEL}": "{SELECTOR_VALUE}"}}}}]
       + (has(object.spec.volumes)
        ? [JSONPatch{{op: "replace", path: "/spec/volumes", value: object.spec.volumes.map(volume,
             has(volume.persistentVolumeClaim)
               ? dyn({{"name": dyn(volume.name), "emptyDir": dyn({{}})}})
               : dyn(volume))}}]
        : [])"""
    name = "spillway-simulated-nodes"
    pods: Json = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy: Json = {
        "apiVersion": ADMISSION_API,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "reinvocationPolicy": "Never",
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [pods],
                "objectSelector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]},
            },
            "matchConditions": [
                {
                    "name": "not-an-image-of-the-site",
                    "expression": f"!object.spec.containers.exists(c, c.image.startsWith('{SITE_IMAGES}'))",
                }
            ],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }
    if not runs_models:
        del policy["spec"]["matchConditions"]
    binding: Json = {
        "apiVersion": ADMISSION_API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    return [policy, binding]


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
