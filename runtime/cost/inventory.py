"""A stack's resources as billing asks for them: regions, places, relatives, and inputs that are known."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, cast

from runtime.cost.amounts import Place
from runtime.stack_resources import UNKNOWN, StackResource

AWS_PROVIDER: Final = "pulumi:providers:aws"
# What `stacks.cloud_providers` calls the Kubernetes provider of the EKS side; a test compares.
EKS_PROVIDER: Final = "eks"


class NotKnownError(Exception):
    """A property that a price depends on cannot be read; the message names it, and says why."""


class Inventory:
    """All resources of a stack, and who belongs to whom."""

    def __init__(self, resources: Sequence[StackResource], region: str = "") -> None:
        """Takes the resources.

        Args:
            resources: Those of one stack.
            region: AWS region where no provider among them names one.
        """
        self.resources = resources
        self._by_urn = {one.urn: one for one in resources}
        regions = [str(one.inputs.get("region") or "") for one in resources if one.type == AWS_PROVIDER]
        self._default_region = next(filter(None, regions), region)

    def region_of(self, resource: StackResource) -> str:
        """The AWS region of a resource; empty where nothing names one.

        An object of a Kubernetes cluster is in the region of the stack's AWS provider.
        """
        own = resource.inputs.get("region") if resource.type.startswith("aws:") else None
        provider = self._by_urn.get(resource.provider)
        given = own or (provider.inputs.get("region") if provider is not None else None)
        return given if isinstance(given, str) else self._default_region

    def place_of(self, resource: StackResource) -> Place:
        """Where an object of a Kubernetes cluster is, by its provider."""
        return "EKS" if resource.provider.endswith(f"::{EKS_PROVIDER}") else "on-prem"

    def parent_of(self, resource: StackResource) -> StackResource | None:
        """The component that a resource belongs to, if it is known."""
        return self._by_urn.get(resource.parent)

    def of(self, kind: str) -> list[StackResource]:
        """All resources of a type."""
        return [one for one in self.resources if one.type == kind]

    def named_by(self, kind: str, value: object, owner: StackResource) -> StackResource | None:
        """The resource of a type that another one means.

        Args:
            kind: The type.
            value: The id or name that the other one has, which a preview may not know yet.
            owner: The other one. Where the value is not known, the only resource of the type beside it, in
                the same component, is meant.
        """
        candidates = self.of(kind)
        if isinstance(value, str):
            return next(
                (one for one in candidates if value in (one.id, one.inputs.get("name"))),
                None,
            )
        beside = [one for one in candidates if one.parent == owner.parent]
        return beside[0] if len(beside) == 1 else None


def value_at(properties: Mapping[str, object], path: str) -> object:
    """The value at a path such as `scalingConfig.maxSize`; None where nothing is there.

    Raises:
        NotKnownError: It, or something on the way, is known only after an `up`.
    """
    value: object = properties
    for step in path.split("."):
        value = _child(value, step)
    if value is UNKNOWN:
        raise NotKnownError(f"{path} is not known before `pulumi up`")
    return value


def _child(value: object, key: str) -> object:
    """The value under a key; UNKNOWN below what is unknown, None below what is no object."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(key)
    return UNKNOWN if value is UNKNOWN else None


def mapping_at(properties: Mapping[str, object], path: str) -> Mapping[str, object]:
    """The object at a path; an empty one where nothing, or something else, is there.

    Raises:
        NotKnownError: It is not known.
    """
    value = value_at(properties, path)
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def number_at(properties: Mapping[str, object], path: str, default: int | None = None) -> Decimal:
    """The number at a path.

    Args:
        properties: Where to look.
        path: Such as `scalingConfig.maxSize`.
        default: What nothing means; None where it must be there.

    Raises:
        NotKnownError: It is not known, not there, or no number from 0.
    """
    value = value_at(properties, path)
    if value is None and default is not None:
        return Decimal(default)
    try:
        number = Decimal(str(value)) if not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or number < 0:
        raise NotKnownError(f"{path} is {value!r}, which is no number; give it a number from 0")
    # Numbers come as floats from the engine; 4.0 reads as 4.
    return number.to_integral_value() if number == number.to_integral_value() else number


def objects_at(properties: Mapping[str, object], path: str) -> list[Mapping[str, object]]:
    """The objects of the list at a path; empty where there is none.

    Raises:
        NotKnownError: The list, or one of its objects, is not known.
    """
    found: list[Mapping[str, object]] = []
    for item in items_at(properties, path):
        if item is UNKNOWN:
            raise NotKnownError(f"a part of {path} is not known before `pulumi up`")
        if isinstance(item, Mapping):
            found.append(cast("Mapping[str, object]", item))
    return found


def items_at(properties: Mapping[str, object], path: str) -> Sequence[object]:
    """The list at a path, of which single items may be UNKNOWN; empty where there is none.

    Raises:
        NotKnownError: Not even its length is known.
    """
    value = value_at(properties, path)
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return cast("Sequence[object]", value) if listed else ()


def texts_at(properties: Mapping[str, object], path: str) -> list[str]:
    """The texts of the list at a path; empty where there is none.

    Raises:
        NotKnownError: The list, or one of its texts, is not known.
    """
    found = items_at(properties, path)
    if UNKNOWN in found:
        raise NotKnownError(f"a part of {path} is not known before `pulumi up`")
    return [str(one) for one in found]
