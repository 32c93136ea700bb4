"""Kubernetes quantities, as stack files write them."""

from fractions import Fraction

import pytest

from runtime.quantities import cpus, gib, memory_bytes


@pytest.mark.parametrize(("text", "value"), [("4", 4), ("1.5", Fraction(3, 2)), ("500m", Fraction(1, 2))])
def test_cpus_are_read_exactly(text: str, value: Fraction) -> None:
    assert cpus(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512", 512),
        ("1Ki", 1024),
        ("16Gi", 16 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("2G", 2 * 10**9),
        ("1E", 10**18),
    ],
)
def test_memory_is_read_in_both_bases(text: str, value: int) -> None:
    assert memory_bytes(text) == value


def test_bytes_are_shown_in_gib() -> None:
    assert gib(3 * 2**29) == "1.5 GiB"
