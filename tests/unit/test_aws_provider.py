"""The stand-in aws provider over the double: every type made, read, changed, imported, removed."""

import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2, status_pb2

from rehearsal.aws import contract
from rehearsal.aws.clients import client
from rehearsal.aws.leftovers import leftovers
from rehearsal.aws.resources import KINDS
from rehearsal.plugins.property_values import UNKNOWN, secret
from stacks.sagemaker_settings import MAX_NAME
from stacks.settings import SAGEMAKER, parse, parse_sagemaker
from tests.support.aws import Provider, RefusedError, RunningDouble, running_double
from tests.support.stack_files import declare, platform_object
from tests.support.synth import synth

Outputs = dict[str, dict[str, Any]]
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
ASSUMED = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "eks.amazonaws.com"}}
OTHER_TRUST = json.dumps({"Version": "2012-10-17", "Statement": [ASSUMED]})
READS = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [READS]})
OTHER_POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [READS, {**READS, "Action": "s3:ListBucket"}]}
)


@pytest.fixture
def double(tmp_path: Path) -> Generator[RunningDouble]:
    with running_double(tmp_path / "aws") as running:
        yield running


@pytest.fixture
def provider(double: RunningDouble) -> Provider:
    return Provider(double.endpoint)


# Every served type once, in an order in which it can be made; the state of those before it is at hand.
ESTATE: Mapping[str, Callable[[Outputs], dict[str, Any]]] = {
    "aws:ec2/vpc:Vpc": lambda _: {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": True, "tags": {"a": "b"}},
    "aws:ec2/subnet:Subnet": lambda s: {
        "vpcId": s["Vpc"]["id"],
        "cidrBlock": "10.0.0.0/24",
        "availabilityZone": "us-east-1a",
    },
    "aws:ec2/internetGateway:InternetGateway": lambda s: {"vpcId": s["Vpc"]["id"]},
    "aws:ec2/eip:Eip": lambda _: {"domain": "vpc"},
    "aws:ec2/natGateway:NatGateway": lambda s: {
        "allocationId": s["Eip"]["id"],
        "subnetId": s["Subnet"]["id"],
    },
    "aws:ec2/routeTable:RouteTable": lambda s: {"vpcId": s["Vpc"]["id"]},
    "aws:ec2/routeTableAssociation:RouteTableAssociation": lambda s: {
        "routeTableId": s["RouteTable"]["id"],
        "subnetId": s["Subnet"]["id"],
    },
    "aws:ec2/route:Route": lambda s: {
        "routeTableId": s["RouteTable"]["id"],
        "destinationCidrBlock": "0.0.0.0/0",
        "natGatewayId": s["NatGateway"]["id"],
    },
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": lambda s: {"vpcId": s["Vpc"]["id"]},
    "aws:ec2/securityGroup:SecurityGroup": lambda s: {"vpcId": s["Vpc"]["id"], "description": "d"},
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": lambda s: {
        "securityGroupId": s["SecurityGroup"]["id"],
        "ipProtocol": "-1",
    },
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": lambda s: {
        "securityGroupId": s["SecurityGroup"]["id"],
        "ipProtocol": "-1",
    },
    "aws:ec2/vpcEndpoint:VpcEndpoint": lambda s: {
        "vpcId": s["Vpc"]["id"],
        "serviceName": "com.amazonaws.us-east-1.s3",
        "vpcEndpointType": "Gateway",
        "routeTableIds": [s["RouteTable"]["id"]],
    },
    "aws:ec2/vpnGateway:VpnGateway": lambda s: {"vpcId": s["Vpc"]["id"]},
    "aws:ec2/customerGateway:CustomerGateway": lambda _: {
        "type": "ipsec.1",
        "ipAddress": "198.51.100.1",
        "bgpAsn": "65010",
    },
    "aws:ec2/vpnConnection:VpnConnection": lambda s: {
        "type": "ipsec.1",
        "customerGatewayId": s["CustomerGateway"]["id"],
        "vpnGatewayId": s["VpnGateway"]["id"],
    },
    "aws:ec2/vpnConnectionRoute:VpnConnectionRoute": lambda s: {
        "destinationCidrBlock": "192.168.0.0/16",
        "vpnConnectionId": s["VpnConnection"]["id"],
    },
    "aws:ec2/vpnGatewayRoutePropagation:VpnGatewayRoutePropagation": lambda s: {
        "vpnGatewayId": s["VpnGateway"]["id"],
        "routeTableId": s["RouteTable"]["id"],
    },
    "aws:directconnect/gateway:Gateway": lambda _: {"amazonSideAsn": "64512"},
    "aws:directconnect/gatewayAssociation:GatewayAssociation": lambda s: {
        "dxGatewayId": s["Gateway"]["id"],
        "associatedGatewayId": s["VpnGateway"]["id"],
    },
    "aws:ec2/launchTemplate:LaunchTemplate": lambda _: {
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
        "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 200, "encrypted": "true"}}],
        "updateDefaultVersion": True,
    },
    "aws:ec2/placementGroup:PlacementGroup": lambda _: {"strategy": "cluster"},
    "aws:kms/key:Key": lambda _: {"description": "d", "enableKeyRotation": True, "deletionWindowInDays": 7},
    "aws:kms/alias:Alias": lambda s: {"targetKeyId": s["Key"]["id"]},
    "aws:iam/role:Role": lambda _: {"assumeRolePolicy": TRUST},
    "aws:iam/rolePolicy:RolePolicy": lambda s: {"role": s["Role"]["id"], "policy": POLICY},
    "aws:iam/policy:Policy": lambda _: {"policy": POLICY},
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": lambda s: {
        "role": s["Role"]["id"],
        "policyArn": s["Policy"]["arn"],
    },
    "aws:iam/instanceProfile:InstanceProfile": lambda s: {"role": s["Role"]["id"]},
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": lambda _: {
        "url": "https://oidc.example",
        "clientIdLists": ["sts.amazonaws.com"],
    },
    "aws:cloudwatch/logGroup:LogGroup": lambda _: {"retentionInDays": 30},
    "aws:ec2/flowLog:FlowLog": lambda s: {
        "vpcId": s["Vpc"]["id"],
        "trafficType": "ALL",
        "logDestination": s["LogGroup"]["arn"],
    },
    "aws:eks/cluster:Cluster": lambda s: {
        "name": "c",
        "roleArn": s["Role"]["arn"],
        "vpcConfig": {"subnetIds": [s["Subnet"]["id"]], "endpointPublicAccess": False},
        "accessConfig": {"authenticationMode": "API"},
        "encryptionConfig": {"provider": {"keyArn": s["Key"]["arn"]}, "resources": ["secrets"]},
        "enabledClusterLogTypes": ["api", "audit"],
    },
    "aws:eks/nodeGroup:NodeGroup": lambda s: {
        "clusterName": "c",
        "nodeRoleArn": s["Role"]["arn"],
        "subnetIds": [s["Subnet"]["id"]],
        "instanceTypes": ["g6e.12xlarge"],
        "scalingConfig": {"minSize": 0, "maxSize": 2, "desiredSize": 1},
        "launchTemplate": {"id": s["LaunchTemplate"]["id"], "version": "1"},
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        "updateConfig": {"maxUnavailable": 1},
    },
    "aws:eks/addon:Addon": lambda _: {"clusterName": "c", "addonName": "vpc-cni"},
    "aws:eks/accessEntry:AccessEntry": lambda s: {"clusterName": "c", "principalArn": s["Role"]["arn"]},
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": lambda s: {
        "clusterName": "c",
        "principalArn": s["Role"]["arn"],
        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
        "accessScope": {"type": "namespace", "namespaces": ["llm"]},
    },
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": lambda s: {
        "clusterName": "c",
        "namespace": "llm",
        "serviceAccount": "reader",
        "roleArn": s["Role"]["arn"],
    },
    "aws:autoscaling/tag:Tag": lambda s: {
        "autoscalingGroupName": s["NodeGroup"]["resources"][0]["autoscalingGroups"][0]["name"],
        "tag": {"key": "k", "value": "v", "propagateAtLaunch": True},
    },
    "aws:ecr/repository:Repository": lambda _: {
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
    },
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": lambda s: {
        "repository": s["Repository"]["id"],
        "policy": {"rules": []},
    },
    "aws:ecr/repositoryPolicy:RepositoryPolicy": lambda s: {
        "repository": s["Repository"]["id"],
        "policy": POLICY,
    },
    "aws:s3/bucket:Bucket": lambda _: {"forceDestroy": True},
    "aws:s3/bucketVersioning:BucketVersioning": lambda s: {
        "bucket": s["Bucket"]["id"],
        "versioningConfiguration": {"status": "Enabled"},
    },
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": lambda s: {
        "bucket": s["Bucket"]["id"],
        "rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}}],
    },
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": lambda s: {
        "bucket": s["Bucket"]["id"],
        "blockPublicAcls": True,
    },
    "aws:s3/bucketPolicy:BucketPolicy": lambda s: {"bucket": s["Bucket"]["id"], "policy": POLICY},
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": lambda s: {
        "bucket": s["Bucket"]["id"],
        "rules": [{"id": "old", "status": "Enabled"}],
    },
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": lambda s: {
        "bucket": s["Bucket"]["id"],
        "rule": {"objectOwnership": "BucketOwnerEnforced"},
    },
    "aws:s3/bucketLogging:BucketLogging": lambda s: {
        "bucket": s["Bucket"]["id"],
        "targetBucket": s["Bucket"]["id"],
        "targetPrefix": "log/",
    },
    "aws:lb/loadBalancer:LoadBalancer": lambda s: {
        "internal": True,
        "loadBalancerType": "network",
        "subnets": [s["Subnet"]["id"]],
    },
    "aws:lb/targetGroup:TargetGroup": lambda s: {
        "port": 80,
        "protocol": "TCP",
        "targetType": "ip",
        "vpcId": s["Vpc"]["id"],
        "healthCheck": {"protocol": "HTTP", "path": "/ready", "port": "9090", "interval": 10},
    },
    "aws:lb/listener:Listener": lambda s: {
        "loadBalancerArn": s["LoadBalancer"]["arn"],
        "port": 443,
        "protocol": "TCP",
        "defaultActions": [{"type": "forward", "targetGroupArn": s["TargetGroup"]["arn"]}],
    },
    "aws:lb/targetGroupAttachment:TargetGroupAttachment": lambda s: {
        "targetGroupArn": s["TargetGroup"]["arn"],
        "targetId": "10.0.0.9",
    },
    "aws:autoscaling/attachment:Attachment": lambda s: {
        "autoscalingGroupName": s["Tag"]["autoscalingGroupName"],
        "lbTargetGroupArn": s["TargetGroup"]["arn"],
    },
    "aws:sns/topic:Topic": lambda _: {},
    "aws:sns/topicSubscription:TopicSubscription": lambda s: {
        "topic": s["Topic"]["arn"],
        "protocol": "email",
        "endpoint": "a@b.example",
    },
    "aws:sns/topicPolicy:TopicPolicy": lambda s: {"arn": s["Topic"]["arn"], "policy": POLICY},
    "aws:sqs/queue:Queue": lambda _: {"messageRetentionSeconds": 300},
    "aws:sqs/queuePolicy:QueuePolicy": lambda s: {"queueUrl": s["Queue"]["id"], "policy": POLICY},
    "aws:cloudwatch/eventRule:EventRule": lambda _: {"eventPattern": "{}"},
    "aws:cloudwatch/eventTarget:EventTarget": lambda s: {
        "rule": s["EventRule"]["name"],
        "arn": s["Queue"]["arn"],
    },
    "aws:cloudwatch/metricAlarm:MetricAlarm": lambda _: {
        "comparisonOperator": "GreaterThanThreshold",
        "evaluationPeriods": 2,
        "metricName": "m",
        "namespace": "n",
        "period": 60,
        "statistic": "Sum",
        "threshold": 1,
    },
    "aws:cloudwatch/compositeAlarm:CompositeAlarm": lambda s: {
        "alarmName": "all",
        "alarmRule": f'ALARM("{s["MetricAlarm"]["name"]}")',
    },
    "aws:cloudwatch/dashboard:Dashboard": lambda _: {
        "dashboardName": "board",
        "dashboardBody": json.dumps({"widgets": []}),
    },
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": lambda s: {
        "logGroupName": s["LogGroup"]["name"],
        "pattern": "ERROR",
        "metricTransformation": {"name": "errors", "namespace": "n", "value": "1"},
    },
    "aws:sagemaker/model:Model": lambda s: {
        "executionRoleArn": s["Role"]["arn"],
        "enableNetworkIsolation": True,
        "primaryContainer": {
            "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm:1",
            "environment": {"SM_VLLM_MODEL": "/opt/ml/model"},
            "modelDataSource": {
                "s3DataSources": [
                    {"s3Uri": "s3://b/models/", "s3DataType": "S3Prefix", "compressionType": "None"}
                ]
            },
        },
        "vpcConfig": {"subnets": [s["Subnet"]["id"]], "securityGroupIds": [s["SecurityGroup"]["id"]]},
    },
    "aws:sagemaker/endpointConfiguration:EndpointConfiguration": lambda s: {
        "productionVariants": [
            {
                "variantName": "a",
                "modelName": s["Model"]["name"],
                "instanceType": "ml.g6e.2xlarge",
                "initialInstanceCount": 1,
                "initialVariantWeight": 1,
                "routingConfigs": [{"routingStrategy": "LEAST_OUTSTANDING_REQUESTS"}],
                "enableSsmAccess": False,
            }
        ],
    },
    "aws:sagemaker/endpoint:Endpoint": lambda s: {
        "endpointConfigName": s["EndpointConfiguration"]["name"],
    },
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup": lambda _: {"modelPackageGroupName": "revisions"},
    "aws:cloudcontrol/resource:Resource": lambda s: {
        "typeName": "AWS::SageMaker::InferenceComponent",
        "desiredState": json.dumps(
            {
                "InferenceComponentName": "part",
                "EndpointName": s["Endpoint"]["name"],
                "VariantName": "a",
                "Specification": {
                    "ModelName": s["Model"]["name"],
                    "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
                },
                "RuntimeConfig": {"CopyCount": 0},
            }
        ),
    },
    "aws:appautoscaling/target:Target": lambda s: {
        "serviceNamespace": "sagemaker",
        "resourceId": f"endpoint/{s['Endpoint']['name']}/variant/a",
        "scalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "minCapacity": 1,
        "maxCapacity": 2,
    },
    "aws:appautoscaling/policy:Policy": lambda s: {
        **{key: s["Target"][key] for key in ("serviceNamespace", "resourceId", "scalableDimension")},
        "policyType": "StepScaling",
        "stepScalingPolicyConfiguration": {
            "adjustmentType": "ChangeInCapacity",
            "stepAdjustments": [{"metricIntervalLowerBound": "0", "scalingAdjustment": 1}],
        },
    },
    "aws:appautoscaling/scheduledAction:ScheduledAction": lambda s: {
        **{key: s["Target"][key] for key in ("serviceNamespace", "resourceId", "scalableDimension")},
        "schedule": "cron(0 20 ? * * *)",
        "scalableTargetAction": {"minCapacity": 1, "maxCapacity": 1},
    },
    "aws:secretsmanager/secret:Secret": lambda s: {
        "name": "keys",
        "kmsKeyId": s["Key"]["arn"],
        "recoveryWindowInDays": 0,
    },
    "aws:secretsmanager/secretVersion:SecretVersion": lambda s: {
        "secretId": s["Secret"]["id"],
        "secretString": '{"a": "sk-1"}',
    },
    # From here on `Cluster` is that of ECS.
    "aws:ecs/cluster:Cluster": lambda _: {
        "name": "g",
        "settings": [{"name": "containerInsights", "value": "enabled"}],
    },
    "aws:ecs/taskDefinition:TaskDefinition": lambda s: {
        "family": "g",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": s["Role"]["arn"],
        "containerDefinitions": json.dumps([{"name": "envoy", "image": "envoy:1", "essential": True}]),
        "volumes": [{"name": "files"}],
    },
    "aws:ecs/service:Service": lambda s: {
        "name": "g",
        "cluster": s["Cluster"]["arn"],
        "taskDefinition": s["TaskDefinition"]["arn"],
        "launchType": "FARGATE",
        "desiredCount": 2,
        "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        "networkConfiguration": {
            "subnets": [s["Subnet"]["id"]],
            "securityGroups": [s["SecurityGroup"]["id"]],
            "assignPublicIp": False,
        },
        "loadBalancers": [
            {
                "targetGroupArn": s["TargetGroup"]["arn"],
                "containerName": "envoy",
                "containerPort": 8080,
            }
        ],
    },
    "aws:budgets/budget:Budget": lambda _: {
        "budgetType": "COST",
        "timeUnit": "MONTHLY",
        "limitAmount": "100",
        "limitUnit": "USD",
    },
}

