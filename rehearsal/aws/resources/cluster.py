"""EKS and its Auto Scaling tags, made in moto: what the burst side of the platform stands on."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

import time
from typing import Any

from rehearsal.aws.resources.kind import Aws, Properties, camel, first, given, items, kind, name_of, part

_LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_CREATE_S = 600.0
_POLL_S = 0.2


class ResourceFailed(Exception):  # noqa: N818 - it is the resource that failed, and it exists
    """The resource was made and did not become ready: it belongs into the state all the same.

    Attributes:
        id: Its id.
        reasons: Why, one line each.
    """

    def __init__(self, id_: str, reasons: list[str]) -> None:
        """Takes the id and the reasons."""
        super().__init__("; ".join(reasons))
        self.id = id_
        self.reasons = reasons


def _vpc_config(inputs: Properties) -> Properties:
    config = inputs["vpcConfig"]
    return given(
        config,
        subnetIds="subnetIds",
        securityGroupIds="securityGroupIds",
        endpointPublicAccess="endpointPublicAccess",
        endpointPrivateAccess="endpointPrivateAccess",
        publicAccessCidrs="publicAccessCidrs",
    )


def _logging(inputs: Properties) -> Properties:
    on = list(items(inputs, "enabledClusterLogTypes"))
    return {
        "clusterLogging": [
            {"types": types, "enabled": enabled}
            for types, enabled in ((on, True), ([name for name in _LOGS if name not in on], False))
            if types
        ]
    }


class Cluster:
    """aws.eks.Cluster."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a cluster, which is there at once."""
        name = name_of(inputs)
        aws.client("eks").create_cluster(
            name=name,
            roleArn=inputs["roleArn"],
            resourcesVpcConfig=_vpc_config(inputs),
            logging=_logging(inputs),
            tags=part(inputs, "tags"),
            **given(
                inputs,
                version="version",
                kubernetesNetworkConfig="kubernetesNetworkConfig",
                accessConfig="accessConfig",
                upgradePolicy="upgradePolicy",
                deletionProtection="deletionProtection",
                bootstrapSelfManagedAddons="bootstrapSelfManagedAddons",
            ),
            **self._encryption(inputs),
        )
        return name

    def _encryption(self, inputs: Properties) -> Properties:
        config = inputs.get("encryptionConfig")
        if not config:
            return {}
        key = {"keyArn": config["provider"]["keyArn"]}
        return {"encryptionConfig": [{"resources": config["resources"], "provider": key}]}

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("eks").describe_cluster(name=id_)["cluster"]
        on = [
            types for item in found["logging"]["clusterLogging"] if item["enabled"] for types in item["types"]
        ]
        vpc = found["resourcesVpcConfig"]
        public = vpc.get("endpointPublicAccess", True)
        known_vpc: Properties = part(known, "vpcConfig")
        answer: Properties = {
            "name": id_,
            "arn": found["arn"],
            "endpoint": found["endpoint"],
            "certificateAuthority": found["certificateAuthority"],
            "createdAt": found["createdAt"].isoformat(),
            "identities": [{"oidcs": [{"issuer": found["identity"]["oidc"]["issuer"]}]}],
            "platformVersion": found["platformVersion"],
            "status": found["status"],
            "version": found["version"],
            "roleArn": found["roleArn"],
            "vpcConfig": {
                **known_vpc,
                "subnetIds": vpc["subnetIds"],
                "endpointPublicAccess": public,
                "endpointPrivateAccess": vpc.get("endpointPrivateAccess", False),
                "vpcId": vpc["vpcId"],
                "clusterSecurityGroupId": vpc["clusterSecurityGroupId"],
            },
            "enabledClusterLogTypes": [name for name in _LOGS if name in on],
            "accessConfig": {
                "bootstrapClusterCreatorAdminPermissions": True,
                **part(known, "accessConfig"),
                "authenticationMode": found["accessConfig"]["authenticationMode"],
            },
            "upgradePolicy": camel(found["upgradePolicy"]),
            "deletionProtection": found["deletionProtection"],
            "kubernetesNetworkConfig": {
                "ipFamily": "ipv4",
                **part(known, "kubernetesNetworkConfig"),
                "serviceIpv4Cidr": found["kubernetesNetworkConfig"]["serviceIpv4Cidr"],
            },
        }
        return answer

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes version, endpoint access, logs, access and upgrade policy, one call each."""
        eks = aws.client("eks")
        if new.get("version") and old.get("version") != new["version"]:
            eks.update_cluster_version(name=id_, version=new["version"])
        if old["vpcConfig"] != new["vpcConfig"]:
            eks.update_cluster_config(name=id_, resourcesVpcConfig=_vpc_config(new))
        if old.get("enabledClusterLogTypes") != new.get("enabledClusterLogTypes"):
            eks.update_cluster_config(name=id_, logging=_logging(new))
        if old.get("accessConfig") != new.get("accessConfig") and new.get("accessConfig"):
            mode = {"authenticationMode": new["accessConfig"]["authenticationMode"]}
            eks.update_cluster_config(name=id_, accessConfig=mode)
        for key in ("upgradePolicy", "deletionProtection"):
            if old.get(key) != new.get(key) and new.get(key) is not None:
                eks.update_cluster_config(name=id_, **{key: new[key]})

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; EKS refuses while it has node groups."""
        aws.client("eks").delete_cluster(name=id_)


