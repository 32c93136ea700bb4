"""Types that are kept in the validated store only: nothing reads them from AWS, and none costs money alone.

Their inputs are checked as those of all types are. Nothing checks that what they refer to is there.
"""

# Every handler has the same methods, with all parameters, needed or not.

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from rehearsal.aws.resources.kind import Aws, Kind, Properties, kind, name_of


@dataclass(frozen=True)
class Stored:
    """A type without anything in moto.

    Attributes:
        token: The type.
        id: How an id is made: `#` is 17 hexadecimal digits, `{name}` an input, `{@}` a digest of all.
        outputs: Outputs beside the inputs, made in the same way; `{id}`, `{region}` and `{account}` too.
        values: Outputs that are no text.
    """

    token: str
    id: str
    outputs: Properties = field(default_factory=dict[str, Any])
    values: Properties = field(default_factory=dict[str, Any])

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes up an id; the provider puts the record into the store."""
        return self._filled(self.id.replace("#", secrets.token_hex(9)[:17]), aws, inputs)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """The outputs that are made up. Whether it is there, the provider asks the store."""
        made = {name: self._filled(text, aws, known, id_) for name, text in self.outputs.items()}
        return {**made, **{name: value for name, value in self.values.items() if known.get(name) is None}}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """The provider puts the new record into the store."""

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """The provider takes the record out of the store."""

    def _filled(self, text: str, aws: Aws, inputs: Properties, id_: str = "") -> str:
        # Once there is an id it decides, so that the same outputs come out of every read.
        digest = hashlib.sha256((id_ or repr(sorted(inputs.items()))).encode()).hexdigest()[:16]
        names = {"id": id_, "region": aws.region, "account": aws.account, "@": digest}
        flat = {key: str(value) for key, value in inputs.items() if isinstance(value, str | float | int)}
        if "name" not in flat and "namePrefix" in flat:
            flat["name"] = name_of(inputs)
        for name, value in {**flat, **names}.items():
            text = text.replace("{" + name + "}", value)
        return text


def _stored(
    token: str,
    id_: str,
    replaces: str,
    updates: str = "",
    outputs: Properties | None = None,
    values: Properties | None = None,
    **naming: Any,
) -> Kind:
    handler = Stored(token, id_, outputs or {}, values or {})
    return kind(token, handler, replaces, updates, real=False, **naming)


_EC2 = "arn:aws:ec2:{region}:{account}:"
_RULE = (
    "securityGroupId",
    "ec2.ModifySecurityGroupRules",
    {"arn": _EC2 + "security-group-rule/{id}", "securityGroupRuleId": "{id}"},
)

STORED = (
    _stored(
        "aws:ec2/routeTable:RouteTable",
        "rtb-#",
        "vpcId",
        "ec2.CreateRoute",
        {"arn": _EC2 + "route-table/{id}", "ownerId": "{account}"},
    ),
    _stored(
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "rtbassoc-#",
        "gatewayId subnetId",
        "ec2.ReplaceRouteTableAssociation",
    ),
    _stored(
        "aws:ec2/route:Route",
        "r-{routeTableId}{@}",
        "routeTableId destinationCidrBlock destinationIpv6CidrBlock destinationPrefixListId",
        "ec2.ReplaceRoute",
        {"origin": "CreateRoute", "state": "active"},
    ),
    _stored(
        "aws:ec2/flowLog:FlowLog",
        "fl-#",
        "deliverCrossAccountRole destinationOptions eniId iamRoleArn logDestination logDestinationType"
        " logFormat maxAggregationInterval subnetId trafficType transitGatewayId vpcId",
        "",
        {"arn": _EC2 + "vpc-flow-log/{id}"},
    ),
    _stored(
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "sg-#",
        "vpcId",
        "ec2.ModifySecurityGroupRules",
        {
            "arn": _EC2 + "security-group/{id}",
            "ownerId": "{account}",
            "name": "default",
            "description": "default VPC security group",
        },
    ),
    _stored("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "sgr-#", *_RULE),
    _stored("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", "sgr-#", *_RULE),
    _stored(
        "aws:ec2/placementGroup:PlacementGroup",
        "{name}",
        "name partitionCount spreadLevel strategy",
        "",
        {"arn": _EC2 + "placement-group/{name}", "placementGroupId": "pg-{@}"},
        name_length=255,
    ),
    _stored(
        "aws:ec2/vpnGatewayRoutePropagation:VpnGatewayRoutePropagation",
        "{vpnGatewayId}_{routeTableId}",
        "routeTableId vpnGatewayId",
    ),
    _stored(
        "aws:ec2/vpnConnectionRoute:VpnConnectionRoute",
        "{destinationCidrBlock}:{vpnConnectionId}",
        "destinationCidrBlock vpnConnectionId",
    ),
    _stored(
        "aws:directconnect/gateway:Gateway",
        "{@}",
        "amazonSideAsn",
        "directconnect.UpdateDirectConnectGateway",
        {"arn": "arn:aws:directconnect::{account}:dx-gateway/{id}", "ownerAccountId": "{account}"},
        name_length=100,
    ),
    _stored(
        "aws:directconnect/gatewayAssociation:GatewayAssociation",
        "ga-{@}",
        "dxGatewayId associatedGatewayId associatedGatewayOwnerAccountId proposalId",
        "directconnect.UpdateDirectConnectGatewayAssociation",
        {
            "associatedGatewayType": "virtualPrivateGateway",
            "dxGatewayAssociationId": "{@}",
            "dxGatewayOwnerAccountId": "{account}",
            "associatedGatewayOwnerAccountId": "{account}",
        },
    ),
    _stored(
        "aws:kms/alias:Alias",
        "{name}",
        "name namePrefix",
        "kms.UpdateAlias",
        {
            "arn": "arn:aws:kms:{region}:{account}:{name}",
            "targetKeyArn": "arn:aws:kms:{region}:{account}:key/{targetKeyId}",
        },
        name_length=256,
        name_prefix="alias/",
    ),
    _stored("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "{role}/{policyArn}", "role policyArn"),
    _stored(
        "aws:iam/instanceProfile:InstanceProfile",
        "{name}",
        "name namePrefix path",
        "iam.AddRoleToInstanceProfile",
        {
            "arn": "arn:aws:iam::{account}:instance-profile/{name}",
            "createDate": "2026-01-01T00:00:00Z",
            "uniqueId": "AIPA{@}",
        },
        name_length=128,
    ),
    _stored(
        "aws:iam/openIdConnectProvider:OpenIdConnectProvider",
        "arn:aws:iam::{account}:oidc-provider/{@}",
        "url",
        "iam.AddClientIDToOpenIDConnectProvider iam.UpdateOpenIDConnectProviderThumbprint",
        {"arn": "{id}"},
    ),
    _stored(
        "aws:autoscaling/attachment:Attachment",
        "{autoscalingGroupName}-{@}",
        "autoscalingGroupName elb lbTargetGroupArn",
    ),
    _stored(
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "{repository}",
        "policy repository",
        "",
        {"registryId": "{account}"},
    ),
    _stored(
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "{repository}",
        "repository",
        "ecr.SetRepositoryPolicy",
        {"registryId": "{account}"},
    ),
    _stored(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "{bucket}",
        "bucket expectedBucketOwner",
        "s3.PutBucketEncryption",
    ),
    _stored(
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "{bucket}",
        "bucket",
        "s3.PutPublicAccessBlock",
    ),
    _stored("aws:s3/bucketPolicy:BucketPolicy", "{bucket}", "bucket", "s3.PutBucketPolicy"),
    _stored(
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "{bucket}",
        "bucket expectedBucketOwner",
        "s3.PutBucketLifecycleConfiguration",
        values={"transitionDefaultMinimumObjectSize": "all_storage_classes_128K"},
    ),
    _stored(
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "{bucket}",
        "bucket",
        "s3.PutBucketOwnershipControls",
    ),
    _stored(
        "aws:s3/bucketLogging:BucketLogging", "{bucket}", "bucket expectedBucketOwner", "s3.PutBucketLogging"
    ),
    _stored(
        "aws:lb/targetGroupAttachment:TargetGroupAttachment",
        "{targetGroupArn}-{@}",
        "availabilityZone port targetGroupArn targetId",
    ),
    _stored(
        "aws:sns/topicSubscription:TopicSubscription",
        "{topic}:{@}",
        "endpoint protocol topic",
        "sns.SetSubscriptionAttributes",
        {"arn": "{id}", "ownerId": "{account}", "filterPolicyScope": "MessageAttributes"},
        {"pendingConfirmation": False, "confirmationWasAuthenticated": True},
    ),
    _stored("aws:sns/topicPolicy:TopicPolicy", "{arn}", "arn", "", {"owner": "{account}"}),
    _stored("aws:sqs/queuePolicy:QueuePolicy", "{queueUrl}", "queueUrl", "sqs.SetQueueAttributes"),
    _stored(
        "aws:cloudwatch/compositeAlarm:CompositeAlarm",
        "{alarmName}",
        "alarmName",
        "cloudwatch.PutCompositeAlarm",
        {"arn": "arn:aws:cloudwatch:{region}:{account}:alarm:{alarmName}"},
    ),
    _stored(
        "aws:cloudwatch/eventRule:EventRule",
        "{name}",
        "name namePrefix eventBusName",
        "events.PutRule",
        {"arn": "arn:aws:events:{region}:{account}:rule/{name}"},
    ),
    _stored(
        "aws:cloudwatch/eventTarget:EventTarget",
        "{rule}-{@}",
        "rule targetId eventBusName",
        "events.PutTargets",
        {"targetId": "{@}"},
    ),
)
