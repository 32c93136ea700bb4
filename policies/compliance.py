"""Applies all packs to what a stack declares, without a deployment: `make compliance STACK=…`.

    python -m policies.compliance --stack NAME            what the stack file declares
    python -m policies.compliance --stack NAME --state F  what `pulumi stack export` printed
    python -m policies.compliance --stack NAME --events F what a streaming preview printed

Writes `NAME.sarif` (SARIF 2.1.0) and `NAME.md`, a table of rules, frameworks and results. Exit status: 0 if
no mandatory rule is violated, 1 if one is, 2 if it could not be told.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import yaml

from policies.compliance_report import markdown, sarif
from policies.enforcement import Environment, environment_of
from policies.judging import Judge
from policies.packs import ALL_RULES, RULE_NAMES
from policies.reading import read
from policies.results import RuleResult, judge_all, verdict_of
from policies.rule import Resource, Step
from policies.waivers import WaiverError, read_waivers
from runtime.stack_resources import ResourcesError, StackResource, from_preview_events, from_state

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = Path("compliance")
# What the SDK calls resources where no engine names them.
_NO_ENGINE: Final = "urn:pulumi:stack::project::"


class ComplianceError(Exception):
    """Something that the user can act on; its text is the whole message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m policies.compliance", description="All packs, no deployment."
    )
    parser.add_argument("--stack", required=True, help="stack or example; its configuration and waivers hold")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--state", type=Path, help="a file with the output of `pulumi stack export`")
    source.add_argument("--events", type=Path, help="a file with the output of a streaming preview")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: compliance)")
    given = parser.parse_args(arguments)
    try:
        results, environment, judge = check(given.stack, given.state, given.events)
    except (ComplianceError, WaiverError, ResourcesError) as error:
        print(error, file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{given.stack}.sarif").write_text(json.dumps(sarif(results, given.stack), indent=2) + "\n")
    (given.out / f"{given.stack}.md").write_text(markdown(results, given.stack, environment, judge.waivers))
    return _close(given.stack, environment, results, given.out)


def check(
    stack: str, state: Path | None = None, events: Path | None = None
) -> tuple[list[RuleResult], Environment, Judge]:
    """Judges a stack by all rules.

    Args:
        stack: Its name, or an example's.
        state: An exported state to judge, in place of what the stack file declares.
        events: A streaming preview's output to judge.

    Returns:
        A result for every rule, the environment that its levels are those of, and the judge.

    Raises:
        ComplianceError: There is no such stack, or it cannot be run.
        WaiverError: Its waivers are wrong.
        ResourcesError: The file is no state, or no preview.
    """
    file = _stack_file(stack)
    config = configuration(stack)
    waivers_file = ROOT / "policies" / "waivers" / f"{stack}.yaml"
    waivers = read_waivers(waivers_file, RULE_NAMES) if waivers_file.is_file() else ()
    steps: list[Step] | None = None
    if state is not None:
        found = from_state(cast("Mapping[str, object]", _json(state.read_text(), state)))
    elif events is not None:
        text = events.read_text()
        found, steps = from_preview_events(text.splitlines()).after, _steps(text)
    else:
        found = from_state(_declared(file, stack))
    environment = environment_of(_platform(file))
    judge = Judge(ALL_RULES, waivers, datetime.now(UTC), steps)
    return judge_all(judge, resources_of(found), config, environment), environment, judge


def configuration(stack: str) -> dict[str, dict[str, Any]]:
    """The policy configuration of a stack or example, by rule; empty where it has none.

    Raises:
        ComplianceError: It is no JSON, or names what is no rule.
    """
    places = (ROOT / "policies" / "config" / f"{stack}.json", ROOT / "examples" / f"{stack}.policy.json")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return {}
    given = cast("dict[str, Any]", _json(file.read_text(), file))
    unknown = sorted(set(given) - RULE_NAMES - {"all"})
    if unknown:
        raise ComplianceError(
            f"{file}: {', '.join(unknown)} is no rule; docs/policies lists them; correct it"
        )
    # As the engine reads it: a level may stand alone.
    return {
        name: value if isinstance(value, dict) else {"enforcementLevel": value}
        for name, value in given.items()
    }


def resources_of(found: Sequence[StackResource]) -> list[Resource]:
    """What rules judge of a state or preview: inputs, as the engine hands them to resource policies."""
    providers = {one.urn: one for one in found if one.type.startswith("pulumi:providers:")}
    return [_resource(one, providers.get(one.provider)) for one in found if not one.pending_delete]


def _resource(one: StackResource, provider: StackResource | None) -> Resource:
    region = provider.inputs.get("region") if provider is not None else None
    return Resource(
        one.type,
        one.name,
        one.inputs,
        one.urn,
        one.protect,
        one.dependencies,
        one.provider,
        one.parent,
        region if isinstance(region, str) else "",
    )


def _stack_file(stack: str) -> Path:
    places = (ROOT / "stacks" / f"Pulumi.{stack}.yaml", ROOT / "examples" / f"{stack}.yaml")
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        known = [path.name.split(".")[1] for path in (ROOT / "stacks").glob("Pulumi.*.yaml")]
        known += [path.stem for path in (ROOT / "examples").glob("*.yaml")]
        raise ComplianceError(f"STACK = {stack}: there is no such stack; allowed: {', '.join(sorted(known))}")
    return file


def _declared(file: Path, stack: str) -> Mapping[str, object]:
    # A process of its own: policies may not import stacks.
    done = subprocess.run(
        [sys.executable, "-m", "stacks.declared", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ComplianceError(done.stderr.strip())
    # The URNs that the engine would give, by which waivers name resources.
    text = done.stdout.replace(_NO_ENGINE, f"urn:pulumi:{stack}::spillway::")
    return cast("Mapping[str, object]", json.loads(text))


def _platform(file: Path) -> Mapping[str, object]:
    content: Any = yaml.safe_load(file.read_text())
    return content["config"]["spillway:platform"]


def _steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        event = read(json.loads(line) if line.startswith("{") else {})
        step = event.child("resourcePreEvent", "metadata")
        if not step.is_missing:
            protect = step.child("old", "protect").boolean(default=False)
            operation, urn, kind = (step.child(key).text() for key in ("op", "urn", "type"))
            found.append(Step(operation, urn, kind, protect))
    return found


def _json(text: str, file: Path) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise ComplianceError(f"{file}: is no JSON; give the file that the command wrote") from None


def _close(stack: str, environment: Environment, results: Sequence[RuleResult], folder: Path) -> int:
    blocking = [one for one in results if one.blocks]
    for one in blocking:
        for where, finding in one.violations:
            print(f"{one.rule.name} on {where}: {finding.message}\n  Fix: {finding.remediation}")
    counts = Counter(one.outcome.value for one in results)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    print(f"{stack} ({environment.value}): {verdict_of(results)}. Of {len(results)} rules: {told}.")
    print(f"{folder}/{stack}.md has the table, {folder}/{stack}.sarif the same for tools.")
    return 1 if blocking else 0


if __name__ == "__main__":
    sys.exit(main())
