"""What the stand-in aws provider refuses before anything is made: types, properties, values, endpoints."""

import json
from typing import Any

import pytest

from rehearsal.aws import contract
from rehearsal.aws.configuration import check_configuration
from rehearsal.aws.functions import FUNCTIONS
from rehearsal.aws.loopback import is_loopback
from rehearsal.aws.resources import KINDS
from rehearsal.plugins.property_values import UNKNOWN, Value, secret
from tests.support.aws import Provider, RefusedError

GROUP = "aws:eks/nodeGroup:NodeGroup"
ROLE = "aws:iam/role:Role"
RIGHT: dict[str, Any] = {
    "clusterName": "c",
    "nodeGroupName": "n",
    "nodeRoleArn": "arn:aws:iam::123456789012:role/r",
    "subnetIds": ["subnet-1"],
    "scalingConfig": {"minSize": 0, "maxSize": 2, "desiredSize": 0},
}


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


def test_every_served_type_is_one_of_the_installed_sdk() -> None:
    for token in KINDS:
        assert contract.resource(token).inputs or token.endswith(":DefaultSecurityGroup")


def test_every_served_function_is_one_of_the_installed_sdk() -> None:
    for token in FUNCTIONS:
        assert "id" in contract.function(token).outputs


def test_what_replaces_a_resource_is_an_input_of_its_type() -> None:
    for kind in KINDS.values():
        assert kind.replaces <= set(contract.resource(kind.token).inputs), kind.token


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subnetIds": None}, "subnetIds: missing in NodeGroup; write a list of a string"),
        (
            {"instanceType": "g6e.xlarge"},
            "instanceType: not a property of NodeGroup; did you mean instanceTypes",
        ),
        ({"diskSize": "20"}, 'diskSize: "20" is not a whole number'),
        ({"diskSize": 20.5}, "diskSize: 20.5 is not a whole number"),
        ({"instanceTypes": "g6e.xlarge"}, 'instanceTypes: "g6e.xlarge" is not a list of a string'),
        ({"instanceTypes": ["a", 3]}, "instanceTypes[1]: 3 is not a string"),
        ({"labels": {"a": True}}, "labels.a: true is not a string"),
        ({"forceUpdateVersion": "yes"}, 'forceUpdateVersion: "yes" is not true or false'),
        ({"scalingConfig": []}, "scalingConfig: [] is not an object NodeGroupScalingConfig"),
        (
            {"taints": [{"key": "k", "effct": "NO_SCHEDULE"}]},
            "taints[0].effct: not a property of NodeGroupTaint",
        ),
        ({"taints": [{"key": "k"}]}, "taints[0].effect: missing in NodeGroupTaint; write a string"),
        ({"scalingConfig": {"minSize": 0, "desiredSize": 0}}, "scalingConfig.maxSize: missing in"),
    ],
)
def test_a_mistake_is_one_message_with_key_value_and_what_is_allowed(
    provider: Provider, change: dict[str, Any], said: str
) -> None:
    _, wrong = provider.check(GROUP, {**RIGHT, **change})
    assert len(wrong) >= 1
    assert any(message.startswith(said) for message in wrong), wrong


def test_two_mistakes_are_two_messages(provider: Provider) -> None:
    _, wrong = provider.check(GROUP, {**RIGHT, "diskSize": "20", "amiTypo": "x"})
    assert len(wrong) == 2


def test_what_is_right_has_no_message(provider: Provider) -> None:
    assert provider.check(GROUP, RIGHT)[1] == []


@pytest.mark.parametrize("place", ["subnetIds", "scalingConfig", "nodeRoleArn"])
def test_a_value_that_is_not_known_yet_is_taken_for_right(provider: Provider, place: str) -> None:
    assert provider.check(GROUP, {**RIGHT, place: UNKNOWN})[1] == []
    inside = {**RIGHT, "subnetIds": ["subnet-1", UNKNOWN], "labels": {"a": UNKNOWN}}
    assert provider.check(GROUP, inside)[1] == []


def test_a_secret_is_checked_and_never_shown(provider: Provider) -> None:
    assert provider.check(GROUP, {**RIGHT, "nodeRoleArn": secret("arn:x")})[1] == []
    _, wrong = provider.check(GROUP, {**RIGHT, "diskSize": secret("hunter2")})
    assert wrong == ["diskSize: the secret value is not a whole number"]


def test_a_type_that_is_not_served_is_refused_by_name(provider: Provider) -> None:
    with pytest.raises(RefusedError, match="aws:rds/instance:Instance is not served by the stand-in"):
        provider.check("aws:rds/instance:Instance", {})


def test_a_policy_document_may_be_text_or_an_object_of_the_sdk(provider: Provider) -> None:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "eks.amazonaws.com"}}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    inputs, wrong = provider.check(ROLE, {"assumeRolePolicy": document})
    assert wrong == []
    assert json.loads(inputs["assumeRolePolicy"]) == document
    assert provider.check(ROLE, {"assumeRolePolicy": "{}"})[1] == []
    assert provider.check(ROLE, {"assumeRolePolicy": 3})[1] != []