# A change of each that AWS makes in place; the rest have none, or their tags only.
IN_PLACE: Mapping[str, dict[str, Any]] = {
    "aws:ec2/vpc:Vpc": {"enableDnsHostnames": False, "tags": {"c": "d"}},
    "aws:ec2/subnet:Subnet": {"mapPublicIpOnLaunch": True},
    "aws:kms/key:Key": {"description": "another", "enableKeyRotation": False},
    "aws:iam/role:Role": {"assumeRolePolicy": OTHER_TRUST, "description": "x"},
    "aws:iam/rolePolicy:RolePolicy": {"policy": OTHER_POLICY},
    "aws:iam/policy:Policy": {"policy": OTHER_POLICY},
    "aws:cloudwatch/logGroup:LogGroup": {"retentionInDays": 90},
    "aws:eks/cluster:Cluster": {"enabledClusterLogTypes": ["api"], "deletionProtection": False},
    "aws:eks/nodeGroup:NodeGroup": {
        "scalingConfig": {"minSize": 0, "maxSize": 3, "desiredSize": 2},
        "labels": {"x": "y"},
        "taints": [],
    },
    "aws:eks/addon:Addon": {"configurationValues": '{"a": 1}'},
    "aws:eks/accessEntry:AccessEntry": {"kubernetesGroups": ["g"]},
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {"accessScope": {"type": "cluster"}},
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": {"roleArn": "arn:aws:iam::123456789012:role/x"},
    "aws:autoscaling/tag:Tag": {"tag": {"key": "k", "value": "other", "propagateAtLaunch": False}},
    "aws:ecr/repository:Repository": {"imageTagMutability": "MUTABLE"},
    "aws:s3/bucketVersioning:BucketVersioning": {"versioningConfiguration": {"status": "Suspended"}},
    "aws:lb/targetGroup:TargetGroup": {
        "healthCheck": {"protocol": "HTTP", "path": "/healthz", "port": "8080"}
    },
    "aws:lb/listener:Listener": {"port": 444},
    "aws:cloudwatch/metricAlarm:MetricAlarm": {"threshold": 5},
    "aws:cloudwatch/dashboard:Dashboard": {"dashboardBody": '{"widgets": [], "start": "-PT1H"}'},
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": {"pattern": "FATAL"},
    "aws:appautoscaling/target:Target": {"maxCapacity": 3},
    "aws:appautoscaling/scheduledAction:ScheduledAction": {"schedule": "cron(0 21 ? * * *)"},
    "aws:secretsmanager/secret:Secret": {"description": "other"},
    "aws:ecs/cluster:Cluster": {"settings": [{"name": "containerInsights", "value": "disabled"}]},
    "aws:ecs/service:Service": {"deploymentMaximumPercent": 150},
    "aws:budgets/budget:Budget": {"limitAmount": "200"},
    "aws:ec2/launchTemplate:LaunchTemplate": {"metadataOptions": {"httpTokens": "optional"}},
}


