"""`python -m runtime.ops leftovers`: what of a stack is in AWS where its state is lost, by tags and names.

It changes nothing, and it never calls anything clean: what only the state knew by its id cannot be asked for.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.teardown.account import AccountError, Clients, LiveCloud, boto3_clients
from runtime.ops.teardown.findings import Look, Sweep
from runtime.ops.teardown.ledger import Cloud
from runtime.ops.teardown.questions import ONLY_THE_STATE_KNEW
from runtime.ops.teardown.sweep import CloudSweep


def main(arguments: Sequence[str]) -> int:
    """Runs the command; never 0, because nothing is proven."""
    options = _parser().parse_args(arguments)
    cloud = Cloud(
        account=options.account,
        region=options.region,
        stack=options.stack,
        platform=options.platform,
        clusters=(options.platform,),
    )
    try:
        print("\n".join(found(cloud, boto3_clients)))
    except (AccountError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
    return 1


def found(cloud: Cloud, clients: Callable[[Cloud], Clients]) -> Iterator[str]:
    """What bears the stack's tags and names, a line each, the dearest first, and what it stands on.

    Args:
        cloud: Account, region and tags.
        clients: How to ask.

    Raises:
        AccountError: The credentials are another account's.
    """
    live = LiveCloud(cloud, clients(cloud))
    live.require_account()
    looks = tuple(map(_unknown, CloudSweep(cloud, live.clients).looks()))
    sweep = Sweep("", looks)
    yield f"{len(sweep.left)} found, ${sweep.usd_per_hour:.4f}/h of what has a price"
    yield from (f"  {one.words}" for one in (*sweep.left, *sweep.ending))
    yield "This is no certificate: without the state nothing is proven of"
    yield from (f"  {look.words}" for look in sweep.unproven)
    yield "  clusters outside of AWS, and what has no tag of the stack's"


def _unknown(look: Look) -> Look:
    if look.problem or not look.query.endswith(ONLY_THE_STATE_KNEW):
        return look
    return replace(look, problem="their ids were in the state")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.ops leftovers", description=__doc__)
    parser.add_argument(
        "--stack", required=True, help="value of the tag spillway:stack, as organization/spillway/hybrid"
    )
    parser.add_argument("--platform", required=True, help="value of spillway:platform, as llm-burst")
    parser.add_argument("--account", required=True, help="its 12 digits")
    parser.add_argument("--region", required=True, help="one region; ask for each")
    return parser
