"""The committed stacks and examples under all rules, with the configuration that lies beside each.

Each passes; and each rule that judges something in a stack can fail on that stack, so none passes because it
looks past what the stack declares.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from policies.enforcement import Environment, Level, environment_of
from policies.judging import Judge
from policies.packs import ALL_RULES, RULE_NAMES
from policies.rule import AnyRule, Finding, NotApplicable, Resource, Rule, Stack, StackRule, Step
from policies.waivers import Waiver, read_waivers, waiver_file
from tests.support.stack_files import (
    CLUSTERED,
    EXAMPLES,
    ROOT,
    STACKS,
    declare,
    platform_object,
    stack_settings,
)
from tests.support.synth import synth

ALL = [*STACKS, *EXAMPLES]
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(autouse=True, scope="module")
def kubeconfig_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(path))
        patch.delenv("CONTEXT", raising=False)
        yield


@cache
def resources(stack: str) -> tuple[Resource, ...]:
    """Everything that a stack declares."""
    made = synth(lambda: declare(stack_settings(stack)))
    return tuple(
        Resource(
            one.type,
            one.name,
            # The provider's own check makes up a name, before policies see the inputs.
            {"name": f"{one.name}-0000000", **one.inputs}
            if one.type.startswith("aws:sagemaker/")
            else one.inputs,
            one.urn,
            dependencies=one.waits_for,
            provider=one.provider.rpartition("::")[0],
            parent=one.parent_urn,
        )
        for one in made.resources
    )


@cache
def committed_config(stack: str) -> dict[str, dict[str, Any]]:
    """The committed configuration, or none: then the defaults hold."""
    folder, suffix = (
        (ROOT / "examples", "policy.json") if stack in EXAMPLES else (ROOT / "policies/config", "json")
    )
    file = folder / f"{stack}.{suffix}"
    return json.loads(file.read_text()) if file.is_file() else {}


def config_of(rule: AnyRule, stack: str) -> dict[str, object]:
    given = committed_config(stack).get(rule.name, {})
    defaults = {key: one.schema["default"] for key, one in rule.config.items()}
    return {**defaults, **{key: value for key, value in given.items() if key != "enforcementLevel"}}


def level_of(rule: AnyRule, stack: str) -> Level:
    given = committed_config(stack).get(rule.name, {}).get("enforcementLevel")
    environment = environment_of(platform_object(stack))
    return Level(given) if given else rule.enforcement.in_environment(environment)


def violations(stack: str, level: Level) -> set[str]:
    """The rules of a level that something in the stack violates."""
    file = waiver_file(stack)
    waivers = read_waivers(file, RULE_NAMES) if file.is_file() else ()
    judge = Judge(ALL_RULES, waivers, NOW)
    found: set[str] = set()
    for rule in ALL_RULES:
        if level_of(rule, stack) is level:
            judged = (
                [judge.resource(rule, one, config_of(rule, stack)) for one in resources(stack)]
                if isinstance(rule, Rule)
                else [judge.stack(rule, resources(stack), config_of(rule, stack))]
            )
            found |= {rule.name for one in judged if one.violations}
    return found


@pytest.mark.parametrize("stack", ALL)
def test_a_committed_stack_or_example_passes_with_its_own_policy_configuration(stack: str) -> None:
    assert violations(stack, Level.MANDATORY) == set()


# What the committed files leave to their reader: digests and commits of what we could not pull to look.
ADVICE = {
    "onprem": {"image-digest", "model-origin-declared"},
    "hybrid": {"image-digest", "model-origin-declared"},
    "sagemaker": {"endpoint-redundant-prod"},
    "cpu": {"model-origin-declared"},
    "nvidia-h100": {"model-origin-declared"},
    "two-models": {"model-origin-declared"},
}


@pytest.mark.parametrize("stack", ALL)
def test_the_advice_on_a_committed_stack_is_known(stack: str) -> None:
    assert violations(stack, Level.ADVISORY) == ADVICE.get(stack, set())


@pytest.mark.parametrize("stack", [stack for stack in ALL if committed_config(stack)])
def test_its_accelerators_are_stopped_without_that_configuration(stack: str) -> None:
    rule = next(rule for rule in ALL_RULES if rule.name == "gpu-instance-allowlist")
    assert isinstance(rule, Rule)
    verdicts = [rule.evaluate(one, {}) for one in resources(stack)]
    assert any(verdict for verdict in verdicts if isinstance(verdict, list))


def test_every_policy_configuration_names_rules_and_their_keys() -> None:
    keys = {rule.name: {*rule.config, "enforcementLevel"} for rule in ALL_RULES}
    for stack in ALL:
        for name, given in committed_config(stack).items():
            assert set(given) <= keys[name], f"{stack}: {name}"


# --- each rule can fail on each stack that it judges


def fails(rule: Rule, resource: Resource, config: dict[str, object]) -> bool:
    verdict = rule.evaluate(resource, config)
    return isinstance(verdict, list) and any(not one.unknown for one in verdict)


# Values that break something, by the type of what they take the place of.
def worse(value: object) -> list[object]:
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [0, 10**6]
        case str() if value in {"true", "false"}:
            return ["false" if value == "true" else "true"]
        case str():
            return ["*", "0.0.0.0/0", "latest", "cluster-admin", "1000000"]
        case list():
            return [[], ["*"]]
        case _:
            return []


def mutants(props: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The properties with one thing changed or taken away, everywhere once."""
    root = copy.deepcopy(props)

    def inside(holder: Any, key: Any) -> Iterator[dict[str, Any]]:
        value = holder[key]
        for other in worse(value):
            holder[key] = other
            yield root
        holder[key] = value
        if isinstance(holder, dict):
            del holder[key]
            yield root
            holder[key] = value
        children: Any = value
        if isinstance(value, dict | list):
            for each in list(children) if isinstance(value, dict) else range(len(children)):
                yield from inside(children, each)

    for key in list(root):
        yield from inside(root, key)


