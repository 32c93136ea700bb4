"""One run: the fault, what the user can read, the next command, and what must hold after it."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.driven import Driven, Evidence, shown
from tests.faults.matrix import NotStruckError, Scene
from tests.faults.plan import PlannedRun
from tests.faults.terminal import Terminal

# A user who sees nothing move looks at the status and presses Ctrl-C.
PATIENCE_S = 25.0
STOPPING_S = 150.0
COMMAND_S = 900.0
_UNREADABLE = re.compile(r"Traceback \(most recent|panic: |goroutine \d+ \[")

# A moment of each phase at which the site, the operator and the gateway run.
_ALWAYS_THERE = {"up": r"(RayService|Job) \S+ since", "change": "", "idle": "", "down": ""}


@dataclass
class Outcome:
    """What one run showed.

    Attributes:
        fault: Name of the fault.
        phase: What was under way.
        stage: After which progress line.
        delay_s: How long after it.
        seed: Of the run.
        struck: Whether there was something to strike.
        told: Whether command or status said what was wrong in the words that were expected.
        readable: Whether nothing was shown that is no message: tracebacks, panics.
        recovered: Whether the next command finished, at the first try.
        attempts: How many tries it took.
        recovery_s: Seconds that the next command took.
        lost: What state and cluster do not agree on.
        leftovers: What should not be there.
        output: What the user saw at the end of each command, for reading afterwards.
        note: What was struck, where chance decided.
    """

    fault: str
    phase: str
    stage: str
    delay_s: float
    seed: int
    struck: bool = True
    told: bool = True
    readable: bool = True
    recovered: bool = False
    attempts: int = 0
    recovery_s: float = 0.0
    lost: list[str] = field(default_factory=list[str])
    leftovers: list[str] = field(default_factory=list[str])
    output: dict[str, str] = field(default_factory=dict[str, str])
    note: str = ""

    def add(self, evidence: Evidence) -> None:
        """Adds what was found."""
        self.lost += evidence.lost
        self.leftovers += evidence.leftovers

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, one line each."""
        found = [f"lost: {one}" for one in self.lost] + [f"left over: {one}" for one in self.leftovers]
        if not self.recovered:
            found.append(f"the next command did not finish at the first of {self.attempts} tries")
        if not self.told:
            found.append("neither the command nor the status says what is wrong")
        if not self.readable:
            found.append("something was shown that is no message")
        return found


class Drill:
    """Runs one planned run after another on one platform."""

    def __init__(self, driven: Driven, say: Callable[[str], None]) -> None:
        self._driven = driven
        self._say = say
        self.is_up = False

    def run(self, planned: PlannedRun) -> Outcome:
        """Does one run and leaves the platform up, or down after a `down`."""
        outcome = self._strike(planned, planned.stage)
        if not outcome.struck:
            # That moment did not come this time, or too early for what was to be struck.
            outcome = self._strike(planned, _ALWAYS_THERE[planned.phase])
        return outcome

    def end(self) -> tuple[bool, Evidence, str]:
        """Takes the platform down; returns whether that went well, what is left, and what was shown."""
        terminal = self._driven.start("down")
        finished = terminal.wait(COMMAND_S) and terminal.process.returncode == 0
        self.is_up = False
        return finished, self._driven.ended_evidence(), shown(terminal.text)

    def _strike(self, planned: PlannedRun, stage: str) -> Outcome:
        driven, fault, phase = self._driven, planned.fault, planned.phase
        outcome = Outcome(fault.name, phase, stage, planned.delay_s, planned.seed)
        self._make_ready(phase)
        chance = random.Random(planned.seed)
        if phase == "change":
            driven.change()
        scene = Scene(driven, chance, None)
        if phase != "idle":
            scene.terminal = driven.start("down" if phase == "down" else "up")
            if stage:
                scene.terminal.until(stage, COMMAND_S)
            time.sleep(planned.delay_s)
        try:
            fault.strike(scene)
        except NotStruckError:
            outcome.struck = False
        texts = self._watch(scene, outcome, stops=fault.command_stops)
        for undo in scene.undo:
            undo()
        outcome.note = scene.note.strip()
        outcome.readable = not any(_UNREADABLE.search(text) for text in texts)
        # A command that had just done all of its work has nothing to say of a Ctrl-C.
        was_done = scene.terminal is not None and scene.terminal.process.returncode == 0
        outcome.told = (
            fault.words is None
            or (fault.command_stops and was_done)
            or any(re.search(fault.words, text) for text in texts)
        )
        if phase == "down":
            driven.forget_destroyed_key()
        self._recover("down" if phase == "down" and chance.random() < 0.5 else "up", outcome)
        return outcome

    def _make_ready(self, phase: str) -> None:
        if phase == "up" and self.is_up:
            self.end()
        if phase != "up" and not self.is_up:
            terminal = self._driven.start("up")
            assert terminal.wait(COMMAND_S), shown(terminal.text)
            assert terminal.process.returncode == 0, shown(terminal.text)
            self.is_up = True
            self._driven.running_evidence()

    def _watch(self, scene: Scene, outcome: Outcome, *, stops: bool) -> list[str]:
        """Waits as a user would, and returns everything that was shown."""
        terminal = scene.terminal
        if terminal and (stops or scene.others):
            for one in (terminal, *scene.others):
                if not one.wait(COMMAND_S if scene.others else STOPPING_S):
                    outcome.leftovers.append(f"the command did not end: {shown(one.text)[-300:]}")
                    one.process.kill()
                    one.wait(10.0)
        else:
            time.sleep(2.0)
        status = self._driven.status()
        if terminal and not terminal.wait(PATIENCE_S):
            status += self._driven.status()
            terminal.ctrl_c()
            outcome.note += " Ctrl-C after some patience;"
            if not terminal.wait(STOPPING_S):
                outcome.leftovers.append("the command did not end at Ctrl-C")
                terminal.process.kill()
                terminal.wait(10.0)
        outcome.output["status"] = status
        texts = [status]
        for number, one in enumerate(one for one in (terminal, *scene.others) if one):
            outcome.output["command" if number == 0 else "the other"] = shown(one.text)
            texts.append(one.text)
        return texts

    def _recover(self, command: str, outcome: Outcome) -> None:
        for attempt in (1, 2, 3):
            started = time.monotonic()
            terminal: Terminal = self._driven.start(command)
            finished = terminal.wait(COMMAND_S)
            if not finished:
                terminal.process.kill()
                terminal.wait(10.0)
            good = finished and terminal.process.returncode == 0
            if command == "up":
                good = good and "answered" in terminal.text
            outcome.attempts = attempt
            outcome.output[f"{command} {attempt}"] = shown(terminal.text)
            if _UNREADABLE.search(terminal.text):
                outcome.readable = False
            if good:
                outcome.recovered = attempt == 1
                outcome.recovery_s = round(time.monotonic() - started, 1)
                break
            self._say(f"    try {attempt} failed: {shown(terminal.text)[-600:]}")
        self.is_up = command == "up"
        outcome.add(self._driven.running_evidence() if self.is_up else self._driven.ended_evidence())