# What AWS keeps as long as what it belongs to: versions of a bucket can be suspended and no more, and the
# current version of a secret goes with the secret.
STAYING = ("aws:s3/bucketVersioning:BucketVersioning", "aws:secretsmanager/secretVersion:SecretVersion")


def test_the_estate_of_these_tests_has_every_served_type() -> None:
    assert set(ESTATE) == set(KINDS)


def test_every_type_is_made_read_changed_imported_and_removed_and_nothing_is_left(
    double: RunningDouble, provider: Provider
) -> None:
    states: Outputs = {}
    made: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
    for token, inputs_of in ESTATE.items():
        id_, outputs, inputs = provider.create(token, inputs_of(states))
        assert id_, token
        assert provider.read(token, id_, outputs, inputs) == (id_, outputs, inputs), token
        states[token.rpartition(":")[2]] = {**outputs, "id": id_}
        made.append((token, id_, outputs, inputs))

    for token, id_, outputs, inputs in made:
        declared = contract.resource(token)
        always = {name for name, output in declared.outputs.items() if output.required}
        assert always <= set(outputs) <= set(declared.outputs), token
        assert outputs.get("arn", "arn:aws:").startswith("arn:aws:"), token
        assert provider.diff(token, inputs, inputs).changes == provider_pb2.DiffResponse.DIFF_NONE
        found, _, imported = provider.read(token, id_)
        assert found == id_, token
        written = {key: value for key, value in inputs.items() if not key.startswith("__")}
        assert {key: imported[key] for key in written} == written, f"an import of {token}"

    for index, (token, id_, outputs, inputs) in enumerate(made):
        change = IN_PLACE.get(token)
        if change is None:
            continue
        fresh = {**inputs, **change}
        assert list(provider.diff(token, inputs, fresh).replaces) == [], token
        changed = provider.update(token, id_, outputs, inputs, fresh)
        for key, value in change.items():
            assert changed[key] == value, (token, key)
        assert provider.read(token, id_, changed, fresh) == (id_, changed, fresh), token
        made[index] = (token, id_, changed, fresh)

    assert leftovers(double.endpoint) != []
    for token, id_, outputs, _ in reversed(made):
        provider.delete(token, id_, outputs)
        gone = token in STAYING or not provider.read(token, id_, outputs)[0]
        assert gone, token
        provider.delete(token, id_, outputs)  # What is gone already is removed.
    assert leftovers(double.endpoint) == []


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if kind.replaces], ids=lambda kind: kind.token
)
def test_what_replaces_a_resource_is_taken_by_no_call_that_changes_one(kind: Any) -> None:
    for call in kind.updates:
        service, _, action = call.partition(".")
        known = client(service, "http://127.0.0.1:1", "us-east-1").meta.service_model
        operation = known.operation_model(action)
        shape = operation.input_shape
        # A required member says which resource is meant, or is its one content.
        optional = {name.lower() for name in shape.members} - {
            name.lower() for name in shape.required_members
        }
        taken = {name for name in kind.replaces if name.lower() in optional}
        assert taken - _NAMES_IN_CALLS.get(call, set()) == set(), call


