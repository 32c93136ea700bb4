"""Arithmetic of traffic between the variants of an endpoint, whose shares are weight through sum of weights.

All shares are parts of the whole traffic, from 0 to 1. Weights are any numbers that are not negative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

# Weights are read back as 32-bit numbers.
TOLERANCE = 1e-4
_PARTS = 1000


class TrafficError(Exception):
    """Traffic cannot be moved so; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The instances of a variant.

    Attributes:
        instances: How many there are.
        at_once: Requests that one works on at a time; None where its model does not say.
    """

    instances: int
    at_once: int | None


def share(weights: Mapping[str, float], variant: str) -> float:
    """A variant's share; 0 where nothing has weight."""
    total = sum(weights.values())
    return weights[variant] / total if total else 0.0


def moved(weights: Mapping[str, float], canary: str, stable: str, wanted: float) -> dict[str, float]:
    """The weights of two variants with which the canary has a share of all traffic.

    Their sum stays as it is. So the others keep their shares, and the canary never has more than the larger
    of its share before and its share after, whichever of the two weights takes effect first.

    Args:
        weights: The weights now, of all variants.
        canary: The variant that gets the share.
        stable: The variant that gives it, or gets what is given back.
        wanted: The share, from 0 to 1.

    Raises:
        TrafficError: The two have less traffic than that.
    """
    total, both = sum(weights.values()), weights[canary] + weights[stable]
    if not both:
        raise TrafficError(
            f"{canary} and {stable} both have weight 0, so there is no traffic to move; give one a weight"
        )
    given = wanted * total
    if given > both * (1 + TOLERANCE):
        others = ", ".join(sorted(set(weights) - {canary, stable}))
        raise TrafficError(
            f"{canary} and {stable} have {both / total:.0%} of the traffic together, and {wanted:.0%} is "
            f"asked for; ask for less, or take weight from {others} first"
        )
    given = min(given, both)
    return {canary: given, stable: both - given}


def whole_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """The same shares in whole numbers as small as can be, to a tenth of a percent, for a stack file."""
    shares = {name: Fraction(share(weights, name)).limit_denominator(_PARTS) for name in weights}
    parts = lcm(*(one.denominator for one in shares.values()))
    return {name: int(one * parts) for name, one in shares.items()}


def too_few(canary: Fleet, stable: Fleet, wanted: float) -> str | None:
    """Why the canary has too few instances for a share, with the numbers; None where it has enough.

    The stable variant's fleet is what the traffic needs now, so the canary needs that share of it.
    """
    known = canary.at_once is not None and stable.at_once is not None
    mine, theirs = (
        one.instances * (one.at_once if known and one.at_once is not None else 1) for one in (canary, stable)
    )
    if mine >= wanted * theirs * (1 - TOLERANCE):
        return None
    unit = "requests at a time" if known else "instances"
    return f"{wanted:.0%} of the stable fleet's {theirs} {unit} are {wanted * theirs:g}, and it has {mine}"
