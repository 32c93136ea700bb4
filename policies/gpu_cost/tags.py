"""Who owns what is paid for, and when it ends: the tags that every AWS resource of a stack gets."""

from typing import Final

from policies.enforcement import ONLY_OUTSIDE_PROD
from policies.reading import Node, read
from policies.rule import ConfigKey, Found, Problem, Resource, Rule, Severity

AWS_PROVIDER: Final = "pulumi:providers:aws"
OWNER_TAGS: Final = ("spillway:stack", "spillway:owner")
EXPIRY_TAG: Final = "spillway:expires"


def default_tags(resource: Resource) -> dict[str, str]:
    """The tags that a provider of AWS gives to everything.

    Raises:
        Unreadable: They are unknown, or no tags.
    """
    node = read(resource.props).child("defaultTags")
    if node.is_missing:
        return {}
    if isinstance(node.value, str):
        # Pulumi hands a provider's own configuration over as JSON.
        node = node.parsed()
    return {key: value.text() for key, value in node.child("tags").entries().items()}


def _check_owner(resource: Resource, config: Node) -> Found:
    required = config.child("requiredTags")
    wanted = list(OWNER_TAGS) if required.is_missing else required.texts()
    tags = default_tags(resource)
    for tag in wanted:
        if not tags.get(tag):
            yield Problem(
                f"defaultTags has no {tag}, so nobody can tell from a bill or a leftover whose it is.",
                "Set the settings that become tags, such as owner: docs/configuration.md lists them.",
            )


def _check_expiry(resource: Resource, _: Node) -> Found:
    if not default_tags(resource).get(EXPIRY_TAG):
        yield Problem(
            f"defaultTags has no {EXPIRY_TAG}, so what this stack costs has no end.",
            "Set expires in the stack file, or environment: prod where it is meant to stay.",
        )


TTL_AND_OWNER_TAGS: Final = Rule(
    name="ttl-and-owner-tags",
    description="Everything in AWS is tagged with its stack and its owner.",
    severity=Severity.MEDIUM,
    remediation="Set owner in the stack file.",
    check=_check_owner,
    types=frozenset({AWS_PROVIDER}),
    example=Resource(AWS_PROVIDER, "aws", {"region": "us-east-1"}),
    config={
        "requiredTags": ConfigKey(
            schema={
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "default": list(OWNER_TAGS),
                "description": "Tags that the provider has to give to everything.",
            },
            example=[*OWNER_TAGS, "spillway:cost-centre"],
        )
    },
)

EXPIRY_REQUIRED: Final = Rule(
    name="expiry-required",
    description="Outside of production, everything in AWS says when it ends.",
    severity=Severity.MEDIUM,
    remediation="Set expires in the stack file, or environment: prod where it is meant to stay.",
    enforcement=ONLY_OUTSIDE_PROD,
    check=_check_expiry,
    types=frozenset({AWS_PROVIDER}),
    example=Resource(AWS_PROVIDER, "aws", {"region": "us-east-1"}),
)
