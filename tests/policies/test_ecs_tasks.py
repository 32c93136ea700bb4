"""Tasks on ECS: each thing that hardens one is asked for by itself."""

import json
from typing import Any

import pytest

from policies.llm_security.ecs import ECS_HARDENED, SERVICE, TASK_DEFINITION
from policies.rule import Resource, Verdict

HARD = {"name": "envoy", "image": "envoy:1", "user": "101:101", "readonlyRootFilesystem": True}


def judged(**container: Any) -> Verdict:
    listed = [HARD, {**HARD, **container}]
    props = {"containerDefinitions": json.dumps(listed)}
    return ECS_HARDENED.evaluate(Resource(TASK_DEFINITION, "gateway", props), {})


def messages(verdict: Verdict) -> list[str]:
    assert isinstance(verdict, list)
    return [one.message for one in verdict]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"user": ""}, "[1].user"),
        ({"user": "0:0"}, "[1].user"),
        ({"user": "root"}, "[1].user"),
        ({"readonlyRootFilesystem": False}, "[1].readonlyRootFilesystem"),
        ({"privileged": True}, "[1].privileged"),
        ({"environment": [{"name": "API_KEY", "value": "x"}]}, "[1].environment[0]"),
        ({"environment": [{"name": "HF_TOKEN", "value": "x"}]}, "[1].environment[0]"),
        ({"environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]}, "[1].environment[0]"),
    ],
)
def test_a_container_that_is_not_hardened_is_found_with_what_is_missing(
    change: dict[str, Any], path: str
) -> None:
    (message,) = messages(judged(**change))
    assert message.startswith(f"containerDefinitions{path}")


@pytest.mark.parametrize("name", ["ENVOY_ROUTES", "KEYBOARD", "TOKENIZER", "MONKEY"])
def test_a_harmless_variable_is_none_of_its_business(name: str) -> None:
    assert judged(environment=[{"name": name, "value": "x"}]) == []


def test_secrets_by_reference_are_as_they_should_be() -> None:
    assert judged(secrets=[{"name": "API_KEYS", "valueFrom": "arn:aws:secretsmanager:…"}]) == []


@pytest.mark.parametrize("text", ["{", "{}"])
def test_what_are_no_containers_cannot_be_judged(text: str) -> None:
    (message,) = messages(
        ECS_HARDENED.evaluate(Resource(TASK_DEFINITION, "gateway", {"containerDefinitions": text}), {})
    )
    assert "containerDefinitions is no" in message


@pytest.mark.parametrize(("public", "found"), [(True, 1), (False, 0)])
def test_a_service_whose_tasks_have_public_addresses_is_found(public: bool, found: int) -> None:
    service = Resource(SERVICE, "gateway", {"networkConfiguration": {"assignPublicIp": public}})
    assert len(messages(ECS_HARDENED.evaluate(service, {}))) == found
