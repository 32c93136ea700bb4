"""What the Makefile calls: `python -m rehearsal up|down|teardown|preview|comment|env|rehearse|stage`."""

import signal

if __name__ == "__main__":
    # Until the imports below are done there is nothing that Ctrl-C would have to stop in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import contextlib
import errno
import os
import stat
import sys
import urllib.parse
from pathlib import Path

from rehearsal.aws.clients import DoubleError
from rehearsal.endpoints.cycle import CycleError
from rehearsal.endpoints.processes import ServerError
from rehearsal.endpoints.scaling import NotDeclaredError
from rehearsal.platform import Platform, Running
from rehearsal.site import SiteError
from rehearsal.site.layout import DEFAULT_SITE
from rehearsal.state_files import StateFileError
from rehearsal.tools import ToolError
from rehearsal.workspace import WorkspaceError
from runtime.burst.store import StoreError
from runtime.cluster import ClusterError, KubeconfigError
from runtime.ops.chat import ChatError
from runtime.ops.deletions import DeletionError
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiError
from runtime.ops.staged_weights import StagingError
from runtime.ops.teardown.command import told
from runtime.ops.teardown.journal import JournalError
from runtime.ops.teardown.run import RefusedError, Wishes
from runtime.ops.teardown.waiting import Patience

_KNOWN = (
    WorkspaceError,
    StateFileError,
    SiteError,
    ToolError,
    PulumiError,
    StagingError,
    StoreError,
    DoubleError,
    ServerError,
    CycleError,
    NotDeclaredError,
    TimeoutError,
    ChatError,
    ClusterError,
    DeletionError,
    RefusedError,
    JournalError,
    KubeconfigError,
)

_STOPPED = 130
_COMMANDS = ("up", "down", "teardown", "preview", "comment", "env", "rehearse", "stage")


def main() -> int:
    """Runs one command; mistakes that the user can act on come out as one message, not as a traceback."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("--stack", default="local", help="stack name (default: local)")
    parser.add_argument("--site", default=DEFAULT_SITE, help="embedded site's name")
    parser.add_argument(
        "--simulated",
        action="store_true",
        help="on simulated nodes, with a stand-in engine",
    )
    parser.add_argument(
        "--from", dest="folder", type=Path, help="folder with weights, for stage, and for up with endpoints"
    )
    parser.add_argument("--plan", action="store_true", help="for teardown: say what would go, no more")
    parser.add_argument("--again", action="store_true", help="for teardown: only look again")
    parser.add_argument("--delete-data", action="store_true", help="for teardown: data goes too")
    parser.add_argument(
        "--gone", action="append", default=[], metavar="CLUSTER", help="for teardown: it is gone for good"
    )
    parser.add_argument("--patience", type=float, default=Patience.step_s, help="seconds a step may wait")
    parser.add_argument("--out", type=Path, help="file that comment writes, instead of standard output")
    arguments = parser.parse_args()
    simulated = arguments.simulated or arguments.command == "rehearse"
    try:
        platform = Platform(
            arguments.stack,
            arguments.site,
            Progress(),
            simulated=simulated,
            real_engine=arguments.command == "rehearse",
            patience=Patience(step_s=arguments.patience),
        )
        if arguments.command == "stage":
            print("\n".join(platform.stage(arguments.folder).lines))
            return 0
        if arguments.command == "comment":
            return platform.comment(arguments.out)
        if arguments.command == "teardown":
            return _teardown(arguments, platform)
        return _run(arguments.command, platform, arguments.folder)
    except _KNOWN as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{_in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return _STOPPED


def _run(command: str, platform: Platform, folder: Path | None) -> int:
    if command == "up":
        print(_summary(platform.up(folder), platform))
        return 0
    if command == "rehearse":
        running = platform.up()
        print(_rehearsed(running))
        if running is not None and (seen := platform.exercise(running)):
            print("\n".join(["", seen[0], *(f"  {line}" for line in seen[1:])]))
    if command in {"down", "rehearse"}:
        remains = platform.down()
        verdict = "Nothing is left:" if remains.clean else "Something is left:"
        print("\n".join(["", verdict, *(f"  {line}" for line in remains.lines)]))
        return 0 if remains.clean else 1
    if command == "preview":
        return platform.preview()
    print(f". {platform.prepare().environment_file}")
    return 0


def _teardown(arguments: argparse.Namespace, platform: Platform) -> int:
    wishes = Wishes(delete_data=arguments.delete_data, gone=dict.fromkeys(arguments.gone, ""))
    if arguments.plan:
        plan = platform.plan_teardown(wishes)
        print(plan.text)
        return 1 if plan.refused else 0
    certificate = platform.look_again() if arguments.again else platform.teardown(wishes)
    return told(certificate, platform.certificates, platform.workspace.stack)


def _rehearsed(running: Running | None) -> str:
    if running is None:
        return "\nIt came up in the AWS double. The stack declares no gateway, so there is nothing to ask."
    if running.namespace is None:
        chunks = running.answer.chunks if running.answer else 0
        return f"""
{running.workspace.rehearsal_of} came up in the AWS double. Envoy, the adapter and vLLM are real, and are told
what it declares. AWS, Fargate and images are not there, and the models are tiny ones on the CPU.
  {running.model} answered through the gateway, {chunks} chunks
