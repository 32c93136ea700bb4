"""Starts a Python policy pack once the engine has said for which stack, and stands in front of it.

The engine names the stack in a call to the running pack (`ConfigureStack`), but the Python SDK wants it in
environment variables at start. So the engine talks to this server, which starts the pack at the first call
that needs it and passes every later call on unread. The official host does the same (`PolicyProxy` in
sdk/policy_proxy.go); without it `pulumi.get_stack()` and config fail in a pack.
"""

import json
import threading
from collections.abc import Callable
from typing import Any, cast

import grpc  # pyright: ignore[reportMissingTypeStubs]
from pulumi.runtime.proto import analyzer_pb2

from rehearsal.plugins.serving import CHANNEL_OPTIONS, Call, Server, refuse

_SERVICE = "/pulumirpc.Analyzer/"
_LAST_ANSWERS_S = 5.0


def stack_variables(stack: analyzer_pb2.AnalyzerStackConfigureRequest) -> dict[str, str]:
    """The environment variables that tell the Python SDK about `stack` (`constructEnv`)."""
    variables = {
        "PULUMI_ORGANIZATION": stack.organization,
        "PULUMI_PROJECT": stack.project,
        "PULUMI_STACK": stack.stack,
        "PULUMI_DRY_RUN": "true" if stack.dry_run else "false",
        "PULUMI_CONFIG": json.dumps(dict(stack.config)),
    }
    return {name: value for name, value in variables.items() if value}


class PolicyPackProxy:
    """The server in front of one pack."""

    def __init__(self) -> None:
        """Starts serving on `port`."""
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._settled = threading.Event()
        self._stack: analyzer_pb2.AnalyzerStackConfigureRequest | None = None
        self._channel: Any = None
        self._problem = ""
        self._server = Server(self._register)
        self.port = self._server.port

    def wait_until_wanted(self) -> dict[str, str]:
        """Waits for the engine's first call: the environment variables to start the pack with."""
        self._wanted.wait()
        return stack_variables(self._stack) if self._stack else {}

    def attach(self, port: int) -> None:
        """Passes calls on to the pack that listens on `port`."""
        self._channel = cast("Any", grpc).insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self._settled.set()

    def fail(self, problem: str) -> None:
        """Answers every call from now on with `problem`, unless a pack is attached.

        The first problem stays: it is the reason, later ones follow from it.
        """
        with self._lock:
            self._problem = self._problem or problem
        self._wanted.set()
        self._settled.set()

    def close(self) -> None:
        """Ends the server, a little later: the engine may only now ask, and is to be told the reason."""
        self.fail("the policy pack has ended")
        later = threading.Timer(_LAST_ANSWERS_S, self._server.stop)
        later.daemon = True
        later.start()

    def _register(self, server: Any) -> None:
        proxy = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details: Any) -> Any:
                return proxy.handler(handler_call_details.method)

        server.add_generic_rpc_handlers((Handler(),))

    def handler(self, method: str) -> Any:
        """Grpc's handler for the method of that path, none if it is not one of a policy pack's."""
        if not method.startswith(_SERVICE):
            return None
        own: dict[str, Callable[[bytes, Call], bytes]] = {
            "Handshake": self._handshake,
            "ConfigureStack": self._configure_stack,
            "Cancel": self._cancel,
        }

        def pass_on(request: bytes, call: Call) -> bytes:
            return self._pass_on(method, request, call)

        # No serializers: requests and answers stay the bytes they are, whatever a later SDK puts in them.
        return cast("Any", grpc).unary_unary_rpc_method_handler(own.get(method[len(_SERVICE) :], pass_on))

    def _handshake(self, _request: bytes, _call: Call) -> bytes:
        return analyzer_pb2.AnalyzerHandshakeResponse().SerializeToString()

    def _configure_stack(self, request: bytes, _call: Call) -> bytes:
        with self._lock:
            if not self._wanted.is_set():
                self._stack = analyzer_pb2.AnalyzerStackConfigureRequest.FromString(request)
                self._wanted.set()
        return analyzer_pb2.AnalyzerStackConfigureResponse().SerializeToString()

    def _cancel(self, _request: bytes, _call: Call) -> bytes:
        # Advisory, and packs of SDK 1.21 do not implement it. What ends a pack is the end of RunPlugin.
        return b""

    def _pass_on(self, method: str, request: bytes, call: Call) -> bytes:
        with self._lock:
            self._wanted.set()
        self._settled.wait()
        if self._channel is None:
            refuse(call, self._problem)
        try:
            return self._channel.unary_unary(method)(request)
        except grpc.RpcError as e:
            error = cast("Any", e)
            call.abort(error.code(), error.details())
