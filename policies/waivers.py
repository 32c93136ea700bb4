"""Waivers: who has put up with which violation, why, and until when.

A waiver names one rule and one resource. After its date the violation counts again. The file of stack NAME is
`policies/waivers/NAME.yaml`:

    - rule: image-digest
      urn: urn:pulumi:prod::spillway::kubernetes:apps/v1:Deployment::legacy
      reason: The vendor publishes no digest before its next release.
      owner: ml-platform
      expires: 2027-01-31
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, cast

import yaml

FOLDER: Final = Path(__file__).parent / "waivers"
# Set where the stack is not named as its file: a rehearsal, or an example.
FILE_VARIABLE: Final = "SPILLWAY_WAIVERS"

_KEYS: Final = ("rule", "urn", "reason", "owner", "expires")
# Stack and project may be left open, because a rehearsal is a stack of its own; type and name may not.
_URN: Final = re.compile(r"urn:pulumi:([^:*]+|\*)::([^:*]+|\*)::[^*\s]+::[^*\s]+")


class WaiverError(Exception):
    """A file of waivers is wrong; the text has one line for each mistake."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """One violation that somebody has put up with for a time.

    Attributes:
        rule: The rule's name.
        urn: The resource. Its stack or project may be `*`.
        reason: Why it is put up with.
        owner: Who answers for that.
        expires: The last day on which it holds, in UTC.
    """

    rule: str
    urn: str
    reason: str
    owner: str
    expires: date

    def holds(self, now: datetime) -> bool:
        """Whether it has not run out."""
        return now.astimezone(UTC).date() <= self.expires

    def covers(self, rule: str, urn: str) -> bool:
        """Whether it is about that rule on that resource, run out or not."""
        if rule != self.rule:
            return False
        mine, theirs = self.urn.split("::", 2), urn.split("::", 2)
        return len(theirs) == len(mine) and all(
            _same(one, other) for one, other in zip(mine, theirs, strict=True)
        )

    @property
    def words(self) -> str:
        """Who put up with it, until when and why."""
        return f"waived by {self.owner} until {self.expires}: {self.reason}"


def waiver_file(stack: str) -> Path:
    """Where the waivers of a stack are."""
    return FOLDER / f"{stack}.yaml"


def waivers_of_stack(stack: str, rules: Collection[str]) -> tuple[Waiver, ...]:
    """The waivers of the stack that this process judges.

    Args:
        stack: Its name; empty where there is none.
        rules: The names of all rules that there are.

    Raises:
        WaiverError: The file is wrong.
    """
    named = os.environ.get(FILE_VARIABLE)
    file = Path(named) if named else waiver_file(stack) if stack else None
    return read_waivers(file, rules) if file is not None and (named or file.is_file()) else ()


def read_waivers(file: Path, rules: Collection[str]) -> tuple[Waiver, ...]:
    """Reads a file of waivers.

    Args:
        file: The file.
        rules: The names of all rules that there are.

    Raises:
        WaiverError: With every mistake, each with the entry, what is allowed and the fix.
    """
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise WaiverError(f"{file}: cannot be read as YAML ({type(error).__name__}); correct it") from None
    if content is None:
        return ()
    if not isinstance(content, list):
        raise WaiverError(f"{file}: is no list; write one entry `- rule: …` for each waiver")
    entries = cast("list[Any]", content)
    mistakes = [
        f"{file}: [{index}]{mistake}"
        for index, entry in enumerate(entries)
        for mistake in _mistakes(entry, rules)
    ]
    if mistakes:
        raise WaiverError("\n".join(mistakes))
    return tuple(Waiver(**entry) for entry in entries)


def _mistakes(entry: Any, rules: Collection[str]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f" is no object; give it the keys {', '.join(_KEYS)}"
        return
    waiver = cast("dict[str, Any]", entry)
    for key in waiver:
        if key not in _KEYS:
            yield f".{key} is not known; allowed: {', '.join(_KEYS)}; remove or correct it"
    for key in _KEYS:
        if key not in waiver:
            yield f".{key} is missing; a waiver says {', '.join(_KEYS)}; add it"
    for key in ("reason", "owner"):
        if key in waiver and not (isinstance(waiver[key], str) and waiver[key].strip()):
            yield f".{key} must be a text that is not empty; write one"
    if "rule" in waiver and waiver["rule"] not in rules:
        yield f".rule = {waiver['rule']} is no rule; docs/policies lists them; correct it"
    if "urn" in waiver and not (isinstance(waiver["urn"], str) and _URN.fullmatch(waiver["urn"])):
        yield (
            ".urn must name one resource, as urn:pulumi:STACK::PROJECT::TYPE::NAME; only STACK and PROJECT "
            "may be *; take it from `pulumi stack --show-urns`"
        )
    expires = waiver.get("expires")
    if "expires" in waiver and (not isinstance(expires, date) or isinstance(expires, datetime)):
        yield ".expires must be a date such as 2027-01-31, without quotes; write one"


def find(waivers: Sequence[Waiver], rule: str, urn: str) -> Waiver | None:
    """The waiver of a rule on a resource that holds longest, run out or not."""
    found = [waiver for waiver in waivers if waiver.covers(rule, urn)]
    return max(found, key=lambda waiver: waiver.expires, default=None)


def _same(pattern: str, part: str) -> bool:
    prefix = "urn:pulumi:"
    return pattern.removeprefix(prefix) in {"*", part.removeprefix(prefix)}
