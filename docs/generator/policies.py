"""One page per policy: what it stops, how it is configured, what it says, and what to do about it.

The message is not written down but asked for: each rule judges its own example.
"""

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml
from pulumi_policy import EnforcementLevel

from docs.generator import markdown
from policies.rule import NotApplicable, Rule
from policies.serving import resource_policies

FOLDER = "policies"

_PACKS = Path(__file__).parents[2] / "policies"


@dataclass(frozen=True)
class Served:
    """One policy as a pack serves it.

    Attributes:
        pack: The pack's folder below `policies/`.
        rule: Its rule.
        enforcement: What a violation does when the configuration says nothing else: `mandatory` stops
            the preview or update.
    """

    pack: str
    rule: Rule
    enforcement: str


def all_policies() -> list[Served]:
    """Every policy of every pack: what stands in `RULES` of each `policies/PACK/rules.py`."""
    return [served for pack in sorted(_PACKS.glob("*/PulumiPolicy.yaml")) for served in _of(pack.parent.name)]


def files() -> dict[str, str]:
    """Every page and the index, by path below `docs/`."""
    texts = {f"{FOLDER}/{served.rule.name}.md": page_text(served) for served in all_policies()}
    return {f"{FOLDER}/README.md": _index(), **texts}


def page_text(served: Served) -> str:
    """The page of one policy."""
    rule, source = served.rule, f"policies/{served.pack}/rules.py"
    return markdown.page(
        f"# {rule.name}",
        f"Written by `make docs` from [{source}](../../{source}): edit that, not this page.",
        rule.description,
        markdown.table(
            ("pack", "severity", "enforcement"),
            [
                (
                    f"[{served.pack}](../../policies/{served.pack}/README.md)",
                    rule.severity.value,
                    served.enforcement,
                )
            ],
        ),
        "## Configuration",
        _configuration(rule),
        "## What is seen",
        f"This `{rule.example.type}`, judged without a configuration,",
        markdown.fence("yaml", yaml.safe_dump(dict(rule.example.props), sort_keys=False)),
        "is reported as",
        markdown.fence("text", "\n".join(messages(rule))),
        "## What to do",
        "\n".join(f"- {step}" for step in rule.remediation.splitlines()),
    )


def messages(rule: Rule) -> list[str]:
    """What a rule says of its own example, without a configuration; empty if it has nothing against it."""
    verdict = rule.evaluate(rule.example, {})
    if isinstance(verdict, NotApplicable):
        return []
    return [f"{finding.message}\nFix: {finding.remediation}" for finding in verdict]


def _of(pack: str) -> Iterator[Served]:
    rules = cast("tuple[Rule, ...]", importlib.import_module(f"policies.{pack}.rules").RULES)
    for rule, policy in zip(rules, resource_policies(rules), strict=True):
        yield Served(pack, rule, cast("EnforcementLevel", policy.enforcement_level).value)


def _index() -> str:
    rows: list[tuple[str, ...]] = []
    for served in all_policies():
        keys = ", ".join(f"`{key}`" for key in served.rule.config) or "none"
        link = f"[{served.rule.name}]({served.rule.name}.md)"
        rows.append(
            (link, served.pack, served.rule.severity.value, served.enforcement, served.rule.description, keys)
        )
    return markdown.page(
        "# Policies",
        "Written by `make docs`: one page per policy of the packs in [policies/](../../policies).\n"
        "`make preview` and `make up` judge every run by them; so does plain `pulumi` in a shell that\n"
        "sourced the file that `make env` names.",
        markdown.table(
            ("policy", "pack", "severity", "enforcement", "what it requires", "configuration"), rows
        ),
        "The configuration of stack NAME is `policies/config/NAME.json`. `mandatory` stops the run.",
    )


def _configuration(rule: Rule) -> str:
    if not rule.config:
        return "None."
    rows = [
        (
            f"`{key}`",
            str(value.schema.get("type", "")),
            f"`{json.dumps(value.schema['default'])}`" if "default" in value.schema else "**required**",
            str(value.schema.get("description", "")),
        )
        for key, value in rule.config.items()
    ]
    example = {rule.name: {key: value.example for key, value in rule.config.items()}}
    return (
        markdown.table(("key", "type", "default", "what it is"), rows)
        + "\n\nIn `policies/config/STACK.json`:\n\n"
        + markdown.fence("json", json.dumps(example, indent=2))
    )
