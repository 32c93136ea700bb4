import json
from typing import Any

import pytest

from runtime.stack_resources import (
    MASKED,
    UNKNOWN,
    UNKNOWN_SENTINELS,
    ResourcesError,
    StackResource,
    from_preview_events,
    from_state,
    plain,
)

STACK = "urn:pulumi:dev::demo::pulumi:pulumi:Stack::demo-dev"
KIND = "aws:eks/nodeGroup:NodeGroup"
URN = f"urn:pulumi:dev::demo::{KIND}::gpus"
PROVIDER = "urn:pulumi:dev::demo::pulumi:providers:aws::aws"
NOT_KNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def resource(urn: str = URN, **more: Any) -> dict[str, Any]:
    return {
        "urn": urn,
        "type": urn.split("::")[2].rsplit("$", 1)[-1],
        "custom": True,
        "id": "gpus-1",
        "parent": STACK,
        "provider": f"{PROVIDER}::0000",
        "inputs": {"scalingConfig": {"maxSize": 4}},
        "outputs": {"arn": "arn:x"},
        **more,
    }


def exported(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"version": 3, "deployment": {"manifest": {}, "resources": list(resources)}}


def step(operation: str, event: str = "resourcePreEvent", **states: dict[str, Any] | None) -> str:
    metadata = {"op": operation, "urn": URN, "type": KIND, "old": None, "new": None, **states}
    return json.dumps({"sequence": 1, "timestamp": 1, event: {"metadata": metadata, "planning": True}})


def test_a_state_gives_every_resource_with_all_that_is_said_of_it() -> None:
    (found,) = from_state(exported(resource(protect=True, retainOnDelete=True)))
    assert found == StackResource(
        urn=URN,
        type=KIND,
        name="gpus",
        parent=STACK,
        provider=PROVIDER,
        id="gpus-1",
        inputs={"scalingConfig": {"maxSize": 4}},
        outputs={"arn": "arn:x"},
        protect=True,
        retain_on_delete=True,
    )


def test_a_checkpoint_file_reads_like_an_export() -> None:
    checkpoint = {"version": 3, "checkpoint": {"stack": "dev", "latest": exported(resource())["deployment"]}}
    assert from_state(checkpoint) == from_state(exported(resource()))


def test_the_checkpoint_of_a_stack_that_was_never_deployed_has_no_resources() -> None:
    assert from_state({"version": 3, "checkpoint": {"stack": "dev"}}) == ()


def test_a_file_that_is_no_state_is_refused_with_what_it_holds_and_what_to_give() -> None:
    with pytest.raises(ResourcesError, match=r"keys steps, config and no deployment.*pulumi stack export"):
        from_state({"steps": [], "config": {}})


def test_what_is_only_read_from_elsewhere_is_not_the_stacks() -> None:
    assert from_state(exported(resource(external=True))) == ()
    assert from_preview_events([step("read", new=resource())]).after == ()


def test_what_was_replaced_and_is_not_deleted_yet_is_there_twice() -> None:
    found = from_state(exported(resource(), resource(delete=True)))
    assert [one.pending_delete for one in found] == [False, True]


@pytest.mark.parametrize("form", ["ciphertext", "plaintext"])
def test_a_secret_is_masked_wherever_it_is_and_however_it_was_exported(form: str) -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", form: '"hunter2"'}
    (found,) = from_state(exported(resource(inputs={"a": [{"b": secret}]}, outputs={"c": secret})))
    assert found.inputs == {"a": [{"b": MASKED}]}
    assert found.outputs == {"c": MASKED}
    assert "hunter2" not in repr(found)


def test_a_secret_output_value_is_masked_and_an_output_without_a_value_is_unknown() -> None:
    output = {"4dabf18193072939515e22adb298388d": "d0e6a833031e9bbcd3f4e8bde6ca49a4"}
    assert plain({**output, "value": "hunter2", "secret": True}) == MASKED
    assert plain({**output, "value": "here"}) == "here"
    assert plain(output) is UNKNOWN


@pytest.mark.parametrize("sentinel", UNKNOWN_SENTINELS)
def test_each_of_the_engines_marks_for_unknown_is_read_as_unknown(sentinel: str) -> None:
    assert plain({"subnetIds": [sentinel, "subnet-1"]}) == {"subnetIds": [UNKNOWN, "subnet-1"]}


def test_a_text_of_which_a_part_is_unknown_is_unknown() -> None:
    assert plain(f"arn:aws:s3:::{NOT_KNOWN}/*") is UNKNOWN


def test_a_preview_gives_what_is_there_and_what_there_would_be() -> None:
    smaller, larger = resource(), resource(inputs={"scalingConfig": {"maxSize": 8}})
    seen = from_preview_events([step("update", old=smaller, new=larger)])
    assert [one.inputs["scalingConfig"] for one in seen.before] == [{"maxSize": 4}]
    assert [one.inputs["scalingConfig"] for one in seen.after] == [{"maxSize": 8}]


@pytest.mark.parametrize(
    ("operations", "before", "after"),
    [
        (("create",), 0, 1),
        (("same",), 1, 1),
        (("delete",), 1, 0),
        (("create-replacement", "replace", "delete-replaced"), 1, 1),
        (("delete-replaced", "replace", "create-replacement"), 1, 1),
    ],
)
def test_each_operation_of_a_preview_leaves_what_it_says(
    operations: tuple[str, ...], before: int, after: int
) -> None:
    lines = [
        step(
            operation,
            old=None if operation == "create" else resource(),
            new=None if operation.startswith("delete") else resource(),
        )
        for operation in operations
    ]
    seen = from_preview_events(lines)
    assert (len(seen.before), len(seen.after)) == (before, after)


def test_the_outputs_come_from_the_later_event() -> None:
    seen = from_preview_events(
        [
            step("create", new=resource(outputs=None)),
            step("create", "resOutputsEvent", new=resource(outputs={"arn": NOT_KNOWN})),
        ]
    )
    assert [one.outputs for one in seen.after] == [{"arn": UNKNOWN}]


def test_other_text_among_the_events_is_left_out_and_errors_are_told() -> None:
    error = {"sequence": 3, "diagnosticEvent": {"severity": "error", "message": "no such key\n"}}
    seen = from_preview_events(["hello", "{half", step("create", new=resource()), json.dumps(error)])
    assert len(seen.after) == 1
    assert seen.errors == ("no such key",)


def test_text_without_events_is_refused_with_the_command_that_prints_them() -> None:
    with pytest.raises(ResourcesError, match="PULUMI_ENABLE_STREAMING_JSON_PREVIEW"):
        from_preview_events(['{"steps": []}', "done"])
