"""`python -m runtime.ops teardown --stack NAME`: takes a stack down and writes what is left."""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.cluster import ClusterApi, KubeconfigError, read_kubeconfig
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli, PulumiError
from runtime.ops.teardown.account import boto3_clients
from runtime.ops.teardown.certificate import Certificate, newest, verdict
from runtime.ops.teardown.journal import JournalError
from runtime.ops.teardown.ledger import Site
from runtime.ops.teardown.run import Reach, RefusedError, Teardown, Wishes
from runtime.ops.teardown.stack import PulumiStack
from runtime.ops.teardown.waiting import Patience

_ANSWER_S = 10.0


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 0 only if everything was looked at and nothing is left."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    cli = PulumiCli(options.project.absolute(), options.stack, os.environ)
    teardown = Teardown(
        PulumiStack(cli, options.stack, progress, options.config_file),
        options.folder.expanduser(),
        REACH,
        progress,
        Wishes(delete_data=options.delete_data, gone=dict.fromkeys(options.gone, "")),
        Patience(step_s=options.patience),
    )
    try:
        if options.plan:
            plan = teardown.plan()
            print(plan.text)
            return 1 if plan.refused else 0
        folder, stack = options.folder.expanduser(), options.stack
        if options.again:
            return looked_again(teardown, folder, stack)
        certificate = teardown.run()
        if certificate is None and newest(folder, stack) is not None:
            return looked_again(teardown, folder, stack)  # it is down already
        return told(certificate, folder, stack)
    except (RefusedError, JournalError, PulumiError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def told(certificate: Certificate | None, folder: Path, stack: str) -> int:
    """Prints a certificate and returns the exit status."""
    if certificate is None:
        print(f"stack {stack} has no resources, and no teardown of it was begun here: nothing was looked at")
        return 1
    print(f"\n{certificate.text()}\nwritten to {folder}")
    return 0 if certificate.clean else 1


def looked_again(teardown: Teardown, folder: Path, stack: str) -> int:
    """Looks once more for what is left, long after a teardown, and adds that to its certificate."""
    last = newest(folder, stack)
    if last is None:
        print(f"there is no certificate of stack {stack} in {folder}", file=sys.stderr)
        return 1
    certificate = last[1].and_again(teardown.look(last[1].ledger))
    certificate.write(folder)
    print(f"\n{certificate.text()}\nadded to {last[0]}: {verdict(certificate.sweeps[-1])}")
    return 0 if certificate.clean else 1


def reach_cluster(site: Site, content: str | None) -> ClusterApi:
    """The API of a cluster by its kubeconfig.

    Raises:
        KubeconfigError: There is none to reach it by.
    """
    if content is None:
        if site.kubeconfig is None:
            raise KubeconfigError(f"the state does not say any more how cluster {site.name} is reached")
        return ClusterApi(read_kubeconfig(Path(site.kubeconfig).expanduser(), site.context), _ANSWER_S)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(content)
        return ClusterApi(read_kubeconfig(file, site.context), _ANSWER_S)


REACH = Reach(api=reach_cluster, clients=boto3_clients)
"""How a stack's places are reached in earnest."""


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where journals and certificates are, unless somebody names another folder."""
    home = environment.get("SPILLWAY_HOME") or "~/.local/state/spillway"
    return Path(home).expanduser() / "teardown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.ops teardown", description=__doc__)
    parser.add_argument("--stack", required=True, help="the stack, as Pulumi names it")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="folder with Pulumi.yaml")
    parser.add_argument("--config-file", type=Path, help="stack file that Pulumi may write a salt to")
    parser.add_argument(
        "--folder",
        type=Path,
        default=default_folder(os.environ),
        help="where the journal is and the certificate is written (default: %(default)s)",
    )
    parser.add_argument("--plan", action="store_true", help="say what would go, and change nothing")
    parser.add_argument("--again", action="store_true", help="only look again, and add it to the certificate")
    parser.add_argument("--delete-data", action="store_true", help="data in claims and buckets may go")
    parser.add_argument("--gone", action="append", default=[], metavar="CLUSTER", help="it is gone for good")
    parser.add_argument(
        "--patience", type=float, default=Patience.step_s, help="seconds that a step may wait"
    )
    return parser
