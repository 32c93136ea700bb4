"""The configuration of the stand-in provider: what it takes, and where it may lead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.aws import ACCOUNT
from rehearsal.aws.checking import Mistake, check
from rehearsal.aws.clients import client
from rehearsal.aws.contract import provider_config
from rehearsal.aws.loopback import require_loopback
from rehearsal.aws.resources.kind import Aws, items, part
from rehearsal.plugins.property_values import Value, is_unknown, plain

_ENGINE = ("version", "pluginDownloadURL")
_VARIABLE = "AWS_ENDPOINT_URL"


@dataclass(frozen=True)
class Configuration:
    """A provider that is ready.

    Attributes:
        aws: The account and the double.
        default_tags: Tags of every resource.
    """

    aws: Aws
    default_tags: Mapping[str, str] = field(default_factory=dict[str, str])


def check_configuration(given: Mapping[str, Value], environment: Mapping[str, str]) -> list[Mistake]:
    """What is wrong with the provider's configuration.

    Args:
        given: As the engine sent it: everything but strings is JSON in a string.
        environment: Where an endpoint may stand that the configuration lacks.
    """
    values = _parsed(given)
    known = {key: value for key, value in values.items() if key not in _ENGINE}
    found = check(known, provider_config(), "the aws provider")
    if found:
        return found
    if not plain(values.get("region")):
        found.append(("region", "region: missing in the aws provider; write one, as us-east-1"))
    try:
        _endpoint(values, environment)
    except ValueError as error:
        found.append(("endpoints", str(error)))
    return found


def configure(given: Mapping[str, Value], environment: Mapping[str, str]) -> Configuration:
    """Makes a provider ready; takes on the role that is named.

    Raises:
        ValueError: The account is not one of the allowed ones, or there is no endpoint.
    """
    values: dict[str, Any] = {key: plain(value) for key, value in _parsed(given).items()}
    endpoint, region = _endpoint(values, environment), str(values.get("region"))
    credentials, account = None, ACCOUNT
    for role in items(values, "assumeRoles"):
        sts = client("sts", endpoint, region, credentials)
        made = sts.assume_role(RoleArn=role["roleArn"], RoleSessionName=role.get("sessionName") or "pulumi")
        keys = made["Credentials"]
        credentials = (keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        account = str(role["roleArn"]).split(":")[4]
    allowed = values.get("allowedAccountIds")
    if allowed and account not in allowed:
        raise ValueError(
            f"allowedAccountIds: the account is {account}, which is not one of {', '.join(allowed)}; the AWS "
            f"double is account {ACCOUNT}, unless the provider takes on a role of another one"
        )
    tags = part(part(values, "defaultTags"), "tags")
    return Configuration(Aws(endpoint, region, account, credentials), tags)


def _parsed(given: Mapping[str, Value]) -> dict[str, Value]:
    """The values as they are; the SDK writes lists, objects, numbers and booleans as JSON text."""
    found: dict[str, Value] = {}
    for key, value in given.items():
        if key.startswith("__"):
            continue
        text = plain(value)
        declared = provider_config().get(key)
        if declared is None or declared.shape == "string" or not isinstance(text, str) or is_unknown(text):
            found[key] = value
            continue
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = value
    return found


def _endpoint(values: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The one address of the double."""
    named = {
        address
        for item in items({"endpoints": plain(values.get("endpoints"))}, "endpoints")
        for address in item.values()
        if address and not is_unknown(address)
    }
    if not named and environment.get(_VARIABLE):
        return require_loopback(environment[_VARIABLE], _VARIABLE)
    if not named:
        raise ValueError(
            f"endpoints: missing; the stand-in aws provider has no account to talk to. Set {_VARIABLE} to "
            "the AWS double (`python -m rehearsal.aws start` prints it), or take the official aws plugin"
        )
    checked = sorted({require_loopback(address, "endpoints") for address in named})
    if len(checked) > 1:
        raise ValueError(f"endpoints: {', '.join(checked)}; the AWS double has one address for all services")
    return checked[0]
