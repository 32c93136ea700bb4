"""What moto lacks of the AWS APIs that the hybrid scenario reads and calls, added to it in this process.

Two tables say what is added and what is replaced; a test fails when moto gains one of them, so that it can
go from here. Add-ons, access entries and pod identities hang on moto's cluster object, so that they go with
the cluster and are kept with it.
"""

# moto gives no types.
# pyright: basic, reportPrivateUsage=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import inspect
import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.budgets.models import Budget
from moto.budgets.responses import BudgetsResponse
from moto.core.base_backend import AccountSpecificBackend
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.eks import urls as eks_urls
from moto.eks import utils as eks_utils
from moto.eks.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from moto.eks.responses import EKSResponse
from moto.servicequotas.responses import ServiceQuotasResponse

from rehearsal.aws import hosting_shim, node_groups
from rehearsal.aws.capacity import ClusterApi, Script
from rehearsal.aws.instance_types import QUOTAS

KUBERNETES_VERSIONS = ("1.33", "1.34")
"""What DescribeClusterVersions lists, the newest last; moto's own default is 1.19."""

_ROUTES = (
    "addons",
    "addons/(?P<addonName>[^/]+)",
    "addons/(?P<addonName>[^/]+)/update",
    "access-entries",
    "access-entries/(?P<principalArn>.+)",
    "access-entries/(?P<principalArn>.+)/access-policies",
    "access-entries/(?P<principalArn>.+)/access-policies/(?P<policyArn>.+)",
    "pod-identity-associations",
    "pod-identity-associations/(?P<associationId>[^/]+)",
    "updates",
    "updates/(?P<updateId>[^/]+)",
    "node-groups/(?P<nodegroupName>[^/]+)/update-version",
)

_script: Callable[[], Script] = Script


# EKS: add-ons ------------------------------------------------------------------------------------


def _cluster(self: EKSResponse) -> Any:
    """The cluster that the call names, with the places for what hangs on it."""
    cluster: Any = self.eks_backend.describe_cluster(name=self._get_param("name"))
    for place in ("addons", "access_entries", "pod_identities", "updates"):
        if not hasattr(cluster, place):
            setattr(cluster, place, {})
    return cluster


def _arn(self: EKSResponse, kind: str, cluster: str, *rest: str) -> str:
    return f"arn:aws:eks:{self.region}:{self.current_account}:{kind}/{'/'.join([cluster, *rest])}"


