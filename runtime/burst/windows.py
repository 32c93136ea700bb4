"""The most of a value over the last seconds, kept in a few samples that can be stored."""

Samples = tuple[tuple[float, int], ...]


def most(samples: Samples, now: float, value: int, seconds: float) -> Samples:
    """Adds a sample; the first of the result holds the greatest value of the last `seconds`."""
    kept = [sample for sample in samples if sample[0] >= now - seconds and sample[1] > value]
    return (*kept, (now, value))
