"""What a violation does, and in which environment: the same rule may stop production and only warn in dev."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast


class Environment(Enum):
    """What a stack is for. Values are those of the setting `environment`."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class Level(Enum):
    """What a violation does. Values are the SDK's."""

    MANDATORY = "mandatory"
    ADVISORY = "advisory"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """The level of a rule in each environment.

    Attributes:
        dev: In development.
        staging: In staging.
        prod: In production, and where a stack does not say what it is for.
    """

    dev: Level
    staging: Level
    prod: Level

    def in_environment(self, environment: Environment) -> Level:
        """The level there."""
        return {
            Environment.DEV: self.dev,
            Environment.STAGING: self.staging,
            Environment.PROD: self.prod,
        }[environment]


MANDATORY: Final = Enforcement(Level.MANDATORY, Level.MANDATORY, Level.MANDATORY)
ADVISORY: Final = Enforcement(Level.ADVISORY, Level.ADVISORY, Level.ADVISORY)
ADVISORY_IN_DEV: Final = Enforcement(Level.ADVISORY, Level.MANDATORY, Level.MANDATORY)
ONLY_IN_DEV: Final = Enforcement(Level.MANDATORY, Level.DISABLED, Level.DISABLED)
ONLY_OUTSIDE_PROD: Final = Enforcement(Level.MANDATORY, Level.MANDATORY, Level.DISABLED)
ONLY_IN_PROD: Final = Enforcement(Level.DISABLED, Level.ADVISORY, Level.MANDATORY)


def environment_of(platform: Mapping[str, object]) -> Environment:
    """What a stack is for.

    Args:
        platform: The object under `spillway:platform`, unchecked: the program itself refuses wrong values.

    Returns:
        Its `environment`; production where it says none or a wrong one, because that is the strictest.
    """
    named = platform.get("environment")
    return next((one for one in Environment if one.value == named), Environment.PROD)


def environment_of_config(config: Mapping[str, str]) -> Environment:
    """What the stack with that configuration is for.

    Args:
        config: The stack's configuration as the engine hands it over: objects as JSON. `pulumi policy
            analyze` has no stack, and so none: then it is production.
    """
    try:
        platform: Any = json.loads(config.get("spillway:platform") or "{}")
    except ValueError:
        platform = {}
    return environment_of(cast("Mapping[str, object]", platform) if isinstance(platform, dict) else {})