# Where no change of one value breaks the rule, what does. `props` may be changed.
BREAKS: dict[str, Callable[[dict[str, Any]], None]] = {
    # Variants of an endpoint have machines at rest as they are.
    "gpu-scale-to-zero-dev": lambda props: props.get("scalingConfig", {}).update(minSize=1),
    "no-public-inference-port": lambda props: props.update(
        cidrIpv4="0.0.0.0/0",
        fromPort=8265,
        toPort=8265,
        ipProtocol="tcp",
        ingress=[{"protocol": "tcp", "fromPort": 8265, "toPort": 8265, "cidrBlocks": ["0.0.0.0/0"]}],
    ),
    "capture-encrypted": lambda props: props.update(dataCaptureConfig={"enableCapture": True}),
    "capture-masked-prod": lambda props: props.update(dataCaptureConfig={"enableCapture": True}),
    "no-cross-region-copy": lambda props: props.update(multiRegion=True),
    "least-privilege": lambda props: props.update(
        policy='{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
    ),
    "reclaim-delete-dev": lambda props: props["spec"]["csi"].update(driver="ebs.csi.aws.com"),
    "imdsv2": lambda props: props["metadataOptions"].update(httpTokens="optional"),
    "private-nodes": lambda props: props.update(mapPublicIpOnLaunch=True, remoteAccess={"ec2SshKey": "k"}),
    "rbac-minimal": lambda props: props.update(rules=[{"verbs": ["*"]}], roleRef={"name": "cluster-admin"}),
    "model-origin-declared": lambda props: props["spec"].update(
        serveConfigV2="applications: [{args: {llm_configs: [{model_loading_config: {model_source: a/b}}]}}]"
    ),
}


@pytest.mark.parametrize("stack", STACKS)
def test_each_rule_on_resources_can_fail_on_the_stack(stack: str) -> None:
    unbreakable: set[str] = set()
    for rule in ALL_RULES:
        config = config_of(rule, stack)
        if not isinstance(rule, Rule):
            continue
        judged = [one for one in resources(stack) if isinstance(rule.evaluate(one, config), list)]
        if judged and not any(can_fail(rule, one, config) for one in judged):
            unbreakable.add(rule.name)
    assert unbreakable == set()


