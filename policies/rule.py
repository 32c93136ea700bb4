"""What a policy rule is: plain data and a pure function, without the policy SDK.

`policies.analyzer` answers the engine by them, `policies.compliance` applies them to a preview or a state,
and `docs.generator` writes a page for each from them.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TypeAlias, TypeVar

from policies.enforcement import MANDATORY, Enforcement
from policies.frameworks import Control
from policies.reading import Node, Unreadable, read
from policies.waivers import Waiver


class Severity(Enum):
    """How bad a violation is, for display; it does not decide whether it blocks. Values are the SDK's."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a check has found.

    Attributes:
        message: What is wrong, where, and what is allowed. Never a value that could be a secret.
        fix: What to do about it, as an instruction.
        urn: The resource that it is about, where a stack rule can name one.
    """

    message: str
    fix: str
    urn: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation.

    Attributes:
        message: What is wrong, where, and what is allowed. Never a value that could be a secret.
        severity: How bad it is.
        remediation: What to do about it, as an instruction.
        urn: The resource that it is about; empty for the one that was judged, or the stack as a whole.
        unknown: The property that is not known before `pulumi up`, if that is why; else empty.
    """

    message: str
    severity: Severity
    remediation: str
    urn: str = ""
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule has nothing to say about a resource.

    Attributes:
        reason: Why, for the record of what was checked.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Resource:
    """What a rule judges.

    Attributes:
        type: The Pulumi type token, for example `kubernetes:apps/v1:Deployment`.
        name: The Pulumi resource name.
        props: The resource's inputs; for a stack rule what the engine has, which after `up` are the outputs.
        urn: Its URN, by which waivers name it.
        protect: Whether Pulumi refuses to delete it.
        dependencies: URNs of what it depends on; only stack rules get them.
        provider: Name of its explicit provider; empty where the engine does not say.
        parent: URN of the component around it; only stack rules get it.
        region: AWS region of its provider; empty where that names none.
    """

    type: str
    name: str
    props: Mapping[str, object]
    urn: str = ""
    protect: bool = False
    dependencies: tuple[str, ...] = ()
    provider: str = ""
    parent: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What a preview would do to one resource.

    Attributes:
        operation: The engine's word, such as `create`, `delete` or `replace`.
        urn: The resource.
        type: Its type token.
        protect: Whether Pulumi would refuse.
    """

    operation: str
    urn: str
    type: str
    protect: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """What a stack rule judges: all resources, and what was noted while they were judged one by one.

    Attributes:
        resources: Every resource of the stack.
        now: The time of the judgement, in UTC.
        waivers: The stack's waivers.
        used: Those of them that kept a finding from counting.
        judged: Names of the rules that were applied; a waiver of another one says nothing here.
        deferred: What could not be evaluated because a value is not known before `pulumi up`.
        steps: What a preview would do; None where there is only a state, or where the engine does not say:
            it tells policies of no deletion.
    """

    resources: Sequence[Resource]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    waivers: tuple[Waiver, ...] = ()
    used: frozenset[Waiver] = frozenset()
    judged: frozenset[str] = frozenset()
    deferred: tuple[str, ...] = ()
    steps: tuple[Step, ...] | None = None

    def of(self, *types: str) -> list[Resource]:
        """All resources of these type tokens."""
        return [resource for resource in self.resources if resource.type in types]


Verdict: TypeAlias = list[Finding] | NotApplicable
# What a check finds. A property that cannot be read is yielded where the check can go on, else raised.
Found: TypeAlias = Iterable[Problem | Unreadable]
Answer: TypeAlias = Found | NotApplicable

# The root of configuration paths. With a space, no path into a resource can begin like it.
_CONFIG_ROOT = "policy config"
_Subject = TypeVar("_Subject")


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


@dataclass(frozen=True, kw_only=True)
class _About:
    """What resource rules and stack rules have in common: documentation, configuration, consequences.

    Attributes:
        name: The policy's name, as in configuration and reports.
        description: One sentence that says what is required.
        severity: The severity of its violations.
        remediation: What a user does about a violation, one step per line.
        enforcement: What a violation does in each environment.
        controls: The controls of public frameworks that it is evidence for.
        config: The rule's configuration keys.
    """

    name: str
    description: str
    severity: Severity
    remediation: str
    enforcement: Enforcement = MANDATORY
    controls: tuple[Control, ...] = ()
    config: Mapping[str, ConfigKey] = field(default_factory=dict[str, ConfigKey])

    def _judge(
        self,
        check: Callable[[_Subject, Node], Answer],
        subject: _Subject,
        config: Mapping[str, object],
        called: str,
    ) -> Verdict:
        """Runs a check and never raises.

        An exception would otherwise reach the engine as an RPC error that ends the preview without naming
        the rule, so a mistake in a rule is reported as a violation of that rule.
        """
        found: list[Finding] = []
        try:
            answer = check(subject, read(config, _CONFIG_ROOT))
            if isinstance(answer, NotApplicable):
                return answer
            # Only where the rule applies, so that one mistake is not reported once per resource of the stack.
            if wrong := self._misconfigured(config):
                return wrong
            for item in answer:
                found.append(self._finding(item))
        except Unreadable as problem:
            found.append(self._finding(problem))
        except Exception as error:
            # The exception's text may quote a property, and properties may be secrets: only where, not what.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            found.append(
                Finding(
                    f"Rule {self.name} failed on {called} with {type(error).__name__} at {place}, so it is "
                    "not checked and blocked.",
                    self.severity,
                    "Report this as a defect of the policy pack.",
                )
            )
        return found

    def _finding(self, item: Problem | Unreadable) -> Finding:
        if isinstance(item, Problem):
            return Finding(item.message, self.severity, item.fix, item.urn)
        if item.path.startswith(_CONFIG_ROOT):
            key = item.path.removeprefix(f"{_CONFIG_ROOT}.")
            return Finding(
                f"The configuration of {self.name} is wrong: {key} {item.reason}.",
                self.severity,
                f"Correct {key} in the file given to --policy-pack-config.",
            )
        return Finding(
            f"{item.path} {item.reason}, so {self.name} cannot tell whether the resource complies.",
            self.severity,
            item.fix,
            unknown=item.path if item.unknown else "",
        )

    def _misconfigured(self, config: Mapping[str, object]) -> list[Finding]:
        # A misspelt key would silently leave the default in force.
        unknown = sorted(set(config) - set(self.config))
        if not unknown:
            return []
        return [
            Finding(
                f"The configuration of {self.name} has unknown keys: {', '.join(unknown)}. "
                f"Allowed: {', '.join(self.config) or 'none'}.",
                self.severity,
                "Correct the keys in the file given to --policy-pack-config.",
            )
        ]


@dataclass(frozen=True, kw_only=True)
class Rule(_About):
    """A policy on single resources, judged before each is created.

    Attributes:
        example: A resource that violates the rule where nothing is configured; documentation shows what the
            rule says of it.
        check: The pure function that judges one resource. It may raise `Unreadable` for a property that it
            cannot do without; use `evaluate`, which turns that into a finding.
        types: The type tokens that it judges; None where the check itself tells.
        deferrable: Whether a value that is not known yet only puts off the judgement. `pulumi up` judges each
            resource again, with all values, before it makes it; so this is for documents that have to name
            what is not there yet, and never for a cap.
    """

    example: Resource
    check: Callable[[Resource, Node], Answer]
    types: frozenset[str] | None = None
    deferrable: bool = False

    def evaluate(self, resource: Resource, config: Mapping[str, object]) -> Verdict:
        """Judges one resource and never raises.

        Args:
            resource: The resource's type, name and inputs.
            config: The rule's configuration as the user gave it; keys may be missing.

        Returns:
            The violations, none if the resource complies, or why the rule does not apply.
        """
        if self.types is not None and resource.type not in self.types:
            return NotApplicable("It judges other types of resources.")
        return self._judge(self.check, resource, config, f"{resource.type} {resource.name}")

    def judge_example(self) -> Verdict:
        """Judges its own example without a configuration."""
        return self.evaluate(self.example, {})


@dataclass(frozen=True, kw_only=True)
class StackRule(_About):
    """A policy on a stack as a whole. In a preview it blocks; on `up` it runs after everything was made.

    Attributes:
        example: Resources that violate the rule where nothing is configured.
        check: The pure function that judges all resources of a stack together.
    """

    example: Stack
    check: Callable[[Stack, Node], Answer]

    def evaluate(self, stack: Stack, config: Mapping[str, object]) -> Verdict:
        """Judges a stack and never raises; as `Rule.evaluate`."""
        return self._judge(self.check, stack, config, "the stack")

    def judge_example(self) -> Verdict:
        """Judges its own example without a configuration."""
        return self.evaluate(self.example, {})


AnyRule: TypeAlias = Rule | StackRule