def _given(self: EKSResponse, *names: str) -> dict[str, Any]:
    """The parameters of the call that are set."""
    values = {name: self._get_param(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _one(of: dict[str, Any], key: str, what: str) -> Any:
    if key not in of:
        raise ResourceNotFoundException(
            clusterName=None,
            nodegroupName=None,
            fargateProfileName=None,
            addonName=None,
            message=f"No {what} found for: {key}.",
        )
    return of[key]


def _new(of: dict[str, Any], key: str, what: str, cluster: str) -> None:
    if key in of:
        raise ResourceInUseException(
            clusterName=cluster,
            nodegroupName=None,
            addonName=None,
            message=f"The {what} {key} already exists in cluster {cluster}.",
        )


def _updated(cluster: Any, kind: str) -> ActionResult:
    update = {
        "id": str(uuid.uuid4()),
        "status": "Successful",
        "type": kind,
        "params": [],
        "createdAt": datetime.now(UTC),
        "errors": [],
    }
    if not hasattr(cluster, "updates"):
        cluster.updates = {}
    cluster.updates[update["id"]] = update
    return ActionResult({"update": update})


_ADDON = ("addonVersion", "serviceAccountRoleArn", "configurationValues", "namespaceConfig")


def _create_addon(self: EKSResponse) -> ActionResult:
    cluster, name = _cluster(self), self._get_param("addonName")
    _new(cluster.addons, name, "add-on", cluster.name)
    cluster.addons[name] = {
        "addonName": name,
        "clusterName": cluster.name,
        "status": "ACTIVE",
        "addonVersion": "v1.0.0-eksbuild.1",
        "health": {"issues": []},
        "addonArn": _arn(self, "addon", cluster.name, name, str(uuid.uuid4())),
        "createdAt": datetime.now(UTC),
        "modifiedAt": datetime.now(UTC),
        "tags": self._get_param("tags") or {},
        **_given(self, *_ADDON),
    }
    return ActionResult({"addon": cluster.addons[name]})


def _describe_addon(self: EKSResponse) -> ActionResult:
    return ActionResult({"addon": _one(_cluster(self).addons, self._get_param("addonName"), "add-on")})


def _update_addon(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    addon = _one(cluster.addons, self._get_param("addonName"), "add-on")
    addon.update(_given(self, *_ADDON), modifiedAt=datetime.now(UTC))
    return _updated(cluster, "AddonUpdate")


def _delete_addon(self: EKSResponse) -> ActionResult:
    cluster, name = _cluster(self), self._get_param("addonName")
    addon = _one(cluster.addons, name, "add-on")
    del cluster.addons[name]
    return ActionResult({"addon": addon})


def _list_addons(self: EKSResponse) -> ActionResult:
    return ActionResult({"addons": list(_cluster(self).addons)})


# EKS: access -------------------------------------------------------------------------------------

_ENTRY = ("kubernetesGroups", "username")


def _create_access_entry(self: EKSResponse) -> ActionResult:
    cluster, principal = _cluster(self), self._get_param("principalArn")
    _new(cluster.access_entries, principal, "access entry", cluster.name)
    cluster.access_entries[principal] = {
        "clusterName": cluster.name,
        "principalArn": principal,
        "kubernetesGroups": [],
        "username": principal,
        "type": self._get_param("type") or "STANDARD",
        "accessEntryArn": _arn(self, "access-entry", cluster.name, "role", str(uuid.uuid4())),
        "createdAt": datetime.now(UTC),
        "modifiedAt": datetime.now(UTC),
        "tags": self._get_param("tags") or {},
        **_given(self, *_ENTRY),
        "policies": {},
    }
    return ActionResult({"accessEntry": cluster.access_entries[principal]})


def _entry(self: EKSResponse) -> Any:
    return _one(_cluster(self).access_entries, self._get_param("principalArn"), "access entry")


def _describe_access_entry(self: EKSResponse) -> ActionResult:
    return ActionResult({"accessEntry": _entry(self)})


def _update_access_entry(self: EKSResponse) -> ActionResult:
    entry = _entry(self)
    entry.update(_given(self, *_ENTRY), modifiedAt=datetime.now(UTC))
    return ActionResult({"accessEntry": entry})


def _delete_access_entry(self: EKSResponse) -> ActionResult:
    _entry(self)
    del _cluster(self).access_entries[self._get_param("principalArn")]
    return EmptyResult()


def _list_access_entries(self: EKSResponse) -> ActionResult:
    return ActionResult({"accessEntries": list(_cluster(self).access_entries)})


def _associate_access_policy(self: EKSResponse) -> ActionResult:
    entry, policy = _entry(self), self._get_param("policyArn")
    entry["policies"][policy] = {
        "policyArn": policy,
        "accessScope": self._get_param("accessScope"),
        "associatedAt": datetime.now(UTC),
        "modifiedAt": datetime.now(UTC),
    }
    return ActionResult(
        {
            "clusterName": entry["clusterName"],
            "principalArn": entry["principalArn"],
            "associatedAccessPolicy": entry["policies"][policy],
        }
    )


def _disassociate_access_policy(self: EKSResponse) -> ActionResult:
    entry, policy = _entry(self), self._get_param("policyArn")
    _one(entry["policies"], policy, "associated access policy")
    del entry["policies"][policy]
    return EmptyResult()


def _list_associated_access_policies(self: EKSResponse) -> ActionResult:
    entry = _entry(self)
    return ActionResult(
        {
            "clusterName": entry["clusterName"],
            "principalArn": entry["principalArn"],
            "associatedAccessPolicies": list(entry["policies"].values()),
        }
    )


# EKS: pod identity -------------------------------------------------------------------------------


def _create_pod_identity_association(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    namespace, account = self._get_param("namespace"), self._get_param("serviceAccount")
    taken = {f"{a['namespace']}/{a['serviceAccount']}": a for a in cluster.pod_identities.values()}
    _new(taken, f"{namespace}/{account}", "pod identity association", cluster.name)
    identity = f"a-{uuid.uuid4().hex[:17]}"
    cluster.pod_identities[identity] = {
        "clusterName": cluster.name,
        "namespace": namespace,
        "serviceAccount": account,
        "roleArn": self._get_param("roleArn"),
        "associationId": identity,
        "associationArn": _arn(self, "podidentityassociation", cluster.name, identity),
        "tags": self._get_param("tags") or {},
        "createdAt": datetime.now(UTC),
        "modifiedAt": datetime.now(UTC),
        **_given(self, "targetRoleArn", "disableSessionTags"),
    }
    return ActionResult({"association": cluster.pod_identities[identity]})


def _identity(self: EKSResponse) -> Any:
    what = "pod identity association"
    return _one(_cluster(self).pod_identities, self._get_param("associationId"), what)


def _describe_pod_identity_association(self: EKSResponse) -> ActionResult:
    return ActionResult({"association": _identity(self)})


def _update_pod_identity_association(self: EKSResponse) -> ActionResult:
    identity = _identity(self)
    identity.update(_given(self, "roleArn", "targetRoleArn", "disableSessionTags"))
    return ActionResult({"association": identity})


def _delete_pod_identity_association(self: EKSResponse) -> ActionResult:
    identity = _identity(self)
    del _cluster(self).pod_identities[identity["associationId"]]
    return ActionResult({"association": identity})


def _list_pod_identity_associations(self: EKSResponse) -> ActionResult:
    return ActionResult({"associations": list(_cluster(self).pod_identities.values())})


# EKS: clusters, node groups and updates ----------------------------------------------------------


def _describe_update(self: EKSResponse) -> ActionResult:
    return ActionResult({"update": _one(_cluster(self).updates, self._get_param("updateId"), "update")})


def _update_cluster_version(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    cluster.version = self._get_param("version")
    return _updated(cluster, "VersionUpdate")


def _update_nodegroup_version(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    group = self.eks_backend.describe_nodegroup(
        cluster_name=cluster.name, nodegroup_name=self._get_param("nodegroupName")
    )
    for name in ("version", "release_version", "launch_template"):
        parameter = re.sub("_(.)", lambda match: match[1].upper(), name)
        if self._get_param(parameter):
            setattr(group, name, self._get_param(parameter))
    return _updated(cluster, "VersionUpdate")


def _describe_cluster_versions(_: EKSResponse) -> ActionResult:
    newest = KUBERNETES_VERSIONS[-1]
    return ActionResult(
        {
            "clusterVersions": [
                {
                    "clusterVersion": version,
                    "clusterType": "eks",
                    "defaultVersion": version == newest,
                    "status": "standard-support",
                    "versionStatus": "STANDARD_SUPPORT",
                }
                for version in KUBERNETES_VERSIONS
            ]
        }
    )


def _create_cluster(self: EKSResponse) -> ActionResult:
    result = _moto_create_cluster(self)
    cluster: Any = result.result["cluster"]
    if not self._get_param("version"):
        cluster.version = KUBERNETES_VERSIONS[-1]
    identity = uuid.uuid4().hex.upper()
    cluster.identity = {"oidc": {"issuer": f"https://oidc.eks.{self.region}.amazonaws.com/id/{identity}"}}
    cluster.access_config = self._get_param("accessConfig") or {"authenticationMode": "CONFIG_MAP"}
    cluster.upgrade_policy = self._get_param("upgradePolicy") or {"supportType": "EXTENDED"}
    cluster.deletion_protection = bool(self._get_param("deletionProtection"))
    _place(self, cluster)
    return _reached(cluster)


def _describe_cluster(self: EKSResponse) -> ActionResult:
    return _reached(_moto_describe_cluster(self).result["cluster"])


def _place(self: EKSResponse, cluster: Any) -> None:
    """The VPC of the subnets, and the security group that EKS makes in it."""
    ec2 = ec2_backends[self.current_account][self.region]
    config = cluster.resources_vpc_config
    subnets = ec2.describe_subnets(subnet_ids=list(config["subnetIds"]))
    config["vpcId"] = subnets[0].vpc_id
    name = f"eks-cluster-sg-{cluster.name}-{uuid.uuid4().hex[:9]}"
    group = ec2.create_security_group(name, "EKS created security group", vpc_id=config["vpcId"])
    config["clusterSecurityGroupId"] = group.id


def _reached(cluster: Any) -> ActionResult:
    """Names the API of the embedded site, if there is one."""
    api: ClusterApi | None = _script().cluster_api
    if api is not None:
        cluster.endpoint = api.endpoint
        cluster.certificate_authority = {"data": api.certificate_authority}
    return ActionResult({"cluster": cluster})


def _update_cluster_config(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    vpc = self._get_param("resourcesVpcConfig")
    if vpc:
        # moto would forget what the call leaves out.
        cluster.resources_vpc_config.update(vpc)
    for name in ("logging", "accessConfig", "upgradePolicy", "deletionProtection"):
        if self._get_param(name) is not None:
            setattr(cluster, re.sub("([A-Z])", lambda m: f"_{m[1].lower()}", name), self._get_param(name))
    return _updated(cluster, "ConfigUpdate")


def _delete_cluster(self: EKSResponse) -> ActionResult:
    cluster = _cluster(self)
    if getattr(cluster, "deletion_protection", False):
        raise InvalidRequestException(
            message=f"Cluster {cluster.name} has deletion protection; turn it off first."
        )
    result = _moto_delete_cluster(self)
    group = cluster.resources_vpc_config.get("clusterSecurityGroupId")
    ec2_backends[self.current_account][self.region].delete_security_group(group_id=group)
    return result


def _create_nodegroup(self: EKSResponse) -> ActionResult:
    _check_sizes(self._get_param("scalingConfig") or {})
    result = _moto_create_nodegroup(self)
    group: Any = result.result["nodegroup"]
    cluster = _cluster(self)
    if not self._get_param("version"):
        group.version = cluster.version
    if not self._get_param("releaseVersion"):
        group.release_version = f"{group.version}.0-20261101"
    group.scaling_config = {"minSize": 1, "maxSize": 2, "desiredSize": 2, **group.scaling_config}
    group.update_config = self._get_param("updateConfig") or {"maxUnavailable": 1}
    group.node_repair_config = self._get_param("nodeRepairConfig") or {"enabled": False}
    group.taints = list(group.taints)
    if not self._get_param("remoteAccess"):
        group.remote_access = None
    group.status = "CREATING"
    # moto leaves the node group's name out; cluster-autoscaler's status tells groups apart by it.
    group.resources["autoScalingGroups"] = [{"name": f"eks-{group.nodegroup_name}-{uuid.uuid4()}"}]
    node_groups.open_group(self.current_account, self.region, group)
    return result


def _update_nodegroup_config(self: EKSResponse) -> ActionResult:
    cluster, name = _cluster(self), self._get_param("nodegroupName")
    group = self.eks_backend.describe_nodegroup(cluster_name=cluster.name, nodegroup_name=name)
    size = {**group.scaling_config, **(self._get_param("scalingConfig") or {})}
    _check_sizes(size)
    _moto_update_nodegroup_config(self)
    for asg in node_groups.groups():
        if (asg.cluster, asg.nodegroup) == (cluster.name, name):
            asg.min_size, asg.max_size = size["minSize"], size["maxSize"]
            asg.set_desired_capacity(size["desiredSize"])
    return _updated(cluster, "ConfigUpdate")


def _delete_nodegroup(self: EKSResponse) -> ActionResult:
    group = self.eks_backend.describe_nodegroup(
        cluster_name=self._get_param("name"), nodegroup_name=self._get_param("nodegroupName")
    )
    if group.nodegroup_name in _script().undeletable:
        # As EKS: the call is taken, and what comes of it stands in the node group.
        group.status = "DELETE_FAILED"
        return ActionResult({"nodegroup": group})
    result = _moto_delete_nodegroup(self)
    node_groups.close_group(self.current_account, self.region, group)
    return result


def _check_sizes(size: dict[str, int]) -> None:
    low, high = size.get("minSize", 0), size.get("maxSize", 0)
    wanted = size.get("desiredSize", low)
    wrong = ""
    if low > wanted:
        wrong = f"Minimum capacity {low} can't be greater than desired size {wanted}"
    elif wanted > high:
        wrong = f"desired capacity {wanted} can't be greater than max size {high}"
    if wrong:
        raise InvalidParameterException(message=wrong)


# Auto Scaling ------------------------------------------------------------------------------------


def _describe_scaling_activities(self: AutoScalingResponse) -> ActionResult:
    name = self._get_param("AutoScalingGroupName")
    found = [g for g in node_groups.groups() if name in (None, g.name)]
    return ActionResult({"Activities": [item for group in found for item in node_groups.activities(group)]})


def _set_desired_capacity(self: AutoScalingResponse) -> ActionResult:
    name, wanted = self._get_param("AutoScalingGroupName"), int(self._get_param("DesiredCapacity"))
    group = self.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - no such group: {name}")
    for limit, word, beyond in (
        (group.max_size, "above max", wanted > (group.max_size or 0)),
        (group.min_size, "below min", wanted < (group.min_size or 0)),
    ):
        if beyond:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup."
            )
    return _moto_set_desired_capacity(self)


def _terminate_instance_in_auto_scaling_group(self: AutoScalingResponse) -> ActionResult:
    instance = self._get_param("InstanceId")
    decrement = self._get_param("ShouldDecrementDesiredCapacity") in (True, "true")
    group = node_groups.end_instance(instance, decrement=decrement)
    if group is None:
        return _moto_terminate_instance(self)
    return ActionResult(
        {
            "Activity": {
                "ActivityId": str(uuid.uuid4()),
                "AutoScalingGroupName": group.name,
                "Cause": f"instance {instance} was taken out of service in response to a user request",
                "Description": f"Terminating EC2 instance: {instance}",
                "StartTime": datetime.now(UTC),
                "StatusCode": "InProgress",
                "Progress": 0,
            }
        }
    )


# Service Quotas and Budgets ----------------------------------------------------------------------


def _quota(self: Any, code: str, value: float, service: str = "ec2", name: str = "") -> dict[str, Any]:
    return {
        "ServiceCode": service,
        "ServiceName": _SERVICES[service],
        "QuotaArn": f"arn:aws:servicequotas:{self.region}:{self.current_account}:{service}/{code}",
        "QuotaCode": code,
        "QuotaName": name or QUOTAS[code].name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


_SERVICES = {
    "ec2": "Amazon Elastic Compute Cloud (Amazon EC2)",
    "sagemaker": "Amazon SageMaker",
}


def _get_service_quota(self: Any) -> Any:
    code = self._get_param("QuotaCode")
    if self._get_param("ServiceCode") == "ec2" and code in QUOTAS:
        value = _script().quotas.get(code, QUOTAS[code].default)
        return _answer({"Quota": _quota(self, code, value)})
    return _moto_get_service_quota(self)


def _list_service_quotas(self: Any) -> Any:
    values = _script().quotas
    if self._get_param("ServiceCode") == "sagemaker":
        hosted = hosting_shim.endpoint_quotas(values)
        return _answer({"Quotas": [_quota(self, *one[:2], "sagemaker", one[2]) for one in hosted]})
    named = self._get_param("ServiceCode") == "ec2"
    quotas = [_quota(self, code, values.get(code, quota.default)) for code, quota in QUOTAS.items()]
    return _answer({"Quotas": quotas if named else []})


def _get_aws_default_service_quota(self: Any) -> Any:
    code = self._get_param("QuotaCode")
    if self._get_param("ServiceCode") == "ec2" and code in QUOTAS:
        # A new account has none for accelerators.
        gpus = {"g", "p", "vt"} & set(QUOTAS[code].families)
        return _answer({"Quota": _quota(self, code, 0.0 if gpus else 5.0)})
    return _moto_get_service_quota(self)


def _update_budget(self: Any) -> Any:
    account, new = self._get_param("AccountId"), self._get_param("NewBudget")
    self.backend.describe_budget(account, new["BudgetName"])  # Raises where there is none.
    budgets = self.backend.budgets[account]
    fresh = Budget(new, [])
    fresh.notifications = budgets[new["BudgetName"]].notifications
    budgets[new["BudgetName"]] = fresh
    return _answer({})


def _budget_tags(_: Any) -> Any:
    return _answer({"ResourceTags": []})


def _describe_subscribers_for_notification(self: Any) -> Any:
    account, name = self._get_param("AccountId"), self._get_param("BudgetName")
    wanted = self._get_param("Notification")
    budget = self.backend.budgets[account][name]
    found: list[Any] = []
    for notification in budget.notifications:
        if notification.details == wanted:
            found = list(notification.subscribers or [])
    return _answer({"Subscribers": found})


def _answer(content: dict[str, Any]) -> str:
    return json.dumps(content)


ADDED: dict[type, dict[str, Callable[..., Any]]] = {
    EKSResponse: {
        function.__name__[1:]: function
        for function in (
            _create_addon,
            _describe_addon,
            _update_addon,
            _delete_addon,
            _list_addons,
            _create_access_entry,
            _describe_access_entry,
            _update_access_entry,
            _delete_access_entry,
            _list_access_entries,
            _associate_access_policy,
            _disassociate_access_policy,
            _list_associated_access_policies,
            _create_pod_identity_association,
            _describe_pod_identity_association,
            _update_pod_identity_association,
            _delete_pod_identity_association,
            _list_pod_identity_associations,
            _describe_update,
            _update_cluster_version,
            _update_nodegroup_version,
            _describe_cluster_versions,
        )
    },
    ServiceQuotasResponse: {
        "list_service_quotas": _list_service_quotas,
        "get_aws_default_service_quota": _get_aws_default_service_quota,
    },
    BudgetsResponse: {
        "update_budget": _update_budget,
        "list_tags_for_resource": _budget_tags,
        "describe_subscribers_for_notification": _describe_subscribers_for_notification,
    },
}
"""Actions that moto does not have."""
ADDED.update(hosting_shim.ADDED)

REPLACED: dict[type, dict[str, tuple[Callable[..., Any], str]]] = {
    EKSResponse: {
        "create_cluster": (_create_cluster, "upgradePolicy"),
        "describe_cluster": (_describe_cluster, "clusterSecurityGroupId"),
        "update_cluster_config": (_update_cluster_config, '"update"'),
        "delete_cluster": (_delete_cluster, "deletionProtection"),
        "create_nodegroup": (_create_nodegroup, "updateConfig"),
        "update_nodegroup_config": (_update_nodegroup_config, "autoscaling"),
        "delete_nodegroup": (_delete_nodegroup, "autoscaling"),
    },
    AutoScalingResponse: {
        "describe_scaling_activities": (_describe_scaling_activities, "backend"),
        "set_desired_capacity": (_set_desired_capacity, "max_size"),
        "terminate_instance_in_auto_scaling_group": (
            _terminate_instance_in_auto_scaling_group,
            "Terminating",
        ),
    },
    ServiceQuotasResponse: {"get_service_quota": (_get_service_quota, '"ec2"')},
}
"""Actions of moto that lack something, with a word that their source will have once they do not."""
REPLACED.update(hosting_shim.REPLACED)

_upstream: dict[type, dict[str, Any]] = {
    class_: {name: inspect.getattr_static(class_, name, None) for name in [*ADDED.get(class_, {}), *changed]}
    for class_, changed in {**{class_: {} for class_ in ADDED}, **REPLACED}.items()
}
_moto_create_cluster = EKSResponse.create_cluster
_moto_describe_cluster = EKSResponse.describe_cluster
_moto_delete_cluster = EKSResponse.delete_cluster
_moto_create_nodegroup = EKSResponse.create_nodegroup
_moto_update_nodegroup_config = EKSResponse.update_nodegroup_config
_moto_delete_nodegroup = EKSResponse.delete_nodegroup
_moto_set_desired_capacity = AutoScalingResponse.set_desired_capacity
_moto_terminate_instance = AutoScalingResponse.terminate_instance_in_auto_scaling_group
_moto_get_service_quota: Any = ServiceQuotasResponse.get_service_quota
_upstream_routes = frozenset(eks_urls.url_paths)


def gained() -> list[str]:
    """What moto has of its own by now, so that it can go from here; `Class.action` each."""
    found = [
        line
        for class_, originals in _upstream.items()
        for line in gains(class_, ADDED.get(class_, {}), REPLACED.get(class_, {}), originals)
    ]
    found += hosting_shim.gained()
    return found + [route for route in _upstream_routes if any(part in route for part in _ROUTES)]


def gains(
    class_: type,
    added: Mapping[str, Any],
    replaced: Mapping[str, tuple[Any, str]],
    originals: Mapping[str, Any],
) -> list[str]:
    """What one class of moto has gained.

    Args:
        class_: The class.
        added: What is added to it.
        replaced: What is replaced in it, and the word that a complete one has.
        originals: What it had before, None for nothing.
    """
    return [
        f"{class_.__name__}.{name}"
        for name, original in originals.items()
        if original is not None and (name in added or replaced[name][1] in inspect.getsource(original))
    ]


def apply(script: Callable[[], Script]) -> None:
    """Adds everything to moto in this process. Calling it again only changes where the script is.

    Args:
        script: Gives the script that holds now.
    """
    global _script
    _script = script
    for class_, actions in ADDED.items():
        for name, function in actions.items():
            setattr(class_, name, function)
    for class_, replaced in REPLACED.items():
        for name, (function, _) in replaced.items():
            setattr(class_, name, function)
    hosting_shim.widen(script)
    # For each role that it is given it makes a session, and reads all endpoints of AWS: a tenth of a second.
    eks_utils.Session = AccountSpecificBackend.get_session  # pyright: ignore[reportPrivateImportUsage]
    base = "{0}/clusters/(?P<name>[^/]+)/"
    for route in _ROUTES:
        eks_urls.url_paths[f"{base}{route}$"] = EKSResponse.dispatch
    eks_urls.url_paths["{0}/cluster-versions$"] = EKSResponse.dispatch