# Members that only say which resource is meant, though they are optional in the API's description.
_NAMES_IN_CALLS: Mapping[str, set[str]] = {
    "ec2.ReplaceRoute": {"destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId"},
    "ecs.UpdateService": {"cluster"},
    "events.PutRule": {"eventBusName"},
    "events.PutTargets": {"eventBusName"},
    "s3.PutBucketEncryption": {"expectedBucketOwner"},
    "s3.PutBucketLifecycleConfiguration": {"expectedBucketOwner"},
    "s3.PutBucketLogging": {"expectedBucketOwner"},
    "s3.PutBucketVersioning": {"expectedBucketOwner"},
}


def test_a_replacing_change_is_told_apart_from_one_in_place(provider: Provider) -> None:
    vpc = {"cidrBlock": "10.0.0.0/16", "tags": {"a": "b"}}
    answer = provider.diff("aws:ec2/vpc:Vpc", vpc, {**vpc, "cidrBlock": "10.1.0.0/16", "tags": {}})
    assert (sorted(answer.diffs), list(answer.replaces)) == (["cidrBlock", "tags"], ["cidrBlock"])
    kinds = provider_pb2.PropertyDiff
    assert answer.detailedDiff["cidrBlock"].kind == kinds.UPDATE_REPLACE
    assert answer.detailedDiff["tags"].kind == kinds.UPDATE
    assert provider.diff("aws:ec2/vpc:Vpc", vpc, {**vpc, "region": "eu-west-1"}).replaces == ["region"]


