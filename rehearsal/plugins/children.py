"""The processes that the language host starts: programs, policy packs and component plugins."""

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence


class Children:
    """Starts processes and makes sure that none of them outlives its purpose.

    They stay in the host's process group, which is what the engine signals when it ends the host.
    """

    def __init__(self, grace_s: float = 3.0) -> None:
        """Starts with none.

        Args:
            grace_s: Seconds that a process has to end when it is asked to, before it is killed. Shorter
                than the five that the engine gives the host itself.
        """
        self.grace_s = grace_s
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def start(
        self, command: Sequence[str], cwd: str, env: Mapping[str, str], *, captured: bool
    ) -> subprocess.Popen[bytes]:
        """Starts `command` in the folder `cwd`.

        Args:
            command: Program and arguments.
            cwd: The working directory.
            env: The whole environment.
            captured: Give its stdout and stderr to the caller as pipes, else they are the host's own,
                which the engine shows to the user line by line.

        Raises:
            OSError: The program cannot be started.
        """
        pipe = subprocess.PIPE if captured else None
        child = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        with self._lock:
            self._running.add(child)
        return child

    def wait(self, child: subprocess.Popen[bytes]) -> int:
        """Waits for the end of `child`: its exit status, or minus the signal that ended it."""
        try:
            return child.wait()
        finally:
            with self._lock:
                self._running.discard(child)

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """Asks `child` to end, and kills it if it has not after `grace_s`. Does not wait."""
        if child.poll() is not None:
            return
        child.terminate()
        killer = threading.Timer(self.grace_s, child.kill)
        killer.daemon = True
        killer.start()

    def kill_all(self) -> None:
        """Kills all that still run, at once: for the end of the host itself."""
        with self._lock:
            for child in self._running:
                child.kill()


def how_it_ended(status: int) -> str:
    """An exit status in words, as the official host says it; empty for success."""
    if status == 0:
        return ""
    if status > 0:
        return f"Program exited with non-zero exit code: {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"Program was ended by {name}"
