"""Waits until a model really serves what was declared, then warms it up. Runs in the cluster as a Job.

Ready on a RayService stays true through an in-place change and says nothing of the gateway, so
`pulumi up` ends with this program instead: Ray must report exactly the declared Serve config as
running and healthy (without Ray, vLLM the declared model and context length), and one chat request
must come back through the gateway with a client's key. The first request after a start takes tens of
seconds; it is sent here so that no user waits for it.

Standard library only, because it runs in the serving image. Settings come from the environment:
GATEWAY_URL, MODEL, TIMEOUT_SECONDS, and either DASHBOARD_URL, APPLICATION and ARGUMENTS_SHA256, or MODEL_URL
and CONTEXT_LENGTH. Secrets come as files, whose paths are in API_KEY_FILE and RAY_AUTH_TOKEN_FILE.
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

POLL_S = 2.0
REPEAT_LINE_S = 30.0
REQUEST_TIMEOUT_S = 300.0


class NotYetError(Exception):
    """What is still missing, in words."""


def fetch(url: str, headers: Mapping[str, str], body: object = None, timeout: float = 10.0) -> Any:
    """One JSON request; raises NotYetError with the answer's beginning for anything but success."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={**headers, "Content-Type": "application/json"})  # noqa: S310 - our own URLs
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        answer = error.read(300).decode(errors="replace")
        raise NotYetError(f"{url} answers {error.code}: {answer}") from None
    except (OSError, ValueError) as error:
        raise NotYetError(f"{url}: {error}") from None


def digest(arguments: object) -> str:
    """SHA-256 of an application's arguments; the order of keys does not count."""
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()


def check_application(applications: Mapping[str, Any], name: str, arguments_sha256: str) -> None:
    """Looks for the application with just these arguments in Ray's answer.

    Raises:
        NotYetError: It is not there, runs others, or is not healthy.
    """
    found = applications.get(name)
    if found is None:
        raise NotYetError(f"application {name} is not deployed yet")
    deployed: Mapping[str, Any] = found.get("deployed_app_config") or {}
    if digest(deployed.get("args")) != arguments_sha256:
        raise NotYetError(f"application {name} still runs an earlier config")
    details: Mapping[str, Any] = found.get("deployments") or {}
    deployments = {key: str(value.get("status")) for key, value in details.items()}
    if found.get("status") != "RUNNING" or set(deployments.values()) != {"HEALTHY"}:
        message = str(found.get("message") or "").strip().splitlines()
        detail = f": {message[-1]}" if message else ""
        raise NotYetError(f"application {name} is {found.get('status')} {deployments}{detail}")


def check_models(models: Sequence[Mapping[str, Any]], name: str, context_length: int) -> None:
    """Looks for the model with just this context length in vLLM's list; raises NotYetError without it."""
    lengths = {model.get("id"): model.get("max_model_len") for model in models}
    if name not in lengths:
        raise NotYetError(f"vLLM serves {', '.join(map(str, lengths)) or 'nothing'} and not yet {name}")
    if lengths[name] != context_length:
        raise NotYetError(f"{name} still has a context of {lengths[name]} and not of {context_length}")


def secret(env: Mapping[str, str], name: str) -> str:
    """The content of the file that a variable names; read each time, because a key may be made anew."""
    try:
        with open(env[f"{name}_FILE"], encoding="utf-8") as file:  # noqa: PTH123 - one import less to start with
            return file.read().strip()
    except OSError as error:
        raise NotYetError(f"{name}: {error}") from None


def check_server(env: Mapping[str, str]) -> None:
    """Asks what serves the model, Ray or vLLM itself; raises NotYetError unless it runs what was declared."""
    if "MODEL_URL" in env:
        answer = fetch(f"{env['MODEL_URL']}/v1/models", {})
        check_models(answer["data"], env["MODEL"], int(env["CONTEXT_LENGTH"]))
    else:
        ray_headers = {"x-ray-authorization": f"Bearer {secret(env, 'RAY_AUTH_TOKEN')}"}
        answer = fetch(f"{env['DASHBOARD_URL']}/api/serve/applications/", ray_headers)
        check_application(answer["applications"], env["APPLICATION"], env["ARGUMENTS_SHA256"])


def check_gateway(gateway: str, key: str, model: str) -> None:
    """Sends one chat request through the gateway; raises NotYetError unless it is answered."""
    answer = fetch(
        f"{gateway}/v1/chat/completions",
        {"Authorization": f"Bearer {key}"},
        {"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 4},
        timeout=REQUEST_TIMEOUT_S,
    )
    if not answer.get("choices"):
        raise NotYetError(f"the gateway answered without choices: {json.dumps(answer)[:300]}")


def main() -> int:
    """Polls until everything holds or the time is up; prints what is missing whenever that changes."""
    env = os.environ
    started = time.monotonic()
    limit = float(env["TIMEOUT_SECONDS"])
    last, printed = "", 0.0
    while True:
        seconds = time.monotonic() - started
        try:
            check_server(env)
            check_gateway(env["GATEWAY_URL"], secret(env, "API_KEY"), env["MODEL"])
        except NotYetError as missing:
            if str(missing) != last or seconds - printed > REPEAT_LINE_S:
                last, printed = str(missing), seconds
                print(f"{seconds:6.0f} s  waiting: {missing}", flush=True)
            if seconds > limit:
                print(f"{env['MODEL']} does not serve after {limit:.0f} s: {missing}", file=sys.stderr)
                return 1
            time.sleep(POLL_S)
        else:
            print(
                f"{seconds:6.0f} s  {env['MODEL']} serves the declared config through the gateway", flush=True
            )
            return 0


if __name__ == "__main__":
    sys.exit(main())
