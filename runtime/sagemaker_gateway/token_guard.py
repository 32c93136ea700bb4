"""The token guard: how many tokens of a model fit a time limit, by what was measured of its speed."""

# What is slower than known counts half at once, what is faster a twentieth: the kept figure settles near the
# slowest tenth of the requests, not at their mean, which every second request would miss.
_WORSE = 0.5
_BETTER = 0.05
LEAST_TOKENS = 16
"""Shortest cap worth setting. Below it a time says more about the network than about the model."""

# Part of the first figure under which the speed does not go: one hang is no reason to refuse everything.
_SLOWEST = 1 / 8
# Part of a limit that the first token may take. However late it was, an answer as a whole gets the rest.
_LATEST_FIRST = 0.5
# A guard that lets hardly anything through measures hardly anything. So a bad hour must not stay for ever.
_FORGET_S = 600.0


class _Figure:
    """One measured figure, cautious, and back at where it started when it was not measured for long."""

    def __init__(self, start: float, least: float = 0.0) -> None:
        self.value = start
        self._start = start
        self._least = least
        self._measured_at = float("-inf")

    def now(self, at: float) -> float:
        if at - self._measured_at > _FORGET_S:
            self.value = self._start
        return self.value

    def observe(self, measured: float, at: float, *, is_better: bool) -> None:
        value = self.value + (_BETTER if is_better else _WORSE) * (measured - self.value)
        self.value = max(self._least, value)
        self._measured_at = at


class TokenGuard:
    """What is known of one model's speed, in this process."""

    def __init__(self, *, safe_tokens: int, first_token_s: float, limit_s: float) -> None:
        """Makes a guard that allows exactly the safe figure until something was measured.

        Args:
            safe_tokens: Tokens that are known to fit.
            first_token_s: Seconds of the limit that the first token may take.
            limit_s: Seconds that they are known to fit in.
        """
        speed = safe_tokens / (limit_s - first_token_s)
        self._speed = _Figure(speed, least=_SLOWEST * speed)
        self._first = _Figure(first_token_s)
        self._limit_reached_at = float("-inf")

    @property
    def tokens_per_s(self) -> float:
        """Speed of one answer after its first token."""
        return self._speed.value

    @property
    def first_token_s(self) -> float:
        """Seconds to the first token: queue and prompt are in it."""
        return self._first.value

    def allowance(self, limit_s: float, at: float) -> int:
        """Tokens of the longest answer that ends within a limit.

        Args:
            limit_s: The limit in seconds, from request to last token.
            at: Reading of the clock now. What was not measured for ten minutes is as configured again.

        Returns:
            Tokens. With fewer than `LEAST_TOKENS` an answer is not worth beginning.
        """
        first_s = min(self._first.now(at), _LATEST_FIRST * limit_s)
        # The small addition undoes what a division by three takes from a whole number.
        return int((limit_s - first_s) * self._speed.now(at) + 1e-6)

    def observe_stream(self, tokens: int, first_s: float, whole_s: float, at: float) -> None:
        """Takes in one streamed answer.

        Args:
            tokens: Tokens of it, per choice.
            first_s: Seconds to the first one.
            whole_s: Seconds to the last one.
            at: Reading of the clock now.
        """
        self._first.observe(first_s, at, is_better=first_s < self._first.now(at))
        if tokens >= LEAST_TOKENS and whole_s > first_s:
            self._observe_speed((tokens - 1) / (whole_s - first_s), at)

    def observe_plain(self, tokens: int, whole_s: float, at: float) -> None:
        """Takes in one answer that came as a whole; its speed looks slower than it is, by the first token.

        Args:
            tokens: Tokens of it, per choice.
            whole_s: Seconds that it took.
            at: Reading of the clock now.
        """
        if tokens >= LEAST_TOKENS and whole_s > 0:
            self._observe_speed(tokens / whole_s, at)

    def observe_time_limit(self, began: float, at: float, *, tokens: int = 0, first_s: float = 0.0) -> None:
        """Takes in an answer that ran into the limit, although it was let through.

        Requests that one hang hits end together: what began before the last one that counted does not count.

        Args:
            began: Reading of the clock when the endpoint was called.
            at: Reading of the clock now.
            tokens: Tokens that came, per choice; too few to tell a speed, and half is known too much.
            first_s: Seconds to the first of them.
        """
        if began < self._limit_reached_at:
            return
        self._limit_reached_at = at
        if tokens >= LEAST_TOKENS:
            self.observe_stream(tokens, first_s, at - began, at)
        else:
            self._observe_speed(0.0, at)

    def _observe_speed(self, measured: float, at: float) -> None:
        self._speed.observe(measured, at, is_better=measured > self._speed.now(at))