def test_a_value_that_is_not_known_yet_differs(provider: Provider) -> None:
    answer = provider.diff("aws:ec2/subnet:Subnet", {"vpcId": "vpc-1"}, {"vpcId": UNKNOWN})
    assert list(answer.replaces) == ["vpcId"]


def test_a_made_up_name_that_is_too_long_is_refused_and_not_cut(provider: Provider) -> None:
    token = "aws:lb/targetGroup:TargetGroup"
    made, _ = provider.check(token, {}, name="n" * 24)
    assert len(made["name"]) == 32
    with pytest.raises(RefusedError) as refused:
        provider.check(token, {}, name="n" * 25)
    assert str(refused.value) == (
        f"could not make instance of '{token}': name '{'n' * 25}-' plus 7 random chars is longer than "
        "maximum length 32"
    )


@pytest.mark.parametrize("stack", ["hybrid", "sagemaker"])
def test_names_that_are_made_of_the_longest_platform_name_are_short_enough(
    provider: Provider, stack: str
) -> None:
    platform = platform_object(stack) | {"name": "n" * MAX_NAME}
    settings = parse_sagemaker(platform) if stack == SAGEMAKER else parse(platform)
    for one in synth(lambda: declare(settings)).resources:
        if one.type in KINDS:
            checked, wrong = provider.check(one.type, one.inputs, name=one.name)
            assert wrong == []
            assert len(str(checked.get("name", ""))) <= KINDS[one.type].name_length, one.name