def can_fail(rule: Rule, resource: Resource, config: dict[str, object]) -> bool:
    if rule.name in BREAKS:
        props = copy.deepcopy(cast("dict[str, Any]", resource.props))
        try:
            BREAKS[rule.name](props)
        except (KeyError, TypeError):
            return False  # another type of resource that the rule judges too
        return fails(rule, replace(resource, props=props), config)
    changed = mutants(cast("dict[str, Any]", resource.props))
    return any(fails(rule, replace(resource, props=props), config) for props in changed)


def without(*kinds: str) -> Callable[[Stack], Stack]:
    def broken(stack: Stack) -> Stack:
        return replace(stack, resources=[one for one in stack.resources if one.type not in kinds])

    return broken


def changed(kind: str, **props: object) -> Callable[[Stack], Stack]:
    def broken(stack: Stack) -> Stack:
        return replace(
            stack,
            resources=[
                replace(one, props={**one.props, **props}) if one.type == kind else one
                for one in stack.resources
            ],
        )

    return broken


def both(*changes: Callable[[Stack], Stack]) -> Callable[[Stack], Stack]:
    def broken(stack: Stack) -> Stack:
        for change in changes:
            stack = change(stack)
        return stack

    return broken


def unlinked(stack: Stack) -> Stack:
    return replace(stack, resources=[replace(one, dependencies=()) for one in stack.resources])


SCALING = {"minSize": 0, "maxSize": 1, "desiredSize": 0}
WAIVER = Waiver("image-digest", "urn:pulumi:*::*::t::n", "why", "me", date(2026, 1, 1))
MANY = {"instanceTypes": ["p5en.48xlarge"], "scalingConfig": {"minSize": 2, "maxSize": 4, "desiredSize": 2}}
LARGE = both(
    changed("aws:eks/nodeGroup:NodeGroup", **MANY),
    changed(
        "aws:sagemaker/endpointConfiguration:EndpointConfiguration",
        productionVariants=[
            {"variantName": "a", "instanceType": "ml.g5.48xlarge", "initialInstanceCount": 9},
        ],
    ),
)
STACK_BREAKS: dict[str, Callable[[Stack], Stack]] = {
    "gpu-hourly-ceiling": LARGE,
    "gpu-monthly-expected": LARGE,
    "gpu-exposure-to-ttl": LARGE,
    "expensive-extras": lambda stack: replace(
        stack,
        resources=[
            *stack.resources,
            *(
                one
                for one in stack.resources
                for _ in range(9)
                if one.type == "aws:ec2/vpcEndpoint:VpcEndpoint"
            ),
        ],
    ),
    "gpu-quota-fit": both(
        changed("aws:eks/nodeGroup:NodeGroup", scalingConfig={**SCALING, "maxSize": 1000}), LARGE
    ),
    "gpu-capacity-fit": changed("aws:eks/nodeGroup:NodeGroup", scalingConfig=SCALING),
    "namespace-gpu-quota": without("kubernetes:core/v1:ResourceQuota"),
    "gpu-subnets-private": changed("aws:ec2/subnet:Subnet", mapPublicIpOnLaunch=True),
    "flow-logs": without("aws:ec2/flowLog:FlowLog"),
    "private-endpoints": without("aws:ec2/vpcEndpoint:VpcEndpoint"),
    "bucket-complete": without("aws:s3/bucketVersioning:BucketVersioning"),
    "tls-everywhere": changed("aws:lb/loadBalancer:LoadBalancer", internal=False),
    "network-policy": without("kubernetes:networking.k8s.io/v1:NetworkPolicy"),
    "teardown-safe-order": unlinked,
    "no-destructive-data": lambda stack: replace(
        stack, steps=(Step("delete", "u", "kubernetes:core/v1:PersistentVolumeClaim"),)
    ),
    "waiver-valid": lambda stack: replace(stack, waivers=(WAIVER,)),
    "waivers-in-force": lambda stack: replace(stack, waivers=(WAIVER,), judged=frozenset({"image-digest"})),
    "unknowns-accounted": lambda stack: replace(stack, deferred=("policy is not known",)),
}
ON_AWS = {"hybrid", "sagemaker"}
WITHOUT_GPUS = {"local"}
NEEDS_AWS = {
    "gpu-hourly-ceiling",
    "gpu-monthly-expected",
    "gpu-exposure-to-ttl",
    "expensive-extras",
    "gpu-quota-fit",
    "gpu-capacity-fit",
    "gpu-subnets-private",
    "flow-logs",
    "private-endpoints",
    "bucket-complete",
    "tls-everywhere",
}
NEEDS_GPUS = {"namespace-gpu-quota"}
# Rules about what runs in a Kubernetes cluster.
NEEDS_CLUSTER = {
    "gpu-capacity-fit",
    "gpu-subnets-private",
    "namespace-gpu-quota",
    "network-policy",
    "teardown-safe-order",
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    "rule", [rule for rule in ALL_RULES if isinstance(rule, StackRule)], ids=lambda rule: rule.name
)
def test_each_rule_on_stacks_can_fail_on_the_stack(rule: StackRule, stack: str) -> None:
    whole = Stack(resources(stack), NOW)
    verdict = rule.evaluate(STACK_BREAKS[rule.name](whole), config_of(rule, stack))
    elsewhere = rule.name in NEEDS_AWS and stack not in ON_AWS
    if elsewhere or (rule.name in NEEDS_CLUSTER and stack not in CLUSTERED):
        assert isinstance(verdict, NotApplicable)
        return
    assert isinstance(verdict, list)
    found: Sequence[Finding] = [one for one in verdict if not one.unknown]
    assert bool(found) is not (rule.name in NEEDS_GPUS and stack in WITHOUT_GPUS)


