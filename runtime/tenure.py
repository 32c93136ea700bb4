"""Whose a stack is and until when: what it says of itself on all that it makes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

ENVIRONMENTS: Final = ("dev", "staging", "prod")
EXPIRES_PATTERN: Final = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}|[1-9][0-9]{0,2}[dh])$"

STACK: Final = "stack"
OWNER: Final = "owner"
COST_CENTRE: Final = "cost-centre"
ENVIRONMENT: Final = "environment"
EXPIRES: Final = "expires"
_TAG: Final = "spillway:"
_ANNOTATION: Final = "spillway.dev/"
STACK_TAG: Final = f"{_TAG}{STACK}"
"""Tag that every AWS resource of a stack carries; its value is the stack's full name."""
EXPIRES_TAG: Final = f"{_TAG}{EXPIRES}"
PLATFORM_TAG: Final = f"{_TAG}platform"
"""Tag beside it whose value is what the AWS side is called: the EKS cluster's name."""

_UNITS: Final = {"d": "days", "h": "hours"}


@dataclass(frozen=True, kw_only=True)
class Tenure:
    """What a stack says of itself.

    Attributes:
        stack: Its full name, ORGANISATION/PROJECT/STACK.
        owner: Who answers for it.
        cost_centre: Who pays.
        environment: One of ENVIRONMENTS.
        expires: `YYYY-MM-DD`, the last day, or `30d` or `8h` after its last update; None in production only.
    """

    stack: str
    owner: str
    cost_centre: str
    environment: str
    expires: str | None

    def tags(self) -> dict[str, str]:
        """As tags of AWS resources."""
        return {f"{_TAG}{key}": value for key, value in self._texts().items()}

    def annotations(self) -> dict[str, str]:
        """As annotations of Kubernetes objects. Labels take no blanks, and a cost centre may have some."""
        return {f"{_ANNOTATION}{key}": value for key, value in self._texts().items()}

    @staticmethod
    def of_annotations(annotations: Mapping[str, str]) -> "Tenure | None":
        """Reads what `annotations` wrote; None where one of them is missing."""
        return _read(annotations, _ANNOTATION)

    @staticmethod
    def of_tags(tags: Mapping[str, str]) -> "Tenure | None":
        """Reads what `tags` wrote; None where one of them is missing."""
        return _read(tags, _TAG)

    def ends_at(self, updated: datetime) -> datetime | None:
        """When it expires; None if it does not.

        Args:
            updated: When the stack was last updated, with a zone.
        """
        return None if self.expires is None else expiry(self.expires, updated)

    def _texts(self) -> dict[str, str]:
        texts = {
            STACK: self.stack,
            OWNER: self.owner,
            COST_CENTRE: self.cost_centre,
            ENVIRONMENT: self.environment,
        }
        return texts if self.expires is None else {**texts, EXPIRES: self.expires}


def _read(texts: Mapping[str, str], prefix: str) -> Tenure | None:
    found = {key: texts.get(f"{prefix}{key}") for key in (STACK, OWNER, COST_CENTRE, ENVIRONMENT)}
    stack, owner, cost_centre, environment = found.values()
    if stack is None or owner is None or cost_centre is None or environment is None:
        return None
    return Tenure(
        stack=stack,
        owner=owner,
        cost_centre=cost_centre,
        environment=environment,
        expires=texts.get(f"{prefix}{EXPIRES}"),
    )


def expiry(expires: str, updated: datetime) -> datetime:
    """The instant that an `expires` means, in UTC: a day counts to its end.

    Args:
        expires: As in a stack file.
        updated: When the stack was last updated, with a zone; only a duration asks for it.

    Raises:
        ValueError: It is neither a day nor a duration; the text says what is.
    """
    if re.fullmatch(EXPIRES_PATTERN, expires) is None:
        raise ValueError(
            "must be a day such as 2026-12-31 or a duration such as 14d or 8h; write one of them"
        )
    if expires[-1] in _UNITS:
        return updated.astimezone(UTC) + timedelta(**{_UNITS[expires[-1]]: int(expires[:-1])})
    try:
        day = date.fromisoformat(expires)
    except ValueError:
        raise ValueError("is no day of the calendar; write one such as 2026-12-31") from None
    return datetime.combine(day, time(), UTC) + timedelta(days=1)
