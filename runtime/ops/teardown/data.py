"""What of a stack is no resource of it and would be lost with one: the contents of buckets, the registry."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.progress import Step


class DataStore(Protocol):
    """A kind of place in one account that holds data and that a destroy of the stack deletes."""

    service: str
    """What AWS calls the service."""

    def data(self) -> Mapping[str, str]:
        """Place to what would be lost with it.

        Raises:
            ClientError, BotoCoreError: The service cannot be asked.
        """
        ...

    def forbidden(self, names: Iterable[str]) -> list[str]:
        """Why places may not be emptied, whatever the user says, one line each.

        Raises:
            ClientError, BotoCoreError: The service cannot be asked.
        """
        ...

    def empty(self, step: Step) -> None:
        """Deletes all that is in them; what an earlier run deleted stays deleted.

        Raises:
            StepError: One may not be emptied, or something stays.
            ClientError, BotoCoreError: The service cannot be asked.
        """
        ...


def said_of(stores: Iterable[DataStore]) -> tuple[list[str], list[str], list[str]]:
    """What would be lost, why it may not be, and what could not be asked, a line each."""
    lost: list[str] = []
    forbidden: list[str] = []
    troubles: list[str] = []
    for one in stores:
        try:
            data = one.data()
            lost += data.values()
            forbidden += one.forbidden(data)
        except (ClientError, BotoCoreError) as error:
            troubles.append(f"{one.service} cannot be asked: {error}")
    return lost, forbidden, troubles