def with_p5en(nodes: int) -> tuple[Resource, ...]:
    """Stack `hybrid` with 0 to that many nodes of the dearest type."""
    sizes = {"minSize": 0, "maxSize": nodes, "desiredSize": 0}
    p5en = {"instanceTypes": ["p5en.48xlarge"], "scalingConfig": sizes}
    # What a stack declares of a price wins over the list; here nothing is declared.
    unpriced = {"usdPerHour": None, "instanceTypes": ["p5en.48xlarge"]}
    changes = {"aws:eks/nodeGroup:NodeGroup": p5en, "spillway:aws:GpuNodeGroup": unpriced}
    return tuple(
        replace(one, props={**one.props, **changes[one.type]})
        if one.name == "llm-burst-l40s" and one.type in changes
        else one
        for one in resources("hybrid")
    )


def test_up_to_four_p5en_nodes_are_refused_by_the_default_caps_and_pass_raised_ones() -> None:
    rules = {rule.name: rule for rule in ALL_RULES}
    pool, stack = rules["gpu-pool-hourly-ceiling"], rules["gpu-hourly-ceiling"]
    assert isinstance(pool, Rule)
    assert isinstance(stack, StackRule)
    declared = with_p5en(4)
    (group,) = [
        one for one in declared if (one.type, one.name) == ("aws:eks/nodeGroup:NodeGroup", "llm-burst-l40s")
    ]

    def said(**config: object) -> list[str]:
        verdicts = (pool.evaluate(group, config), stack.evaluate(Stack(declared, NOW), config))
        assert all(isinstance(verdict, list) for verdict in verdicts)
        return [finding.message for verdict in verdicts if isinstance(verdict, list) for finding in verdict]

    of_pool, of_stack = said()
    # Four nodes at 63.296 USD; an upgrade starts no further one (updateStrategy MINIMAL).
    assert of_pool == "llm-burst-l40s may cost $253.18 an hour. Allowed for one pool: $100."
    assert of_stack.startswith("The stack may cost $256.")
    assert "most of it llm-burst-l40s (p5en.48xlarge). Allowed: $100." in of_stack
    assert said(maxUsdPerHour=400) == []


def test_the_environments_of_the_committed_stacks_are_all_three() -> None:
    named = {environment_of(platform_object(stack)) for stack in STACKS}
    assert named == set(Environment)
    assert environment_of({}) is environment_of({"environment": "production"}) is Environment.PROD


def test_the_folder_of_waivers_has_no_file_without_a_stack() -> None:
    folder: Path = waiver_file("x").parent
    assert {file.stem for file in folder.glob("*.yaml")} <= set(STACKS)
