"""How far a teardown is, in a file: one that was killed goes on, and still knows what there was."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runtime.ops.teardown.ledger import Ledger


class JournalError(Exception):
    """The journal cannot be used; the text is the whole message."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a teardown has done so far.

    Attributes:
        ledger: What the stack was.
        begun: When it began, as ISO 8601 in UTC.
        done: Names of the steps that came to their end.
    """

    ledger: Ledger
    begun: str
    done: tuple[str, ...] = ()


class Journal:
    """The journal of one stack. Each write is whole on the disk, or not there at all.

    Args:
        file: Where it is.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entry: Entry | None = None

    def load(self) -> Entry | None:
        """What an earlier run wrote; None where there was none, or where it came to a clean end.

        Raises:
            JournalError: There is something that cannot be read.
        """
        try:
            self._entry = _ENTRY.validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise JournalError(
                f"{self.file} is no journal of a teardown: {error.errors()[0]['msg']}; it says what the "
                "stack was, so look into it before you remove it, and run the command again"
            ) from None
        return self._entry

    def begin(self, ledger: Ledger, changed: Iterable[str], now: str) -> Entry:
        """Begins, or goes on with what an earlier run did unless something was made or changed since.

        Args:
            ledger: What the stack was.
            changed: When each resource of the state was made or last changed, as ISO 8601.
            now: The time, as ISO 8601 in UTC.
        """
        earlier = self._entry
        if earlier is not None:
            begun = datetime.fromisoformat(earlier.begun)
            if all(datetime.fromisoformat(one) <= begun for one in changed if one):
                return self._write(replace(earlier, ledger=ledger))
        return self._write(Entry(ledger=ledger, begun=now))

    def note(self, step: str) -> None:
        """Notes that a step has come to its end."""
        if self._entry is not None and step not in self._entry.done:
            self._write(replace(self._entry, done=(*self._entry.done, step)))

    def know(self, ledger: Ledger) -> None:
        """Notes what was learned about the stack meanwhile."""
        if self._entry is not None:
            self._write(replace(self._entry, ledger=ledger))

    def again(self) -> None:
        """Has the next run do every step anew: this one came to its end, and it was not a clean one."""
        if self._entry is not None:
            self._write(replace(self._entry, done=()))

    def close(self) -> None:
        """Forgets everything: the certificate says it now."""
        self.file.unlink(missing_ok=True)
        self._entry = None

    def _write(self, entry: Entry) -> Entry:
        write_durably(self.file, _ENTRY.dump_json(entry, indent=1))
        self._entry = entry
        return entry


def write_durably(file: Path, content: bytes) -> None:
    """Writes a private file that is either whole or not changed at all, whenever the machine stops."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
