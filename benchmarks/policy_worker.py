"""One measurement of the policy benchmark, in a process of its own: `policy_worker stock|ours`.

Asks the SDK's server or ours, in process, about the resources of a golden preview, as the engine does:
Remediate and Analyze for each, then AnalyzeStack for all. Prints CPU seconds as JSON; wall time would be the
machine's.
"""

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi_policy.policy
import yaml
from google.protobuf import json_format, struct_pb2
from pulumi.runtime import proto
from pulumi_policy import EnforcementLevel

from benchmarks.policy_sdk import policies_of
from policies.analyzer import PolicyAnalyzer
from policies.enforcement import Environment
from policies.judging import Judge
from policies.packs import ALL_RULES

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "hybrid.yaml"
RESOURCES = 300


def declared() -> list[dict[str, Any]]:
    """So many resources as the goal names, those of the hybrid stack over and over."""
    there: list[dict[str, Any]] = yaml.safe_load(GOLDEN.read_text())["resources"]
    return [there[number % len(there)] for number in range(RESOURCES)]


def messages(resources: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Any], Any]:
    """What the engine would send: messages of its own for each call, so that nothing is kept between them."""
    analyze: list[Any] = []
    remediate: list[Any] = []
    of_stack: list[Any] = []
    for number, one in enumerate(resources):
        urn = f"urn:pulumi:bench::spillway::{one['type']}::{one['name']}-{number}"
        props = json_format.ParseDict(copy.deepcopy(one.get("inputs") or {}), struct_pb2.Struct())
        common: dict[str, Any] = {
            "type": one["type"],
            "urn": urn,
            "name": f"{one['name']}-{number}",
            "properties": props,
        }
        analyze.append(proto.AnalyzeRequest(**common))
        remediate.append(proto.AnalyzeRequest(**common))
        of_stack.append(proto.AnalyzerResource(**common))
    return analyze, remediate, proto.AnalyzeStackRequest(resources=of_stack)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process that some work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main(variant: str) -> None:
    """Measures once and prints."""
    judge = Judge(ALL_RULES, (), datetime.now(UTC))
    server: Any = PolicyAnalyzer("bench", judge, Environment.PROD)
    if variant == "stock":
        servicer: Any = vars(pulumi_policy.policy)["_PolicyAnalyzerServicer"]
        rules = policies_of(judge, Environment.PROD)
        server = servicer("bench", "0", rules, EnforcementLevel.MANDATORY)
    analyze, remediate, stack = messages(declared())
    server.Analyze(analyze[0], None)  # whatever is made once, such as compiled patterns
    found = {
        "remediate": cpu_seconds(lambda: [server.Remediate(one, None) for one in remediate]),
        "analyze": cpu_seconds(lambda: [server.Analyze(one, None) for one in analyze]),
        "stack": cpu_seconds(lambda: server.AnalyzeStack(stack, None)),
        "bytes": sum(one.ByteSize() for one in analyze),
        "policies": len(ALL_RULES),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
