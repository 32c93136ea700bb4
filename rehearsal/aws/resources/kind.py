"""What every served resource type has: how it is made, found, changed and removed, and what replaces it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.aws import ACCOUNT
from rehearsal.aws.clients import client

Properties = dict[str, Any]


@dataclass(frozen=True)
class Aws:
    """The account that a call is made in.

    Attributes:
        endpoint: The double.
        region: The region of the resource.
        account: The account's number.
        credentials: Those of an assumed role, or None.
    """

    endpoint: str
    region: str
    account: str = ACCOUNT
    credentials: tuple[str, str, str] | None = None

    def client(self, service: str) -> Any:
        """A boto3 client of the double."""
        return client(service, self.endpoint, self.region, self.credentials)

    def arn(self, service: str, resource: str, *, everywhere: bool = False) -> str:
        """An ARN in this account; `everywhere` for services without regions."""
        return f"arn:aws:{service}:{'' if everywhere else self.region}:{self.account}:{resource}"


class Handler(Protocol):
    """What a resource type does. Properties are plain: without marks, and all known."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes the resource and returns its id."""
        ...

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """What the account says about it, or None where there is no such thing.

        Args:
            aws: The account.
            id_: The resource's id.
            known: The outputs that the state has; empty at an import.
        """
        ...

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes it from the old inputs to the new ones, of which none replaces it."""
        ...

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; nothing happens where there is no such thing any more."""
        ...


@dataclass(frozen=True)
class Kind:
    """One served resource type.

    Attributes:
        token: The type as the engine names it.
        handler: What it does.
        replaces: The inputs whose change makes another resource of it.
        updates: The AWS calls that change one in place, `eks.UpdateNodegroupConfig`: none of them takes
            any of `replaces` except to say which resource is meant. Empty: AWS has no call that changes one.
        real: Whether the calls go to moto; otherwise the validated store is all there is of it.
        name_length: Longest name that Pulumi may make up.
        name_prefix: What a made-up name begins with.
        lower: Whether a name is lower case.
    """

    token: str
    handler: Handler
    replaces: frozenset[str]
    updates: tuple[str, ...] = ()
    real: bool = True
    name_length: int = 64
    name_prefix: str = ""
    lower: bool = False


def kind(
    token: str, handler: Handler, replaces: str, updates: str = "", *, real: bool = True, **naming: Any
) -> Kind:
    """A served type; lists are written with blanks."""
    return Kind(token, handler, frozenset(replaces.split()), tuple(updates.split()), real, **naming)


def suffixed(prefix: str) -> str:
    """A name that the provider makes up behind a prefix, as `namePrefix` asks."""
    return f"{prefix}{secrets.token_hex(13)}"


def name_of(inputs: Properties, key: str = "name") -> str:
    """The name of a resource, made up behind its prefix where only that is given."""
    return str(inputs.get(key) or suffixed(str(inputs.get(f"{key}Prefix", ""))))


def camel(content: Any) -> Any:
    """An answer of AWS with its keys in the provider's spelling."""
    if isinstance(content, dict):
        return {key[:1].lower() + key[1:]: camel(item) for key, item in content.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
    if isinstance(content, list):
        return [camel(item) for item in content]  # pyright: ignore[reportUnknownVariableType]
    return content


def given(inputs: Mapping[str, Any], **names: str) -> Properties:
    """The parameters of a call for the inputs that are set: `RoleName="name"`."""
    return {
        parameter: inputs[name] for parameter, name in names.items() if inputs.get(name) not in (None, "")
    }


def part(properties: Mapping[str, Any], key: str) -> Properties:
    """A property that is an object or a map; empty where it is not set."""
    return dict(properties.get(key) or {})


def items(properties: Mapping[str, Any], key: str) -> list[Any]:
    """A property that is a list; empty where it is not set."""
    return list(properties.get(key) or [])


def tag_list(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{"Key": key, "Value": value} for key, value in (tags or {}).items()]


def tags_of(inputs: Properties) -> Properties:
    """The parameter `Tags` of a call, where there are any; some calls take no empty list."""
    tags = tag_list(part(inputs, "tags"))
    return {"Tags": tags} if tags else {}


def is_absent(error: ClientError) -> bool:
    """Whether AWS says that there is no such thing."""
    answer: Any = error.response  # pyright: ignore[reportUnknownMemberType]
    code = str(answer.get("Error", {}).get("Code", ""))
    signs = ("NotFound", "NoSuch", "404", "NonExistentQueue", "DoesNotExist", "Missing")
    return any(sign in code for sign in signs)


class Absent(Exception):  # noqa: N818 - it is an answer, not a fault
    """There is no such thing."""


def first(items: Sequence[Any]) -> Any:
    """The only item of an answer.

    Raises:
        Absent: There is none.
    """
    if not items:
        raise Absent
    return items[0]