def test_a_written_name_is_given_up_before_its_replacement_is_made(provider: Provider) -> None:
    token = "aws:iam/role:Role"
    written = {"name": "r", "assumeRolePolicy": "{}", "path": "/a/"}
    assert provider.diff(token, written, {**written, "path": "/b/"}).deleteBeforeReplace
    made_up = {**written, "__defaults": ["name"]}
    assert not provider.diff(token, made_up, {**made_up, "path": "/b/"}).deleteBeforeReplace
    assert not provider.diff(token, written, {**written, "name": "s"}).deleteBeforeReplace


def test_a_size_of_an_autoscaler_is_seen_by_a_refresh(double: RunningDouble, provider: Provider) -> None:
    group = double.node_group()
    names = {"clusterName": "c", "nodeGroupName": "n", "nodeRoleArn": "r", "subnetIds": ["s"]}
    inputs = {**names, "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 0}}
    double.want(group, 3)
    _, outputs, refreshed = provider.read("aws:eks/nodeGroup:NodeGroup", "c:n", inputs, inputs)
    assert refreshed["scalingConfig"] == {"minSize": 0, "maxSize": 4, "desiredSize": 3}
    assert outputs["scalingConfig"]["desiredSize"] == 3


def test_other_changes_of_a_group_leave_the_size_of_an_autoscaler_alone(
    double: RunningDouble, provider: Provider
) -> None:
    group = double.node_group()
    double.want(group, 3)
    names = {"clusterName": "c", "nodeGroupName": "n", "nodeRoleArn": "r", "subnetIds": ["s"]}
    inputs = {**names, "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 0}}
    fresh = {**inputs, "labels": {"a": "b"}}
    provider.update("aws:eks/nodeGroup:NodeGroup", "c:n", inputs, inputs, fresh)
    assert double.group()["desiredSize"] == 3


def test_a_resource_that_somebody_else_removed_is_gone_at_a_refresh(
    double: RunningDouble, provider: Provider
) -> None:
    id_, outputs, inputs = provider.create("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16"})
    double.client("ec2").delete_vpc(VpcId=id_)
    assert provider.read("aws:ec2/vpc:Vpc", id_, outputs, inputs)[0] == ""
    assert double.page("GET", "store")["resources"] == []


def test_a_resource_of_somebody_else_can_be_imported(double: RunningDouble, provider: Provider) -> None:
    vpc = double.client("ec2").create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    id_, outputs, inputs = provider.read("aws:ec2/vpc:Vpc", vpc)
    assert id_ == vpc
    assert inputs["cidrBlock"] == "10.7.0.0/16"
    assert outputs["arn"].endswith(vpc)
    assert provider.read("aws:ec2/vpc:Vpc", "vpc-00000000")[0] == ""


def test_tags_of_the_provider_are_on_every_resource(double: RunningDouble) -> None:
    provider = Provider(double.endpoint, defaultTags=json.dumps({"tags": {"stack": "dev", "a": "x"}}))
    id_, outputs, _ = provider.create("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16", "tags": {"a": "b"}})
    assert outputs["tags"] == {"a": "b"}
    assert outputs["tagsAll"] == {"stack": "dev", "a": "b"}
    tags = double.client("ec2").describe_vpcs(VpcIds=[id_])["Vpcs"][0]["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"stack": "dev", "a": "b"}


def test_a_secret_stays_secret_in_the_outputs_and_is_not_in_the_doubles_files(
    double: RunningDouble, provider: Provider
) -> None:
    inputs = {"assumeRolePolicy": TRUST, "description": secret("hunter2")}
    id_, outputs, checked = provider.create("aws:iam/role:Role", inputs)
    assert outputs["description"] == secret("hunter2")
    assert "hunter2" not in json.dumps(double.page("GET", "store"))
    _, again, refreshed = provider.read("aws:iam/role:Role", id_, outputs, checked)
    assert again["description"] == refreshed["description"] == secret("hunter2")


def test_a_group_that_cannot_start_is_an_error_with_its_reason_and_stays_in_the_state(
    double: RunningDouble, provider: Provider
) -> None:
    subnets = double.cluster()
    double.script(shortages=[{"instanceType": "*"}])
    inputs = {
        "clusterName": "c",
        "nodeGroupName": "n",
        "nodeRoleArn": "arn:aws:iam::123456789012:role/r",
        "subnetIds": subnets,
        "instanceTypes": ["p5.48xlarge"],
        "scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": 1},
    }
    with pytest.raises(RefusedError, match=r"InsufficientInstanceCapacity - .* sufficient p5\.48xlarge"):
        provider.create("aws:eks/nodeGroup:NodeGroup", inputs)
    ((key, value),) = provider.call.metadata
    assert key == "grpc-status-details-bin"
    status = status_pb2.Status.FromString(value)
    failed = provider_pb2.ErrorResourceInitFailed()
    status.details[0].Unpack(failed)
    assert failed.id == "c:n"
    assert failed.properties["clusterName"] == "c"
    assert failed.reasons[0].startswith("AsgInstanceLaunchFailures: ")


