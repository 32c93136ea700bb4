"""The functions that programs call: about the account, the region, and policy documents."""

import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import Any

from rehearsal.aws.resources.kind import Aws, Properties, first, items, part

_DNS = "amazonaws.com"


def _caller(aws: Aws, given: Properties) -> Properties:  # noqa: ARG001
    caller = aws.client("sts").get_caller_identity()
    return {
        "id": caller["Account"],
        "accountId": caller["Account"],
        "arn": caller["Arn"],
        "userId": caller["UserId"],
    }


def _region(aws: Aws, given: Properties) -> Properties:
    name = given.get("name") or given.get("region") or aws.region
    return {
        "id": name,
        "name": name,
        "region": name,
        "description": name,
        "endpoint": f"ec2.{name}.{_DNS}",
    }


def _partition(aws: Aws, given: Properties) -> Properties:  # noqa: ARG001
    return {"id": "aws", "partition": "aws", "dnsSuffix": _DNS, "reverseDnsPrefix": "com.amazonaws"}


def _zones(aws: Aws, given: Properties) -> Properties:
    zones = aws.client("ec2").describe_availability_zones()["AvailabilityZones"]
    without = set(items(given, "excludeNames")) | set(items(given, "excludeZoneIds"))
    kept = [zone for zone in zones if not {zone["ZoneName"], zone["ZoneId"]} & without]
    return {
        "id": aws.region,
        "names": [zone["ZoneName"] for zone in kept],
        "zoneIds": [zone["ZoneId"] for zone in kept],
        "groupNames": [aws.region],
    }


def _parameter(aws: Aws, given: Properties) -> Properties:
    ssm = aws.client("ssm")
    found = ssm.get_parameter(Name=given["name"], WithDecryption=True)["Parameter"]
    return {
        "id": given["name"],
        "arn": found["ARN"],
        "type": found["Type"],
        "value": found["Value"],
        "insecureValue": found["Value"],
        "version": found["Version"],
    }


def _vpc(aws: Aws, given: Properties) -> Properties:
    filters = [{"Name": f["name"], "Values": f["values"]} for f in items(given, "filters")]
    filters += [{"Name": f"tag:{k}", "Values": [v]} for k, v in part(given, "tags").items()]
    ids = {"VpcIds": [given["id"]]} if given.get("id") else {}
    vpc = first(aws.client("ec2").describe_vpcs(**ids, **({"Filters": filters} if filters else {}))["Vpcs"])
    return {
        "id": vpc["VpcId"],
        "arn": aws.arn("ec2", f"vpc/{vpc['VpcId']}"),
        "cidrBlock": vpc["CidrBlock"],
        "default": vpc["IsDefault"],
        "ownerId": aws.account,
        "state": "available",
    }


def _subnet(aws: Aws, given: Properties) -> Properties:
    subnet = first(aws.client("ec2").describe_subnets(SubnetIds=[given["id"]])["Subnets"])
    return {
        "id": given["id"],
        "arn": aws.arn("ec2", f"subnet/{given['id']}"),
        "vpcId": subnet["VpcId"],
        "cidrBlock": subnet["CidrBlock"],
        "availabilityZone": subnet["AvailabilityZone"],
        "availabilityZoneId": subnet["AvailabilityZoneId"],
        "availableIpAddressCount": ipaddress.ip_network(subnet["CidrBlock"]).num_addresses - 5,
    }


def _policy_document(aws: Aws, given: Properties) -> Properties:  # noqa: ARG001
    """The document that terraform-provider-aws renders: single values without a list, keys in IAM's order."""
    statements: list[Properties] = []
    for source in items(given, "sourcePolicyDocuments"):
        inside = json.loads(source)["Statement"]
        statements += inside if isinstance(inside, list) else [inside]
    statements += [_statement(item) for item in items(given, "statements")]
    document: Properties = {"Version": given.get("version") or "2012-10-17"}
    if given.get("policyId"):
        document["Id"] = given["policyId"]
    document["Statement"] = statements
    return {
        "id": str(abs(hash(json.dumps(document))) % 10**10),
        "json": json.dumps(document, indent=2),
        "minifiedJson": json.dumps(document, separators=(",", ":")),
        "version": document["Version"],
    }


def _statement(given: Properties) -> Properties:
    found: Properties = {}
    if given.get("sid"):
        found["Sid"] = given["sid"]
    found["Effect"] = given.get("effect") or "Allow"
    for name in ("actions", "notActions", "resources", "notResources"):
        if given.get(name):
            found[name[0].upper() + name[1:].removesuffix("s")] = _one_or_many(given[name])
    for name in ("principals", "notPrincipals"):
        kinds: Properties = {item["type"]: _one_or_many(item["identifiers"]) for item in items(given, name)}
        if kinds:
            found[name[0].upper() + name[1:].removesuffix("s")] = "*" if kinds == {"*": "*"} else kinds
    conditions: Properties = {}
    for item in items(given, "conditions"):
        conditions.setdefault(item["test"], {})[item["variable"]] = _one_or_many(item["values"])
    if conditions:
        found["Condition"] = conditions
    return found


def _one_or_many(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else sorted(values)


FUNCTIONS: Mapping[str, Callable[[Aws, Properties], Properties]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
    "aws:ec2/getVpc:getVpc": _vpc,
    "aws:ec2/getSubnet:getSubnet": _subnet,
    "aws:iam/getPolicyDocument:getPolicyDocument": _policy_document,
    "aws:ssm/getParameter:getParameter": _parameter,
}
"""Every function that is served, by its token."""
