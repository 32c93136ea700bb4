"""Who may do what: IAM roles and policies in AWS, roles and bindings in Kubernetes."""

from typing import Final

from policies.documents import statements
from policies.enforcement import ADVISORY_IN_DEV
from policies.frameworks import cis_eks, cis_kubernetes, fsbp, gdpr
from policies.reading import Node, read
from policies.rule import Found, Problem, Resource, Rule, Severity

ROLE: Final = "aws:iam/role:Role"
POLICIES: Final = frozenset({"aws:iam/policy:Policy", "aws:iam/rolePolicy:RolePolicy"})
ATTACHMENT: Final = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"

_RBAC: Final = "kubernetes:rbac.authorization.k8s.io/v1:"
ROLES: Final = frozenset({f"{_RBAC}Role", f"{_RBAC}ClusterRole"})
BINDINGS: Final = frozenset({f"{_RBAC}RoleBinding", f"{_RBAC}ClusterRoleBinding"})

# EC2 hands a role to instances without saying for which account.
_WITHOUT_ACCOUNT: Final = "ec2.amazonaws.com"
_ADMIN: Final = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")
_ESCALATING: Final = frozenset({"escalate", "bind", "impersonate"})


def _check_rights(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == ATTACHMENT:
        arn = root.child("policyArn")
        if arn.text().endswith(_ADMIN):
            yield Problem(f"{arn.path} gives all rights.", "Write a policy with the actions that are needed.")
        return
    if resource.type == ROLE:
        yield from _trust(root.child("assumeRolePolicy"))
        return
    for statement in statements(root.child("policy")):
        if not statement.allows or "*" not in statement.resources:
            continue
        wide = [action for action in statement.actions if action == "*" or action.endswith(":*")]
        if wide:
            yield Problem(
                f"{statement.path} allows {', '.join(wide)} on every resource.",
                "Name the actions, or the resources.",
            )
        if any(action.startswith("sagemaker:InvokeEndpoint") for action in statement.actions):
            yield Problem(f"{statement.path} allows every endpoint to be asked.", "Name the endpoints' ARNs.")


def _trust(document: Node) -> Found:
    for statement in statements(document):
        if not statement.allows:
            continue
        if statement.is_for_everybody:
            yield Problem(f"{statement.path} lets everybody take on the role.", "Name the principal.")
        services = [one for one in statement.principals if one.endswith(".amazonaws.com")]
        if services and _WITHOUT_ACCOUNT not in services and not _names_account(statement.conditions):
            yield Problem(
                f"{statement.path} trusts {', '.join(services)} whoever it acts for.",
                "Add the condition aws:SourceAccount.",
            )


def _names_account(conditions: Node) -> bool:
    keys = [key.lower() for operator in conditions.entries().values() for key in operator.entries()]
    return any(key in {"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid"} for key in keys)


def _check_role(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type in BINDINGS:
        reference = root.child("roleRef", "name")
        if reference.text() == "cluster-admin":
            yield Problem(f"{reference.path} is cluster-admin.", "Bind a role with the rights that it needs.")
        return
    for rule in root.child("rules").items():
        for key in ("apiGroups", "resources", "verbs"):
            if "*" in rule.child(key).texts():
                yield Problem(f"{rule.child(key).path} is *.", "Name what is needed.")
        resources, verbs = rule.child("resources").texts(), set(rule.child("verbs").texts())
        if verbs & _ESCALATING:
            yield Problem(
                f"{rule.path}.verbs has {', '.join(sorted(verbs & _ESCALATING))}, which give any right.",
                "Remove it.",
            )
        if (
            "secrets" in resources
            and verbs & {"get", "list", "watch"}
            and not rule.child("resourceNames").items()
        ):
            yield Problem(f"{rule.path} reads every Secret.", "Name the Secrets in resourceNames.")


LEAST_PRIVILEGE: Final = Rule(
    name="least-privilege",
    description="IAM gives no wildcard rights on everything, and services act for this account only.",
    severity=Severity.HIGH,
    remediation="Name actions, resources and the account.",
    enforcement=ADVISORY_IN_DEV,
    controls=(*fsbp("IAM.1", "IAM.21"), *gdpr(25, 32)),
    check=_check_rights,
    types=POLICIES | {ROLE, ATTACHMENT},
    deferrable=True,
    example=Resource(
        "aws:iam/rolePolicy:RolePolicy",
        "all",
        {"policy": '{"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'},
    ),
)

RBAC_MINIMAL: Final = Rule(
    name="rbac-minimal",
    description="Kubernetes roles have no wildcards, read no Secrets of others and are not cluster-admin.",
    severity=Severity.HIGH,
    remediation="Name groups, resources, verbs and resourceNames.",
    enforcement=ADVISORY_IN_DEV,
    controls=(
        *cis_eks("4.1.1", "4.1.2", "4.1.3", "4.1.8"),
        *cis_kubernetes("5.1.1", "5.1.2", "5.1.3", "5.1.8"),
    ),
    check=_check_role,
    types=ROLES | BINDINGS,
    example=Resource(
        f"{_RBAC}ClusterRole", "all", {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    ),
)
