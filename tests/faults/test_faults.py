"""Every fault, drawn at random: the user is told, the next command finishes, and nothing is lost or left.

`make test-faults`. FAULT_SEED draws other moments, FAULT_RUNS says how many, FAULT_ENGINE=real serves with
vLLM (two minutes a run) in place of the stand-in, FAULT_LEDGER names the file for the counts.
"""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.faults.drill import Drill
from tests.faults.driven import Driven, mount_home, private_cache, unmount_home
from tests.faults.ledger import RESULTS, Ledger
from tests.faults.plan import PlannedRun, plan

SEED = int(os.environ.get("FAULT_SEED", "1"))
RUNS = int(os.environ.get("FAULT_RUNS", "104"))
ENGINE = os.environ.get("FAULT_ENGINE", "simulated")
LEDGER = Path(os.environ.get("FAULT_LEDGER", RESULTS / f"faults-seed-{SEED}.json"))
FIRST = int(os.environ.get("FAULT_FIRST", "0"))

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger(LEDGER, seed=SEED, engine=ENGINE)


@pytest.fixture(scope="module")
def drill() -> Generator[Drill]:
    # Not pytest's own folder: sockets below it would have too long a path.
    home = Path(tempfile.mkdtemp(prefix="flt-"))
    cache = Path(tempfile.mkdtemp(prefix="flt-cache-"))
    mount_home(home)
    simulated = ENGINE == "simulated"
    tools = private_cache(cache / "c", "envoy") if simulated else None
    driven = Driven(home, f"flt-{os.getpid()}", simulated=simulated, cache=tools)
    drill = Drill(driven, say)
    try:
        yield drill
    finally:
        drill.end()
        driven.stack_file.unlink(missing_ok=True)
        unmount_home(home)
        home.rmdir()
        shutil.rmtree(cache)


def say(text: str) -> None:
    print(text, flush=True)


@pytest.mark.parametrize(
    "planned", plan(SEED, RUNS, simulated=ENGINE == "simulated")[FIRST:], ids=lambda planned: planned.title
)
def test_the_user_is_told_the_next_command_finishes_and_nothing_is_lost_or_left(
    planned: PlannedRun, drill: Drill, ledger: Ledger
) -> None:
    outcome = drill.run(planned)
    if planned.phase == "down" and drill.is_up:
        finished, evidence, text = drill.end()
        outcome.add(evidence)
        outcome.output["down"] = text
        outcome.recovered = outcome.recovered and finished
    ledger.add(outcome)
    assert outcome.struck, "there was nothing to strike"
    assert not outcome.problems, outcome.output