def test_a_mistake_that_only_the_account_sees_names_the_resource(
    double: RunningDouble, provider: Provider
) -> None:
    with pytest.raises(RefusedError, match=r"create aws:ec2/subnet:Subnet it: .*InvalidVpcID\.NotFound"):
        provider.create("aws:ec2/subnet:Subnet", {"vpcId": "vpc-1", "cidrBlock": "10.0.0.0/24"})


def service_of_a_gateway(provider: Provider) -> tuple[str, dict[str, Any]]:
    """A cluster's ARN, and inputs of a service in it behind a target group that no listener leads to yet."""
    vpc, _, _ = provider.create("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16"})
    wanted = {"port": 8080, "protocol": "TCP", "targetType": "ip", "vpcId": vpc}
    targets, _, _ = provider.create("aws:lb/targetGroup:TargetGroup", wanted)
    cluster, _, _ = provider.create("aws:ecs/cluster:Cluster", {"name": "g"})
    containers = json.dumps([{"name": "envoy", "image": "envoy:1", "memory": 128}])
    _, task, _ = provider.create(
        "aws:ecs/taskDefinition:TaskDefinition", {"family": "g", "containerDefinitions": containers}
    )
    balanced = {"targetGroupArn": targets, "containerName": "envoy", "containerPort": 8080}
    return cluster, {
        "name": "g",
        "cluster": cluster,
        "taskDefinition": task["arn"],
        "loadBalancers": [balanced],
    }


def test_a_service_comes_after_the_listener_that_leads_to_it(provider: Provider) -> None:
    _, inputs = service_of_a_gateway(provider)
    with pytest.raises(RefusedError, match="does not have an associated load balancer"):
        provider.create("aws:ecs/service:Service", inputs)


def test_a_cluster_goes_after_its_services(provider: Provider) -> None:
    cluster, inputs = service_of_a_gateway(provider)
    del inputs["loadBalancers"]
    id_, outputs, _ = provider.create("aws:ecs/service:Service", inputs)
    with pytest.raises(RefusedError, match="ClusterContainsServicesException"):
        provider.delete("aws:ecs/cluster:Cluster", cluster, {})
    provider.delete("aws:ecs/service:Service", id_, outputs)
    provider.delete("aws:ecs/cluster:Cluster", cluster, {})


def test_a_task_definition_that_ecs_does_not_know_is_refused(provider: Provider) -> None:
    containers = json.dumps([{"name": "envoy", "image": "envoy:1", "readOnlyRoot": True}])
    with pytest.raises(RefusedError, match=r'Unknown parameter in containerDefinitions.*"readOnlyRoot"'):
        provider.create(
            "aws:ecs/taskDefinition:TaskDefinition", {"family": "g", "containerDefinitions": containers}
        )