def test_a_name_is_made_up_once_and_kept(provider: Provider) -> None:
    first, _ = provider.check(ROLE, {"assumeRolePolicy": "{}"})
    assert first["name"].startswith("it-")
    assert len(first["name"]) == len("it-") + 7
    again, _ = provider.check(ROLE, {"assumeRolePolicy": "{ }"}, olds=first)
    assert again["name"] == first["name"]
    written, _ = provider.check(ROLE, {"assumeRolePolicy": "{}", "name": "mine"}, olds=first)
    assert written["name"] == "mine"
    prefixed, _ = provider.check(ROLE, {"assumeRolePolicy": "{}", "namePrefix": "p-"})
    assert "name" not in prefixed


def test_a_bucket_is_named_in_lower_case_and_an_alias_as_one(provider: Provider) -> None:
    assert provider.check("aws:s3/bucket:Bucket", {})[0]["bucket"].startswith("it-")
    alias, _ = provider.check("aws:kms/alias:Alias", {"targetKeyId": "k"})
    assert alias["name"].startswith("alias/it-")


def test_at_preview_what_the_provider_always_sets_is_unknown_and_inputs_are_known(provider: Provider) -> None:
    id_, outputs, _ = provider.create(GROUP, {**RIGHT, "labels": {"a": UNKNOWN}}, preview=True)
    assert id_ == ""
    assert outputs["arn"] == outputs["resources"] == UNKNOWN
    assert outputs["clusterName"] == "c"
    assert outputs["labels"] == {"a": UNKNOWN}
    assert "launchTemplate" not in outputs, "the provider sets it only if it is given"


def test_secrets_stay_secret_at_preview(provider: Provider) -> None:
    _, outputs, _ = provider.create(GROUP, {**RIGHT, "nodeRoleArn": secret("arn:x")}, preview=True)
    assert outputs["nodeRoleArn"] == secret("arn:x")


def config_mistakes(environment: dict[str, str] | None = None, **config: Value) -> list[str]:
    given: dict[str, Value] = {"region": "us-east-1", "version": "7.51.1", **config}
    return [message for _, message in check_configuration(given, environment or {})]


HERE = json.dumps([{"eks": "http://127.0.0.1:5000", "ec2": "http://127.0.0.1:5000/"}])


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://eks.us-east-1.amazonaws.com",
        "http://10.0.0.1:5000",
        "http://aws.example:5000",
        "http://127.0.0.1.example:5000",
        "http://user@127.0.0.1:5000",
        "https://127.0.0.1:5000",
        "127.0.0.1:5000",
    ],
)
def test_an_endpoint_that_is_not_this_machine_is_refused_wherever_it_stands(endpoint: str) -> None:
    assert not is_loopback(endpoint)
    (said,) = config_mistakes(endpoints=json.dumps([{"eks": endpoint}]))
    assert said.startswith(f"endpoints: {endpoint} is not on this machine")
    (said,) = config_mistakes(environment={"AWS_ENDPOINT_URL": endpoint})
    assert said.startswith(f"AWS_ENDPOINT_URL: {endpoint} is not on this machine")
    with pytest.raises(RefusedError, match="is not on this machine"):
        Provider(endpoint)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:5000", "http://localhost:1", "http://[::1]:5000"])
def test_an_endpoint_of_this_machine_is_taken(endpoint: str) -> None:
    assert config_mistakes(endpoints=json.dumps([{"eks": endpoint}])) == []
    assert config_mistakes(environment={"AWS_ENDPOINT_URL": endpoint}) == []


def test_no_endpoint_at_all_is_refused_rather_than_aws_itself() -> None:
    (said,) = config_mistakes()
    assert said.startswith("endpoints: missing; the stand-in aws provider has no account to talk to")


def test_two_addresses_are_refused() -> None:
    two = json.dumps([{"eks": "http://127.0.0.1:1", "ec2": "http://127.0.0.1:2"}])
    (said,) = config_mistakes(endpoints=two)
    assert "one address for all services" in said


def test_an_unknown_key_of_the_configuration_and_a_missing_region_are_refused() -> None:
    (said,) = config_mistakes(endpoints=HERE, profil="x")
    assert said.startswith("profil: not a property of the aws provider; did you mean profile")
    (said,) = config_mistakes(endpoints=HERE, region=None)
    assert said.startswith("region: missing")
    (said,) = config_mistakes(endpoints=HERE, maxRetries=json.dumps("many"))
    assert said == 'maxRetries: "many" is not a whole number'
    (said,) = config_mistakes(endpoints=json.dumps([{"ekz": "http://127.0.0.1:1"}]))
    assert said.startswith("endpoints[0].ekz: not a property of ProviderEndpoint")


def test_an_account_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(RefusedError, match="allowedAccountIds: the account is 123456789012"):
        Provider(allowedAccountIds=json.dumps(["210987654321"]))
    Provider(allowedAccountIds=json.dumps(["123456789012"]))
