"""What a policy rule is: plain data and a pure function, without the policy SDK.

`policies.serving` turns rules into SDK policies; `docs.generator` writes a page for each from them.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from policies.reading import Node, Unreadable, read


class Severity(Enum):
    """How bad a violation is, for display; it does not decide whether it blocks. Values are the SDK's."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation.

    Attributes:
        message: What is wrong, where, and what is allowed. Never a value that could be a secret.
        severity: How bad it is.
        remediation: What to do about it, as an instruction.
    """

    message: str
    severity: Severity
    remediation: str


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule has nothing to say about a resource.

    Attributes:
        reason: Why, for the record of what was checked.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Resource:
    """What a resource rule judges.

    Attributes:
        type: The Pulumi type token, for example `kubernetes:apps/v1:Deployment`.
        name: The Pulumi resource name.
        props: The resource's inputs.
    """

    type: str
    name: str
    props: Mapping[str, object]


Verdict: TypeAlias = list[Finding] | NotApplicable

# The root of configuration paths. With a space, no path into a resource can begin like it.
_CONFIG_ROOT = "policy config"


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One configuration key of a rule.

    Attributes:
        schema: Its JSON Schema, with description and default. The engine validates against it and fills in
            the default before the rule runs.
        example: A value for documentation and examples.
    """

    schema: Mapping[str, object]
    example: object


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy: its documentation, its configuration and its check.

    Attributes:
        name: The policy's name, as in configuration and reports.
        description: One sentence that says what is required.
        severity: The severity of its violations.
        remediation: What a user does about a violation, one step per line.
        example: A resource that violates the rule where nothing is configured; documentation shows what the
            rule says of it.
        config: The rule's configuration keys.
        check: The pure function that judges one resource. It may raise `Unreadable` for a property that it
            cannot do without; use `evaluate`, which turns that into a finding.
    """

    name: str
    description: str
    severity: Severity
    remediation: str
    check: Callable[[Resource, Node], Verdict]
    example: Resource
    config: Mapping[str, ConfigKey] = field(default_factory=dict[str, ConfigKey])

    def evaluate(self, resource: Resource, config: Mapping[str, object]) -> Verdict:
        """Judges one resource and never raises.

        An exception would otherwise reach the engine as an RPC error that ends the preview without naming
        the rule, so a mistake in a rule is reported as a violation of that rule.

        Args:
            resource: The resource's type, name and inputs.
            config: The rule's configuration as the user gave it; keys may be missing.

        Returns:
            The violations, none if the resource complies, or why the rule does not apply.
        """
        try:
            verdict = self.check(resource, read(config, _CONFIG_ROOT))
            # Only where the rule applies, so that one mistake is not reported once per resource of the stack.
            return verdict if isinstance(verdict, NotApplicable) else self._misconfigured(config) or verdict
        except Unreadable as problem:
            return [self.unreadable(problem)]
        except Exception as error:
            # The exception's text may quote a property, and properties may be secrets: only where, not what.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return [
                Finding(
                    f"Rule {self.name} failed on {resource.type} {resource.name} with "
                    f"{type(error).__name__} at {place}, so the resource is not checked and blocked.",
                    self.severity,
                    "Report this as a defect of the policy pack.",
                )
            ]

    def finding(self, message: str, remediation: str) -> Finding:
        """Makes a finding with the rule's own severity."""
        return Finding(message, self.severity, remediation)

    def unreadable(self, problem: Unreadable) -> Finding:
        """Makes the finding for a property that the rule needs and cannot read."""
        if problem.path.startswith(_CONFIG_ROOT):
            key = problem.path.removeprefix(f"{_CONFIG_ROOT}.")
            return self.finding(
                f"The configuration of {self.name} is wrong: {key} {problem.reason}.",
                f"Correct {key} in the file given to --policy-pack-config.",
            )
        return self.finding(
            f"{problem.path} {problem.reason}, so {self.name} cannot tell whether the resource complies.",
            problem.fix,
        )

    def _misconfigured(self, config: Mapping[str, object]) -> list[Finding]:
        # A misspelt key would silently leave the default in force.
        unknown = sorted(set(config) - set(self.config))
        if not unknown:
            return []
        return [
            self.finding(
                f"The configuration of {self.name} has unknown keys: {', '.join(unknown)}. "
                f"Allowed: {', '.join(self.config) or 'none'}.",
                "Correct the keys in the file given to --policy-pack-config.",
            )
        ]
