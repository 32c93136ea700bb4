"""Serves a policy pack to the engine that started this process, until that engine is gone."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent import futures
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, cast

import grpc  # pyright: ignore[reportMissingTypeStubs]

from policies.enforcement import environment_of_config
from policies.judging import Judge
from policies.packs import RULE_NAMES
from policies.rule import AnyRule
from policies.waivers import WaiverError, waivers_of_stack
from runtime.pulumi_messages import skip_sdk

# The limit that the engine sets for its own end.
_MESSAGES: Final = [
    ("grpc.max_receive_message_length", 400 << 20),
    ("grpc.max_send_message_length", 400 << 20),
]
_LOOKS_S: Final = 0.5


def serve(pack: str, rules: Sequence[AnyRule]) -> NoReturn:
    """Serves a pack and never returns. For the `__main__` of a pack only; Pulumi starts that."""
    engine = os.getppid()
    # The engine interrupts what it no longer needs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    skip_sdk()
    from pulumi.runtime.proto.analyzer_pb2_grpc import add_AnalyzerServicer_to_server

    from policies.analyzer import PolicyAnalyzer  # Only now: it imports Pulumi's messages.

    try:
        # A language host names the stack in the environment, the engine itself in a call.
        waivers = waivers_of_stack(os.environ.get("PULUMI_STACK", ""), RULE_NAMES)
    except WaiverError as error:
        # The engine shows what a pack writes here when it does not start.
        print(error, file=sys.stderr)
        sys.exit(1)
    environment = environment_of_config(json.loads(os.environ.get("PULUMI_CONFIG") or "{}"))
    analyzer = PolicyAnalyzer(
        f"spillway-{pack.replace('_', '-')}", Judge(rules, waivers, datetime.now(UTC)), environment
    )
    # One thread: the engine asks one thing at a time, and a judge keeps a record.
    server = cast("Any", grpc).server(futures.ThreadPoolExecutor(1), options=_MESSAGES)
    add_AnalyzerServicer_to_server(analyzer, server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    while os.getppid() == engine:
        time.sleep(_LOOKS_S)
    os._exit(0)
