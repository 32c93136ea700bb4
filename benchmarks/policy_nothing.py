"""An analyzer that judges nothing: what the engine and a Python process cost before any rule is applied."""

import os
import time
from concurrent import futures
from typing import Any, cast

import grpc  # pyright: ignore[reportMissingTypeStubs]

from runtime.pulumi_messages import skip_sdk


def serve() -> None:
    """Answers every call with nothing until the engine is gone."""
    engine = os.getppid()
    skip_sdk()
    from pulumi.runtime.proto import analyzer_pb2

    about = analyzer_pb2.AnalyzerInfo(name="nothing", supportsConfig=True).SerializeToString()

    class Nothing(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            answer = about if handler_call_details.method.endswith("/GetAnalyzerInfo") else b""

            def say(_request: bytes, _call: object) -> bytes:
                return answer

            return cast("Any", grpc).unary_unary_rpc_method_handler(say)

    server = cast("Any", grpc).server(
        futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", 400 << 20)]
    )
    server.add_generic_rpc_handlers((Nothing(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    while os.getppid() == engine:
        time.sleep(0.5)


if __name__ == "__main__":
    serve()
