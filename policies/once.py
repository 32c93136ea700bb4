"""Has the policy SDK deserialise each resource once per call of the engine, and not once per policy.

SDK 1.21.0 turns the same message into Python objects anew for every policy, which is nearly all that a
pack of many policies costs (docs/adr/0019, benchmarks/policy.py). Here the three functions that do so
remember what they made of which message, for as long as the engine's call lasts. All policies then share one
object, so its proxies are made read-only: a rule cannot change what the next one judges.

This replaces private parts of exactly one version of the SDK. With any other one nothing is replaced, and a
line on stderr says so: the verdicts are the same, only slower.
"""

import importlib.metadata
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, cast

import pulumi_policy.policy
import pulumi_policy.proxy
from pulumi.runtime import proto

SDK_VERSION: Final = "1.21.0"
# Set by the benchmark, which shows the SDK as it is beside this.
STOCK_VARIABLE: Final = "SPILLWAY_STOCK_POLICY_SDK"

_REMEMBERED: Final = ("deserialize_properties", "unknown_checking_proxy")


class _Memory(threading.local):
    """What was made of which argument in the call that this thread works on; nothing outside of one."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, int], tuple[object, object]] | None = None


_memory = _Memory()


def why_not(version: str | None = None) -> str | None:
    """Why the SDK is left as it is; None if its parts are those that are known.

    Args:
        version: The SDK's version, if not the installed one.
    """
    version = version or importlib.metadata.version("pulumi-policy")
    if version != SDK_VERSION:
        return f"pulumi-policy is {version} and not {SDK_VERSION}"
    sdk: Any = pulumi_policy.policy
    missing = [
        name for name in (*_REMEMBERED, "json_format", "_PolicyAnalyzerServicer") if not hasattr(sdk, name)
    ]
    return f"pulumi-policy {version} has no {', '.join(missing)}" if missing else None


def install() -> bool:
    """Replaces the SDK's functions, if they are those that are known; a second call changes nothing.

    Returns:
        Whether they are replaced.
    """
    sdk: Any = pulumi_policy.policy
    if hasattr(sdk, "spillway_once"):
        return True
    if os.environ.get(STOCK_VARIABLE):
        return False
    if reason := why_not():
        print(f"policies: {reason}; every policy deserialises every resource anew", file=sys.stderr)
        return False
    sdk.json_format = _Messages(sdk.json_format)
    for name in _REMEMBERED:
        setattr(sdk, name, _remembering(name, getattr(sdk, name)))
    servicer = cast("Any", vars(sdk)["_PolicyAnalyzerServicer"])
    for name in ("Analyze", "AnalyzeStack"):
        setattr(servicer, name, _with_memory(getattr(servicer, name)))
    # No policy here changes resources; the SDK would deserialise each once more to find that out.
    servicer.Remediate = _nothing_to_remediate
    del vars_of_proxy().__setitem__
    sdk.spillway_once = True
    return True


def vars_of_proxy() -> Any:
    """The SDK's proxy of objects, of which `props` and everything in it are made."""
    return vars(pulumi_policy.proxy)["_DictProxy"]


class _Messages:
    """Stands in for protobuf's json_format, of which the SDK uses one function."""

    def __init__(self, real: Any) -> None:
        self.MessageToDict = _remembering("MessageToDict", real.MessageToDict)


def _remembering(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def remembering(source: Any, *options: Any) -> Any:
        if _memory.made is None or options:
            return make(source, *options)
        key = (name, id(source))
        if key not in _memory.made:
            # The source is kept too, so that its identity stays its own.
            _memory.made[key] = (source, make(source))
        return _memory.made[key][1]

    return remembering


def _with_memory(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def remembered(*arguments: Any) -> Any:
        _memory.made = {}
        try:
            return method(*arguments)
        finally:
            _memory.made = None

    return remembered


def _nothing_to_remediate(*_: Any) -> proto.RemediateResponse:
    return proto.RemediateResponse()
