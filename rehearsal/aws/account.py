"""The double of one state home: start, stop, look, script, and what is left in it.

It is a process of its own with a record on disk, as the components of a site are. Killed and started again
it has the same port and everything that it answered before.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rehearsal.aws import ACCOUNT
from rehearsal.aws.clients import DoubleError, page
from rehearsal.aws.leftovers import leftovers, stored
from rehearsal.site.processes import ProcessIdentity, end

START_S = 60.0
"""How long a start may take; moto is about a second of imports on a quiet machine."""


class AwsDouble:
    """The AWS double of a state home.

    Attributes:
        folder: Where its state, its log and its record are.
    """

    def __init__(self, home: Path) -> None:
        """Names the double of a state home; starts nothing.

        Args:
            home: Spillway's state home.
        """
        self.folder = home.absolute() / "aws"

    @property
    def log(self) -> Path:
        """What the process said: tracebacks of calls that moto does not know."""
        return self.folder / "log"

    @property
    def endpoint(self) -> str:
        """Its address; the same for the whole life of the home.

        Raises:
            DoubleError: It was never started here.
        """
        try:
            return f"http://127.0.0.1:{int((self.folder / 'port').read_text())}"
        except (FileNotFoundError, ValueError):
            raise DoubleError(
                "the AWS double was never started here: python -m rehearsal.aws start"
            ) from None

    @property
    def environment(self) -> Mapping[str, str]:
        """What sends an AWS SDK, and the stand-in provider, to the double and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_EC2_METADATA_DISABLED": "true",
            # Profiles and keys of the user stay out of it.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def pid(self) -> int | None:
        """The process that serves it; None while it does not run."""
        identity = self._identity()
        return identity.pid if identity and identity.running() else None

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            return page(self.endpoint, "GET", "health", timeout_s=5)["pid"] == self.pid
        except DoubleError:
            return False

    def reserve_port(self) -> None:
        """Chooses the port that `endpoint` names from then on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "port").exists():
            self._port()

    def start(self) -> str:
        """Starts it if it does not run, and returns its address when it answers.

        Raises:
            DoubleError: It did not come up, or its port is another's now.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pid is None:
            port = self._port()
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "rehearsal.aws", "serve", str(self.folder), str(port)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            identity = ProcessIdentity.of(process.pid)
            if identity is not None:
                self._record.write_text(json.dumps(asdict(identity)))
        deadline = time.monotonic() + START_S
        while not self.is_healthy():
            if self.pid is None or time.monotonic() > deadline:
                raise DoubleError(f"the AWS double did not start; its log: {self.log}\n{self._last_words()}")
            time.sleep(0.1)
        return self.endpoint

    def stop(self, *, forget: bool = True) -> None:
        """Ends it.

        Args:
            forget: Whether to remove all that it holds, port included. Without it a later start goes on.

        Raises:
            DoubleError: It does not end.
        """
        identity = self._identity()
        if identity and end([identity], grace_s=2):
            raise DoubleError(f"the AWS double does not end: process {identity.pid}")
        if forget:
            shutil.rmtree(self.folder, ignore_errors=True)

    def put_script(self, script: Mapping[str, Any]) -> None:
        """Tells it what to do wrong from now on, in place of what it was told before.

        Args:
            script: As `rehearsal.aws.capacity.Script`, in camelCase; empty for nothing.

        Raises:
            DoubleError: The script is wrong, with what is wrong in it.
        """
        page(self.endpoint, "PUT", "script", dict(script))

    def script(self) -> dict[str, Any]:
        """What it is told to do wrong now, as `put_script` takes it."""
        return page(self.endpoint, "GET", "script")

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are there now; see `rehearsal.aws.node_groups.nodes`."""
        return page(self.endpoint, "GET", "nodes")["nodes"]

    def node_groups(self) -> list[dict[str, Any]]:
        """The node groups and what became of their wishes; see `rehearsal.aws.node_groups.summaries`."""
        return page(self.endpoint, "GET", "node-groups")["nodeGroups"]

    def leftovers(self) -> list[str]:
        """What is left in the account, one line each, and in the store of the stand-in provider."""
        return leftovers(self.endpoint)

    def stored(self) -> list[str]:
        """What is left of types that moto does not have, one line each: the stand-in provider keeps them."""
        return stored(self.endpoint)

    def _port(self) -> int:
        file = self.folder / "port"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if file.exists():
                port = int(file.read_text())
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise DoubleError(
                        f"port {port} of the AWS double is taken by another program; end that one, or "
                        f"remove {self.folder}, which forgets account {ACCOUNT}"
                    ) from None
            else:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
                file.write_text(str(port))
        return port

    @property
    def _record(self) -> Path:
        return self.folder / "process.json"

    def _identity(self) -> ProcessIdentity | None:
        try:
            return ProcessIdentity(**json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