def test_a_secret_that_waits_for_its_deletion_keeps_its_name(provider: Provider) -> None:
    kind = "aws:secretsmanager/secret:Secret"
    id_, outputs, _ = provider.create(kind, {"name": "keys", "recoveryWindowInDays": 0})
    provider.delete(kind, id_, outputs)
    id_, outputs, _ = provider.create(kind, {"name": "keys"})
    provider.delete(kind, id_, outputs)
    with pytest.raises(RefusedError, match="the secret keys already exists"):
        provider.create(kind, {"name": "keys"})


def test_a_double_that_does_not_run_is_one_message_with_the_command() -> None:
    with pytest.raises(RefusedError, match=r"not answer at http://127\.0\.0\.1:9 .*rehearsal\.aws start"):
        Provider("http://127.0.0.1:9").create("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16"})


def test_another_region_of_a_resource_is_the_one_it_is_made_in(
    double: RunningDouble, provider: Provider
) -> None:
    inputs = {"cidrBlock": "10.0.0.0/16", "region": "eu-west-1"}
    id_, outputs, _ = provider.create("aws:ec2/vpc:Vpc", inputs)
    assert outputs["arn"].startswith("arn:aws:ec2:eu-west-1:")
    there = client("ec2", double.endpoint, "eu-west-1").describe_vpcs(VpcIds=[id_])["Vpcs"]
    assert len(there) == 1


def test_a_role_that_the_provider_takes_on_leads_to_its_account(double: RunningDouble) -> None:
    role = json.dumps([{"roleArn": "arn:aws:iam::210987654321:role/deploy", "sessionName": "up"}])
    provider = Provider(double.endpoint, assumeRoles=role, allowedAccountIds=json.dumps(["210987654321"]))
    id_, outputs, _ = provider.create("aws:ec2/vpc:Vpc", {"cidrBlock": "10.3.0.0/16"})
    assert outputs["ownerId"] == "210987654321"
    assert id_ not in [vpc["VpcId"] for vpc in double.client("ec2").describe_vpcs()["Vpcs"]]
    assert provider.invoke("aws:index/getCallerIdentity:getCallerIdentity")["accountId"] == "210987654321"


def test_functions_answer_about_the_account(double: RunningDouble, provider: Provider) -> None:
    assert provider.invoke("aws:index/getCallerIdentity:getCallerIdentity")["accountId"] == "123456789012"
    assert provider.invoke("aws:index/getRegion:getRegion")["region"] == "us-east-1"
    assert provider.invoke("aws:index/getPartition:getPartition")["partition"] == "aws"
    zones = provider.invoke(
        "aws:index/getAvailabilityZones:getAvailabilityZones", excludeNames=["us-east-1b"]
    )
    assert "us-east-1a" in zones["names"]
    assert "us-east-1b" not in zones["names"]
    (subnet,) = double.network("a")
    found = provider.invoke("aws:ec2/getSubnet:getSubnet", id=subnet)
    assert found["availabilityZone"] == "us-east-1a"
    assert provider.invoke("aws:ec2/getVpc:getVpc", id=found["vpcId"])["cidrBlock"] == "10.0.0.0/16"
    double.client("ssm").put_parameter(Name="/a", Value="v", Type="String")
    assert provider.invoke("aws:ssm/getParameter:getParameter", name="/a")["value"] == "v"


def test_a_policy_document_is_rendered_as_iam_reads_it(provider: Provider) -> None:
    statement = {
        "actions": ["s3:GetObject", "s3:ListBucket"],
        "resources": ["*"],
        "principals": [{"type": "AWS", "identifiers": ["arn:aws:iam::1:root"]}],
        "conditions": [{"test": "StringEquals", "variable": "aws:SourceAccount", "values": ["1"]}],
    }
    made = provider.invoke("aws:iam/getPolicyDocument:getPolicyDocument", statements=[statement])
    assert json.loads(made["json"]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": "*",
                "Principal": {"AWS": "arn:aws:iam::1:root"},
                "Condition": {"StringEquals": {"aws:SourceAccount": "1"}},
            }
        ],
    }


def test_a_mistake_in_a_functions_call_and_an_unknown_function_are_told(provider: Provider) -> None:
    wrong = provider.invoke("aws:iam/getPolicyDocument:getPolicyDocument", statements=[{"action": ["x"]}])
    assert wrong["failures"][0].startswith("statements[0].action: not a property of GetPolicyDocument")
    with pytest.raises(RefusedError, match="aws:ec2/getAmi:getAmi is not served by the stand-in"):
        provider.invoke("aws:ec2/getAmi:getAmi")


def test_the_schema_names_what_is_served(provider: Provider) -> None:
    answer = provider.service.GetSchema(provider_pb2.GetSchemaRequest(), provider.call)
    schema = json.loads(answer.schema)
    assert set(schema["resources"]) == set(KINDS)
    assert schema["version"] == "7.51.1"
