"""What the Makefile calls: `python -m rehearsal up|down|preview|env`."""

import argparse
import signal
import subprocess
import sys

from rehearsal.platform import Platform, Running, policy_arguments
from rehearsal.site import SiteError
from rehearsal.site.layout import DEFAULT_SITE
from rehearsal.tools import ToolError
from rehearsal.workspace import PROJECT, WorkspaceError
from runtime.ops.chat import ChatError
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiError

_KNOWN = (WorkspaceError, SiteError, ToolError, PulumiError, ChatError)


def main() -> int:
    """Runs one command; mistakes that the user can act on come out as one message, not as a traceback."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "preview", "env"])
    parser.add_argument("--stack", default="local", help="stack name (default: local)")
    parser.add_argument("--site", default=DEFAULT_SITE, help="embedded site's name")
    arguments = parser.parse_args()
    try:
        return _run(arguments.command, Platform(arguments.stack, arguments.site, Progress()))
    except _KNOWN as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def _run(command: str, platform: Platform) -> int:
    if command == "up":
        print(_summary(platform.up()))
        return 0
    if command == "down":
        remains = platform.down()
        verdict = "Nothing is left:" if remains.clean else "Something is left:"
        print("\n".join(["", verdict, *(f"  {line}" for line in remains.lines)]))
        return 0 if remains.clean else 1
    workspace = platform.prepare()
    if command == "env":
        print(f". {workspace.environment_file}")
        return 0
    file = str(workspace.copy_stack_file())
    options = ["--stack", workspace.stack, "--diff", "--config-file", file, *policy_arguments(workspace)]
    return subprocess.run(
        ["pulumi", "preview", *options], cwd=PROJECT, env=workspace.environment(), check=False
    ).returncode


def _summary(running: Running) -> str:
    workspace = running.workspace
    namespace, secret = running.api_key_secret.split("/")
    stack = workspace.stack
    stop = (
        "" if running.site is None else f"\n  site      python -m rehearsal.site status --site {running.site}"
    )
    return f"""
The platform is up: {running.model} answered {running.answer.chunks} chunks in {running.answer.total_s:.2f} s.

  endpoint  {running.endpoint}/v1
  API key   Secret {namespace}/{secret}, key {running.client}; or, after the line below:
            API_KEY=$(pulumi stack output apiKey --show-secrets)
  shell     . {workspace.environment_file}{stop}

Ask it:
  curl -N {running.endpoint}/v1/chat/completions -H "Authorization: Bearer $API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{running.model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{running.endpoint}/v1", api_key=os.environ["API_KEY"])
  client.chat.completions.create(model="{running.model}", messages=[{{"role": "user", "content": "Hello"}}])

Change it: edit stacks/Pulumi.{stack}.yaml, then
  make preview STACK={stack}     what would change, with the policy result
  make up STACK={stack}          the change
  make down STACK={stack}        everything away again
With the shell line above, plain `pulumi preview`, `up`, `destroy` and `stack output` work too."""


def _stop_in_order(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # What Ctrl-C does, a `kill` does too: Pulumi ends in order and its state is kept.
    signal.signal(signal.SIGTERM, _stop_in_order)
    sys.exit(main())
