"""`python -m rehearsal.sagemaker_runtime FILE`: a double of the runtime API, until SIGTERM.

FILE has its endpoints; with `--follow URL` they are those of an account, and FILE says who answers for which
model.
"""

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from rehearsal.aws.clients import client
from rehearsal.sagemaker_runtime.double import Double, Endpoint, Variant, serving
from rehearsal.sagemaker_runtime.followed import UrlOf, following
from runtime.sagemaker.hosted import HostedRevision


def main() -> int:
    """Serves until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal.sagemaker_runtime", description=__doc__)
    parser.add_argument(
        "file",
        type=Path,
        help='{"ENDPOINT": {"variants": {"NAME": {"url": "http://HOST:PORT", "weight": 1}}, '
        '"components": {"NAME": {"url": …} or null}}}; with --follow {"MODEL REVISION", "MODEL" or "*": URL}',
    )
    parser.add_argument("--follow", metavar="URL", help="address of the AWS double whose endpoints it has")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; without it one that is free")
    parser.add_argument("--region", default="us-east-1", help="region that requests must be signed for")
    options = parser.parse_args()
    content = json.loads(options.file.read_text())
    if options.follow is None:
        asyncio.run(_serve(Double(read_endpoints(content), region=options.region), options.port))
        return 0
    sagemaker = client("sagemaker", options.follow, options.region)
    asyncio.run(_follow(Double({}, region=options.region), options.port, sagemaker, read_engines(content)))
    return 0


def read_endpoints(document: dict[str, Any]) -> dict[str, Endpoint]:
    """The endpoints of a file.

    Raises:
        TypeError: It has a key that is not known.
    """
    return {name: _endpoint(**described) for name, described in document.items()}


def read_engines(document: dict[str, str]) -> UrlOf:
    """Who answers for which model, the most exact entry first.

    Raises:
        KeyError: Nobody does; from what is returned.
    """

    def url_of(hosted: HostedRevision) -> str:
        for key in (f"{hosted.model} {hosted.revision}", hosted.model, "*"):
            if key in document:
                return document[key]
        raise KeyError(f"{hosted.model} {hosted.revision}: no engine answers for it")

    return url_of


def _endpoint(
    *, variants: dict[str, Any] | None = None, components: dict[str, Any] | None = None
) -> Endpoint:
    return Endpoint(
        variants={name: Variant(**one) for name, one in (variants or {}).items()},
        components={name: one and Variant(**one) for name, one in (components or {}).items()},
    )


async def _follow(double: Double, port: int, sagemaker: Any, url_of: UrlOf) -> None:
    async with following(double, sagemaker, url_of):
        await _serve(double, port)


async def _serve(double: Double, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(double, port=port) as url:
        print(url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    raise SystemExit(main())
