"""An engine that streams what it is asked for, at a pace: what is measured is the way, not a model."""

import argparse
import asyncio
import json

from aiohttp import web


def application(pause_s: float) -> web.Application:
    """The part of OpenAI's API that `benchmarks.load` uses, and /healthz.

    Args:
        pause_s: Time before each token.
    """

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(body["max_tokens"]):
            if pause_s:
                await asyncio.sleep(pause_s)
            choice = {"index": 0, "text": f" {number}", "finish_reason": None}
            await response.write(_event({"choices": [choice]}))
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"]}
        await response.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        return response

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    served = web.Application()
    served.router.add_post("/v1/completions", complete)
    served.router.add_get("/healthz", health)
    return served


def _event(document: object) -> bytes:
    return f"data: {json.dumps(document)}\n\n".encode()


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming_engine", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--pause-s", type=float, default=0.0, help="time before each token")
    options = parser.parse_args()
    web.run_app(
        application(options.pause_s), host="127.0.0.1", port=options.port, access_log=None, print=None
    )


if __name__ == "__main__":
    main()
