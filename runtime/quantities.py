"""Reads Kubernetes quantities, the numbers with suffixes of stack files."""

from fractions import Fraction

_POWERS = "KMGTPE"
GIB = 2**30


def cpus(quantity: str) -> Fraction:
    """CPUs of a quantity such as `4`, `1.5` or `500m`."""
    return Fraction(quantity[:-1]) / 1000 if quantity.endswith("m") else Fraction(quantity)


def memory_bytes(quantity: str) -> int:
    """Bytes of a quantity such as `16Gi`, `1.5G` or `512`; a part of a byte is dropped."""
    number = quantity.rstrip("ki" + _POWERS)
    suffix = quantity[len(number) :]
    base = 1024 if suffix.endswith("i") else 1000
    return int(Fraction(number) * base ** (_POWERS.index(suffix[0].upper()) + 1 if suffix else 0))


def gib(size: float) -> str:
    """Bytes in GiB with one decimal, for messages."""
    return f"{size / GIB:.1f} GiB"
