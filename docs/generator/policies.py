"""One page per policy: what it stops, how it is configured, what it says, and what to do about it.

The message is not written down but asked for: each rule judges its own example.
"""

import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from docs.generator import markdown
from policies.enforcement import Enforcement, Environment
from policies.frameworks import Framework
from policies.packs import PACKS
from policies.rule import AnyRule, NotApplicable, Rule, Stack

FOLDER = "policies"

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """One policy as a pack serves it.

    Attributes:
        pack: The pack's folder below `policies/`.
        rule: Its rule.
        source: The file that declares it, below the repository's root.
    """

    pack: str
    rule: AnyRule
    source: str


def all_policies() -> list[Served]:
    """Every policy of every pack."""
    return [Served(pack, rule, _source(rule)) for pack, rules in PACKS.items() for rule in rules]


def _source(rule: AnyRule) -> str:
    module = importlib.import_module(rule.check.__module__)
    path = Path(inspect.getfile(module)).relative_to(_ROOT)
    return str(path)


def files() -> dict[str, str]:
    """Every page and the index, by path below `docs/`."""
    texts = {f"{FOLDER}/{served.rule.name}.md": page_text(served) for served in all_policies()}
    return {f"{FOLDER}/README.md": _index(), **texts}


def page_text(served: Served) -> str:
    """The page of one policy."""
    rule, source = served.rule, served.source
    shown = (
        [f"This `{rule.example.type}`, judged without a configuration,", _yaml(rule.example.props)]
        if isinstance(rule, Rule)
        else ["This stack, judged without a configuration,", _yaml(_described(rule.example))]
    )
    return markdown.page(
        f"# {rule.name}",
        f"Written by `make docs` from [{source}](../../{source}): edit that, not this page.",
        rule.description,
        markdown.table(
            ("pack", "severity", "judges", "dev", "staging", "prod"),
            [
                (
                    f"[{served.pack}](../../policies/README.md)",
                    rule.severity.value,
                    _judges(rule),
                    *_levels(rule.enforcement),
                )
            ],
        ),
        _controls(rule),
        "## Configuration",
        _configuration(rule),
        "## What is seen",
        *shown,
        "is reported as",
        markdown.fence(
            "text", "\n".join(messages(rule)) or "nothing: it is not judged without a configuration"
        ),
        "## What to do",
        "\n".join(f"- {step}" for step in rule.remediation.splitlines()),
    )


def messages(rule: AnyRule) -> list[str]:
    """What a rule says of its own example, without a configuration; empty if it has nothing against it."""
    verdict = rule.judge_example()
    if isinstance(verdict, NotApplicable):
        return []
    return [f"{finding.message}\nFix: {finding.remediation}" for finding in verdict]


def _judges(rule: AnyRule) -> str:
    return "each resource, before it is made" if isinstance(rule, Rule) else "the stack, at the preview's end"


def _levels(enforcement: Enforcement) -> list[str]:
    levels = [enforcement.in_environment(environment).value for environment in Environment]
    return ["off" if level == "disabled" else level for level in levels]


def _controls(rule: AnyRule) -> str:
    by_framework: dict[Framework, list[str]] = {}
    for control in rule.controls:
        by_framework.setdefault(control.framework, []).append(control.number)
    rows = [(framework.value, ", ".join(numbers)) for framework, numbers in by_framework.items()]
    return markdown.table(("evidence for", "controls"), rows) if rows else ""


def _described(stack: Stack) -> object:
    described: dict[str, Any] = {
        "resources": [
            {"type": one.type, "name": one.name, **({"inputs": dict(one.props)} if one.props else {})}
            for one in stack.resources
        ],
        "steps": [{"op": step.operation, "urn": step.urn} for step in stack.steps or ()],
        "waivers": [
            {
                "rule": one.rule,
                "urn": one.urn,
                "reason": one.reason,
                "owner": one.owner,
                "expires": one.expires,
            }
            for one in stack.waivers
        ],
        "notKnownYet": list(stack.deferred),
    }
    return {key: value for key, value in described.items() if value}


def _yaml(value: object) -> str:
    plain: Any = dict(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return markdown.fence("yaml", yaml.safe_dump(plain, sort_keys=False, width=110))


def _index() -> str:
    rows: list[tuple[str, ...]] = []
    for served in all_policies():
        rule = served.rule
        keys = ", ".join(f"`{key}`" for key in rule.config) or "none"
        link = f"[{rule.name}]({rule.name}.md)"
        levels = "/".join(level[0].upper() if level != "off" else "-" for level in _levels(rule.enforcement))
        rows.append((link, served.pack, rule.severity.value, levels, rule.description, keys))
    return markdown.page(
        "# Policies",
        "Written by `make docs`: one page per policy of the packs in [policies/](../../policies/README.md).\n"
        "`make preview` and `make up` judge every run by them; so does plain `pulumi` in a shell that\n"
        "sourced the file that `make env` names.",
        "In dev, staging and prod: `M` mandatory, which stops the run; `A` advisory; `-` off.",
        markdown.table(
            ("policy", "pack", "severity", "dev/staging/prod", "what it requires", "configuration"), rows
        ),
        "The configuration of stack NAME is `policies/config/NAME.json`; its waivers are in\n"
        "`policies/waivers`. [policies/README.md](../../policies/README.md) says more.",
    )


def _configuration(rule: AnyRule) -> str:
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