"""
    places = "\n".join(f"  {line}" for line in running.simulated)
    said = (
        f"{running.model} answered through the gateway: {running.answer.text}"
        if running.answer
        else f"the check inside the cluster got an answer from {running.model} through the gateway"
    )
    engine = (
        "no model ran"
        if running.workspace.weights is None
        else f"on-prem vLLM ran a tiny model as {running.model}; in the cloud none ran"
    )
    return f"""
{running.workspace.rehearsal_of} came up on simulated nodes. Operator and gateway are real; {engine}.
{places}
  {said}
"""


def _summary(running: Running | None, platform: Platform) -> str:
    stack = platform.workspace.stack
    if running is None and not platform.is_foundation:
        return f"""
The endpoints are in service, says AWS. The stack declares no gateway; they speak SageMaker's own API, signed:
  pulumi stack output endpoints    after . {platform.workspace.environment_file}"""
    if running is None:
        return f"""
What endpoints stand on is up. Next:
  make stage STACK={stack}       images to ECR, weights to S3
  then remove `declare: foundation` from stacks/Pulumi.{stack}.yaml, and make up STACK={stack}"""
    workspace, stack = running.workspace, running.workspace.stack
    base = running.endpoint
    if running.answer is not None:
        answer = running.answer
        verdict = f"{running.model} answered {answer.chunks} chunks in {answer.total_s:.2f} s"
        reach = ""
    elif running.namespace is not None:
        verdict = f"its own check got an answer from {running.model} through the gateway, inside the cluster"
        # The endpoint is a Service; from here it takes a forward, or the ingress of the cluster.
        host = urllib.parse.urlsplit(base).hostname or ""
        service = f"svc/{host.partition('.')[0]} 8080:80"
        reach = f"\n  from here kubectl -n {running.namespace} port-forward {service}, or your ingress"
        base = "http://localhost:8080"
    else:
        verdict = f"AWS says that endpoints and gateway are in service; {running.model} was not asked"
        reach = "\n  from      inside the VPC, or a network that is connected to it"
    if running.namespace is None:
        secret = f"AWS Secrets Manager, {running.api_key_secret}, key {running.client}"
    else:
        secret = f"Secret {running.namespace}/{running.api_key_secret}, key {running.client}"
    site = running.site and f"\n  site      make site-status SITE={running.site}"
    return f"""
The platform is up: {verdict}.

  endpoint  {running.endpoint}/v1{reach}
  API key   {secret}; or, after this:
            export API_KEY=$(pulumi stack output apiKey --show-secrets)
  shell     . {workspace.environment_file}{site or ""}

Ask it:
  curl -N {base}/v1/chat/completions -H "Authorization: Bearer $API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{running.model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

  import os
  from openai import OpenAI
  client = OpenAI(base_url="{base}/v1", api_key=os.environ["API_KEY"])
  client.chat.completions.create(model="{running.model}", messages=[{{"role": "user", "content": "Hello"}}])

Change it: edit stacks/Pulumi.{stack}.yaml, then
  make preview STACK={stack}     what would change, with the policy result
  make up STACK={stack}          the change
  make down STACK={stack}        everything away again
With the shell line above, plain `pulumi preview`, `up`, `destroy` and `stack output` work too."""


def _in_words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{where}the disk is full; free some space and run the same command again, it goes on from here"
        )
    return f"{where}{error.strerror or error}"


def _stop_in_order(*_: object) -> None:
    raise KeyboardInterrupt


def _stop_unseen(*_: object) -> None:
    """Stops in order after the terminal was closed: writing to it would fail, and end this in the middle."""
    for output in (sys.stdout.fileno(), sys.stderr.fileno()):
        if not stat.S_ISREG(os.fstat(output).st_mode):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    raise KeyboardInterrupt


def stop_on_signals() -> None:
    """Has Ctrl-C, a `kill` and a closed terminal end this in order: Pulumi stops, and its state is kept."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _stop_in_order)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _stop_unseen)


if __name__ == "__main__":
    stop_on_signals()
    status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if status == _STOPPED:
        # Not sys.exit: it waits for threads that still end what they had begun, and one more Ctrl-C
        # meanwhile would show a traceback.
        os._exit(status)
    sys.exit(status)
