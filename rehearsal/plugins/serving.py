"""What every plugin process needs: a server, the port line, and an end when its engine ends."""

import logging
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NoReturn, Protocol

import grpc  # pyright: ignore[reportMissingTypeStubs]

MAX_MESSAGE_BYTES = 400 << 20
"""The limit that the engine and the SDK set for their own ends (`_GRPC_CHANNEL_OPTIONS`)."""

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

# Threads are made only as calls need them. A program or a policy pack holds one for as long as it runs.
_WORKERS = 64


class Call(Protocol):
    """The part of grpc's `ServicerContext` that the plugins use."""

    def abort(self, code: Any, details: str) -> NoReturn:
        """Ends the call with an error, by raising."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls back once when the call has ended for any reason; false when it already has."""
        ...


def refuse(call: Call, message: str) -> NoReturn:
    """Ends the call with `message` for the user, as a mistake that the user can repair."""
    call.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
    raise AssertionError("abort raises")


def not_served(call: Call, message: str) -> NoReturn:
    """Ends the call with `message`, as something that this plugin does not offer at all."""
    call.abort(grpc.StatusCode.UNIMPLEMENTED, message)
    raise AssertionError("abort raises")


class Server:
    """A gRPC server on a free loopback port, running until it is stopped."""

    def __init__(self, register: Callable[[Any], None]) -> None:
        """Starts serving what `register` adds to the server it is given."""
        # The generated base class raises for calls that a plugin leaves out; grpc then answers
        # UNIMPLEMENTED, which the engine expects, and also logs a traceback, which its user must not see.
        logging.getLogger("grpc._server").addFilter(_is_not_an_absent_method)
        self._server: Any = grpc.server(futures.ThreadPoolExecutor(_WORKERS), options=CHANNEL_OPTIONS)
        register(self._server)
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        """Refuses new calls and ends the running ones."""
        self._server.stop(grace=None)


def _is_not_an_absent_method(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.exc_info[0] is NotImplementedError)


def serve(register: Callable[[Any], None], on_end: Callable[[], None] = lambda: None) -> NoReturn:
    """Serves until the engine interrupts this process or is gone, then ends every process of its group.

    The engine makes each plugin the leader of a process group and, to end it, interrupts the group and
    waits five seconds (`ExecPlugin` in sdk/go/common/resource/plugin/plugin.go).

    Args:
        register: Adds the service to the server.
        on_end: Called once before the process ends; must be quick and not raise.
    """
    over = threading.Event()

    def interrupted(_signal: int, _frame: object) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    threading.Thread(target=_wait_for_engine_to_go, args=(over.set,), daemon=True).start()
    server = Server(register)
    print(server.port, flush=True)
    over.wait()
    on_end()
    if os.getpgrp() == os.getpid():
        # What programs started themselves ends too. This process is one of the group.
        os.killpg(0, signal.SIGKILL)
    # Not sys.exit: it would wait for worker threads, each of which waits for a child or for the engine.
    os._exit(0)


def _wait_for_engine_to_go(report: Callable[[], None]) -> None:
    """Reports once when the process that started this one is gone, also when it was killed.

    The engine holds the other end of our stdin and never writes to it, so the end of stdin is the end of
    the engine. Where stdin is something else (started by hand, by a test) the parent process is watched.
    """
    parent = os.getppid()
    try:
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            while os.read(0, 4096):
                pass
            report()
            return
    except OSError:
        pass  # No stdin at all.
    while os.getppid() == parent:
        time.sleep(0.5)
    report()


def engine_address(arguments: Sequence[str]) -> str:
    """The engine's address: it comes last, behind flags for logging (`buildPluginArguments`)."""
    if not arguments or arguments[-1].startswith("-"):
        print("this is a Pulumi plugin: the engine starts it, with its own address", file=sys.stderr)
        raise SystemExit(2)
    return arguments[-1]