def _sizes(inputs: Properties) -> dict[str, int]:
    return {key: int(value) for key, value in inputs["scalingConfig"].items() if value is not None}


class Undeleted(Exception):  # noqa: N818 - it is the resource that failed
    """AWS has taken the call and did not delete it; the text is the whole message."""


class NodeGroup:
    """aws.eks.NodeGroup. Waits for its nodes as the real provider does."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a group and waits until it is active."""
        eks = aws.client("eks")
        cluster, name = inputs["clusterName"], name_of(inputs, "nodeGroupName")
        template = inputs.get("launchTemplate")
        eks.create_nodegroup(
            clusterName=cluster,
            nodegroupName=name,
            nodeRole=inputs["nodeRoleArn"],
            subnets=inputs["subnetIds"],
            scalingConfig=_sizes(inputs),
            tags=part(inputs, "tags"),
            labels=part(inputs, "labels"),
            taints=items(inputs, "taints"),
            **given(
                inputs,
                amiType="amiType",
                capacityType="capacityType",
                instanceTypes="instanceTypes",
                version="version",
                releaseVersion="releaseVersion",
            ),
            **(
                {"launchTemplate": given(template, id="id", name="name", version="version")}
                if template
                else {}
            ),
            **({"diskSize": int(inputs["diskSize"])} if inputs.get("diskSize") else {}),
            **self._whole(inputs),
        )
        self._wait(eks, cluster, name)
        return f"{cluster}:{name}"

    def _whole(self, inputs: Properties) -> Properties:
        update, repair = part(inputs, "updateConfig"), part(inputs, "nodeRepairConfig")
        numbers = {key: int(value) for key, value in update.items() if key.startswith("max")}
        return {
            **({"updateConfig": numbers} if numbers else {}),
            **({"nodeRepairConfig": given(repair, enabled="enabled")} if repair else {}),
        }

    def _wait(self, eks: Any, cluster: str, name: str) -> None:
        deadline = time.monotonic() + _CREATE_S
        while True:
            found = eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
            if found["status"] in ("ACTIVE", "DEGRADED"):
                return
            issues = [f"{i['code']}: {i['message']}" for i in found["health"]["issues"]]
            if found["status"] == "CREATE_FAILED" or time.monotonic() > deadline:
                raise ResourceFailed(
                    f"{cluster}:{name}", issues or [f"node group {name} is still {found['status']}"]
                )
            time.sleep(_POLL_S)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it, with the size that an autoscaler may have set."""
        cluster, _, name = id_.partition(":")
        found = aws.client("eks").describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
        groups = [{"name": group["name"]} for group in found["resources"]["autoScalingGroups"]]
        answer: Properties = {
            "clusterName": cluster,
            "nodeGroupName": name,
            "arn": found["nodegroupArn"],
            "status": found["status"],
            "nodeRoleArn": found["nodeRole"],
            "subnetIds": found["subnets"],
            "scalingConfig": found["scalingConfig"],
            "labels": found["labels"],
            "taints": found["taints"],
            "amiType": found["amiType"],
            "capacityType": found["capacityType"],
            "instanceTypes": found["instanceTypes"],
            "diskSize": 0 if found.get("launchTemplate") else found["diskSize"],
            "version": found["version"],
            "releaseVersion": found["releaseVersion"],
            "updateConfig": found["updateConfig"],
            "resources": [{"autoscalingGroups": groups, "remoteAccessSecurityGroupId": ""}],
        }
        return answer

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes size, labels, taints and update settings in one call; version and template in another.

        As the real provider: a changed size is sent whole, with the desired size of the state. One that an
        autoscaler set since the last refresh is undone by that.
        """
        eks = aws.client("eks")
        cluster, _, name = id_.partition(":")
        settings: Properties = {}
        if old.get("scalingConfig") != new.get("scalingConfig"):
            settings["scalingConfig"] = _sizes(new)
        labels: dict[str, str] = part(new, "labels")
        if labels != part(old, "labels"):
            gone = sorted(set(part(old, "labels")) - set(labels))
            settings["labels"] = {"addOrUpdateLabels": labels, "removeLabels": gone}
        taints: list[Any] = items(new, "taints")
        old_taints: list[Any] = items(old, "taints")
        if taints != old_taints:
            without = [taint for taint in old_taints if taint not in taints]
            settings["taints"] = {"addOrUpdateTaints": taints, "removeTaints": without}
        if self._whole(old) != self._whole(new):
            settings.update(self._whole(new))
        if settings:
            eks.update_nodegroup_config(clusterName=cluster, nodegroupName=name, **settings)
        fresh = {
            **given(new, version="version", releaseVersion="releaseVersion"),
            **(
                {"launchTemplate": given(new["launchTemplate"], id="id", name="name", version="version")}
                if new.get("launchTemplate")
                else {}
            ),
        }
        watched = ("version", "releaseVersion", "launchTemplate")
        if fresh and any(old.get(key) != new.get(key) for key in watched):
            eks.update_nodegroup_version(clusterName=cluster, nodegroupName=name, **fresh)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it and ends its instances."""
        cluster, _, name = id_.partition(":")
        eks = aws.client("eks")
        status = eks.delete_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]["status"]
        if status == "DELETE_FAILED":
            raise Undeleted(f"waiting for EKS node group {name} to be deleted: its state is {status}")


class Addon:
    """aws.eks.Addon."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one, which is active at once whether there are nodes or not."""
        cluster, name = inputs["clusterName"], inputs["addonName"]
        aws.client("eks").create_addon(
            clusterName=cluster,
            addonName=name,
            tags=part(inputs, "tags"),
            **given(
                inputs,
                addonVersion="addonVersion",
                configurationValues="configurationValues",
                serviceAccountRoleArn="serviceAccountRoleArn",
                resolveConflicts="resolveConflictsOnCreate",
            ),
        )
        return f"{cluster}:{name}"

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        cluster, _, name = id_.partition(":")
        found = aws.client("eks").describe_addon(clusterName=cluster, addonName=name)["addon"]
        return {
            "clusterName": cluster,
            "addonName": name,
            "arn": found["addonArn"],
            "addonVersion": found["addonVersion"],
            "configurationValues": found.get("configurationValues", ""),
            "createdAt": found["createdAt"].isoformat(),
            "modifiedAt": found["modifiedAt"].isoformat(),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes version and settings."""
        cluster, _, name = id_.partition(":")
        names = {
            "addonVersion": "addonVersion",
            "configurationValues": "configurationValues",
            "serviceAccountRoleArn": "serviceAccountRoleArn",
            "resolveConflicts": "resolveConflictsOnUpdate",
        }
        aws.client("eks").update_addon(clusterName=cluster, addonName=name, **given(new, **names))

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        cluster, _, name = id_.partition(":")
        aws.client("eks").delete_addon(clusterName=cluster, addonName=name)


class AccessEntry:
    """aws.eks.AccessEntry."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        cluster, principal = inputs["clusterName"], inputs["principalArn"]
        aws.client("eks").create_access_entry(
            clusterName=cluster,
            principalArn=principal,
            tags=part(inputs, "tags"),
            **given(inputs, kubernetesGroups="kubernetesGroups", type="type", username="userName"),
        )
        return f"{cluster}:{principal}"

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        cluster, _, principal = id_.partition(":")
        found = aws.client("eks").describe_access_entry(clusterName=cluster, principalArn=principal)
        entry = found["accessEntry"]
        return {
            "clusterName": cluster,
            "principalArn": principal,
            "accessEntryArn": entry["accessEntryArn"],
            "kubernetesGroups": entry["kubernetesGroups"],
            "type": entry["type"],
            "userName": entry["username"],
            "createdAt": entry["createdAt"].isoformat(),
            "modifiedAt": entry["modifiedAt"].isoformat(),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes groups and user name."""
        cluster, _, principal = id_.partition(":")
        aws.client("eks").update_access_entry(
            clusterName=cluster,
            principalArn=principal,
            kubernetesGroups=items(new, "kubernetesGroups"),
            **given(new, username="userName"),
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        cluster, _, principal = id_.partition(":")
        aws.client("eks").delete_access_entry(clusterName=cluster, principalArn=principal)


class AccessPolicyAssociation:
    """aws.eks.AccessPolicyAssociation. Its id is `cluster#principal#policy`, as in the real provider."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        self._put(aws, inputs)
        return "#".join([inputs["clusterName"], inputs["principalArn"], inputs["policyArn"]])

    def _put(self, aws: Aws, inputs: Properties) -> None:
        scope = inputs["accessScope"]
        aws.client("eks").associate_access_policy(
            clusterName=inputs["clusterName"],
            principalArn=inputs["principalArn"],
            policyArn=inputs["policyArn"],
            accessScope=given(scope, type="type", namespaces="namespaces"),
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it among those of its entry."""
        cluster, principal, policy = id_.split("#")
        listed = aws.client("eks").list_associated_access_policies(
            clusterName=cluster, principalArn=principal
        )
        found = first([p for p in listed["associatedAccessPolicies"] if p["policyArn"] == policy])
        return {
            "clusterName": cluster,
            "principalArn": principal,
            "policyArn": policy,
            "accessScope": {key: value for key, value in found["accessScope"].items() if value},
            "associatedAt": found["associatedAt"].isoformat(),
            "modifiedAt": found["modifiedAt"].isoformat(),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the scope."""
        self._put(aws, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        cluster, principal, policy = id_.split("#")
        aws.client("eks").disassociate_access_policy(
            clusterName=cluster, principalArn=principal, policyArn=policy
        )


class PodIdentityAssociation:
    """aws.eks.PodIdentityAssociation."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        made = aws.client("eks").create_pod_identity_association(
            clusterName=inputs["clusterName"],
            namespace=inputs["namespace"],
            serviceAccount=inputs["serviceAccount"],
            roleArn=inputs["roleArn"],
            tags=part(inputs, "tags"),
            **given(inputs, targetRoleArn="targetRoleArn", disableSessionTags="disableSessionTags"),
        )
        return f"{inputs['clusterName']},{made['association']['associationId']}"

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        cluster, _, identity = id_.partition(",")
        eks = aws.client("eks")
        found = eks.describe_pod_identity_association(clusterName=cluster, associationId=identity)
        association = found["association"]
        return {
            "clusterName": cluster,
            "namespace": association["namespace"],
            "serviceAccount": association["serviceAccount"],
            "roleArn": association["roleArn"],
            "associationId": identity,
            "associationArn": association["associationArn"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the role."""
        cluster, _, identity = id_.partition(",")
        aws.client("eks").update_pod_identity_association(
            clusterName=cluster,
            associationId=identity,
            **given(new, roleArn="roleArn", targetRoleArn="targetRoleArn"),
        )

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        cluster, _, identity = id_.partition(",")
        aws.client("eks").delete_pod_identity_association(clusterName=cluster, associationId=identity)


class AutoscalingTag:
    """aws.autoscaling.Tag: what the cluster autoscaler knows of a group without nodes."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Puts the tag on the group."""
        self._put(aws, inputs)
        return f"{inputs['autoscalingGroupName']},{inputs['tag']['key']}"

    def _put(self, aws: Aws, inputs: Properties) -> None:
        tag = inputs["tag"]
        aws.client("autoscaling").create_or_update_tags(
            Tags=[
                {
                    "ResourceId": inputs["autoscalingGroupName"],
                    "ResourceType": "auto-scaling-group",
                    "Key": tag["key"],
                    "Value": tag["value"],
                    "PropagateAtLaunch": tag["propagateAtLaunch"],
                }
            ]
        )

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Finds it on the group."""
        group, _, key = id_.partition(",")
        only = [{"Name": "auto-scaling-group", "Values": [group]}, {"Name": "key", "Values": [key]}]
        tag = first(aws.client("autoscaling").describe_tags(Filters=only)["Tags"])
        return {
            "autoscalingGroupName": group,
            "tag": {"key": key, "value": tag["Value"], "propagateAtLaunch": tag["PropagateAtLaunch"]},
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the value."""
        self._put(aws, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Takes the tag off, if the group is still there."""
        if self.read(aws, id_, known) is not None:
            group, _, key = id_.partition(",")
            tag = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": key}
            aws.client("autoscaling").delete_tags(Tags=[tag])


KINDS = (
    kind(
        "aws:eks/cluster:Cluster",
        Cluster(),
        "name roleArn encryptionConfig bootstrapSelfManagedAddons outpostConfig",
        "eks.UpdateClusterConfig eks.UpdateClusterVersion",
        name_length=100,
    ),
    kind(
        "aws:eks/nodeGroup:NodeGroup",
        NodeGroup(),
        "amiType capacityType clusterName diskSize instanceTypes nodeGroupName nodeGroupNamePrefix"
        " nodeRoleArn remoteAccess subnetIds",
        "eks.UpdateNodegroupConfig eks.UpdateNodegroupVersion",
        name_length=63,
    ),
    kind("aws:eks/addon:Addon", Addon(), "addonName clusterName namespaceConfig", "eks.UpdateAddon"),
    kind(
        "aws:eks/accessEntry:AccessEntry",
        AccessEntry(),
        "clusterName principalArn type",
        "eks.UpdateAccessEntry",
    ),
    kind(
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        AccessPolicyAssociation(),
        "clusterName policyArn principalArn",
        "eks.AssociateAccessPolicy",
    ),
    kind(
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        PodIdentityAssociation(),
        "clusterName namespace serviceAccount",
        "eks.UpdatePodIdentityAssociation",
    ),
    kind(
        "aws:autoscaling/tag:Tag",
        AutoscalingTag(),
        "autoscalingGroupName",
        "autoscaling.CreateOrUpdateTags",
    ),
)
