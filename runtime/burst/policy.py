"""BurstPolicy: the `burst` setting of a stack file. When the cloud is used, and what it may cost."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from runtime.model import ContradictionError, ModelName, Spec, written_as

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_MINUTES_A_DAY = 24 * 60


def _time_of_day(value: str) -> str:
    if not re.fullmatch(_TIME, value):
        raise ValueError("must be a time of day from 00:00 to 23:59; write it in quotes, such as '08:30'")
    return value


def _instant(value: str) -> str:
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            "is no date and time; write it in quotes and with its zone, such as '2026-11-21T18:00:00Z'"
        ) from None
    if parsed.tzinfo is None:
        raise ValueError("has no zone; end it with Z or an offset, such as '2026-11-21T18:00:00+01:00'")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone; write an IANA name, such as UTC or Europe/Berlin") from None
    return value


def _prometheus_url(value: str) -> str:
    url = urlsplit(value)
    try:
        port_is_one = url.port != 0
    except ValueError:
        port_is_one = False
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_one:
        raise ValueError(
            "is no URL of a Prometheus; write scheme, host and port, such as http://prometheus.monitoring:9090"
        )
    if url.username is not None or url.query or url.fragment:
        raise ValueError(
            "has a user, a query or a fragment, which would be readable in a ConfigMap; write scheme, host, "
            "port and path alone"
        )
    return value


PrometheusUrl = Annotated[
    str,
    AfterValidator(_prometheus_url),
    written_as(
        r"^https?://[^/?#@]+(/[^?#]*)?$", "the URL of a Prometheus", "http://prometheus.monitoring:9090"
    ),
]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day), written_as(_TIME, "a time of day", "08:30")]
Instant = Annotated[
    str,
    AfterValidator(_instant),
    written_as(r"^\d{4}-\d\d-\d\dT.+", "a date and time with its zone", "2026-11-21T18:00:00Z"),
]


class ScaleOut(Spec):
    """When replicas are added."""

    spare: float = Field(
        default=2.25,
        ge=0,
        le=20,
        description="Places that are kept free for chance, in standard deviations of requests that come at "
        "random (the root of the load): 2 keeps 20 places free at a load of 100. Fewer free places add "
        "replicas.",
    )
    for_seconds: float = Field(
        default=20,
        ge=0,
        le=3600,
        description="How long a whole replica must have been short, in seconds; half of one for twice as "
        "long. A start is billed also where the need was brief.",
    )


class ScaleIn(Spec):
    """When replicas are taken away."""

    spare: float = Field(
        default=2.5,
        gt=0,
        le=20,
        description="As in `scaleOut`, and above it: replicas go if without them so much stays free.",
    )
    for_seconds: float | None = Field(
        default=None,
        ge=0,
        le=86400,
        description="How long a replica stays without need, in seconds. Defaults to the cold start as it was "
        "measured: EC2 bills a start too, so to keep a replica that long costs what another start would.",
    )
    gone_spare: float = Field(
        default=3.5,
        gt=0,
        le=40,
        description="Above `spare`: if without a replica even so much stays free, its load is not away by "
        "chance but gone, and it goes without waiting `forSeconds`.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.gone_spare < self.spare:
            raise ContradictionError(
                "goneSpare", f"is {self.gone_spare:g}, below spare {self.spare:g}; raise it"
            )
        return self


class Launches(Spec):
    """What happens when no nodes come: the circuit."""

    failures: int = Field(
        default=3, ge=1, le=100, description="Failed launches in a row after which nothing more is asked for."
    )
    back_off_seconds: float = Field(
        default=300,
        ge=10,
        le=86400,
        description="How long then, in seconds; twice as long after each further failure.",
    )
    max_back_off_seconds: float = Field(
        default=3600, ge=10, le=86400, description="The longest such pause, in seconds."
    )
    timeout_seconds: float = Field(
        default=1200,
        ge=60,
        le=7200,
        description="A replica not ready after so many seconds counts as a failed launch.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_back_off_seconds < self.back_off_seconds:
            raise ContradictionError(
                "maxBackOffSeconds",
                f"is {self.max_back_off_seconds:g}, below backOffSeconds {self.back_off_seconds:g}; raise it",
            )
        return self


class Window(Spec):
    """Hours of the week in which a number of replicas is kept, whatever the load."""

    days: tuple[Day, ...] = Field(
        default=DAYS, min_length=1, description="Days of the week on which the window begins."
    )
    start: TimeOfDay = Field(
        description="When the replicas shall be ready; they are asked for one cold start earlier."
    )
    end: TimeOfDay = Field(description="When they are no longer kept; before `start` means the next day.")
    replicas: int = Field(ge=1, le=1000, description="Replicas of each model, at least.")
    models: tuple[ModelName, ...] = Field(
        default=(), description="Models that it is for; empty for all that may spill."
    )

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.start == self.end:
            raise ContradictionError("end", f"{self.end} is also the start; give the window a length")
        return self

    def holds(self, model: str, local: datetime) -> bool:
        """Whether the window is open for a model at a local time."""
        if self.models and model not in self.models:
            return False
        minute = local.hour * 60 + local.minute
        start, end = _minute(self.start), _minute(self.end)
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if start < end:
            return today in self.days and start <= minute < end
        return (today in self.days and minute >= start) or (yesterday in self.days and minute < end)


class Switch(Spec):
    """The manual switch, which wins over load and schedule but never over the ceiling."""

    mode: Literal["auto", "off", "on"] = Field(
        default="auto",
        description="`off` uses no cloud; `on` keeps exactly `replicas`; `auto` decides by load.",
    )
    replicas: int | None = Field(
        default=None, ge=1, le=1000, description="Replicas of each model while `on`; not with other modes."
    )
    until: Instant | None = Field(
        default=None,
        description="When it goes back to `auto`. Required with `on`, so that nobody forgets it; with `off` "
        "without it, it stays off.",
    )
    models: tuple[ModelName, ...] = Field(
        default=(), description="Models that it is for; empty for all that may spill."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode == "on":
            for key, value in (("replicas", self.replicas), ("until", self.until)):
                if value is None:
                    raise ContradictionError(key, "is missing; mode on needs replicas and until")
        elif self.replicas is not None:
            raise ContradictionError("replicas", f"does not go with mode {self.mode}; remove it")
        if self.mode == "auto" and self.until is not None:
            raise ContradictionError("until", "does not go with mode auto; remove it")
        return self

    def at(self, model: str, now: datetime) -> Literal["auto", "off", "on"]:
        """The mode for a model at an instant (with a zone): `auto` after `until`."""
        if self.models and model not in self.models:
            return "auto"
        if self.until is not None and now >= datetime.fromisoformat(self.until):
            return "auto"
        return self.mode


class SignalSource(Spec):
    """Where the controller gets the metrics of gateway and models on-prem."""

    prometheus: PrometheusUrl | None = Field(
        default=None,
        description="URL of a Prometheus that scrapes them, at least every `burst.tickSeconds`, as jobs "
        "`NAME-gateway` and `NAME-MODEL`. Without it the controller asks every pod itself, which needs no "
        "Prometheus and sees a change at once; use one where pods may not be reached.",
    )


class BurstPolicy(Spec):
    """When load beyond on-prem gets replicas in the cloud, and what that may cost.

    Prices are on-demand, also where nodes are spot: what is asked for must be payable in the worst case.
    """

    ceiling_usd_per_hour: float = Field(
        gt=0,
        le=100_000,
        description="USD per hour that all GPU nodes of the burst may cost together, at on-demand prices. "
        "Money is set aside for a node before it is asked for. The fixed cost of the EKS side is not in it.",
    )
    burst_hours_per_month: float | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Node-hours per calendar month of `timeZone`: one GPU node for one hour, of whatever "
        "size, from launch to termination. None sets no such limit.",
    )
    max_nodes: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="GPU nodes of the burst at most, over all node groups, below what each group allows.",
    )
    scale_out: ScaleOut = Field(default_factory=lambda: ScaleOut(), description="When replicas are added.")
    scale_in: ScaleIn = Field(default_factory=lambda: ScaleIn(), description="When replicas are taken away.")
    cooldown_seconds: float = Field(
        default=60,
        ge=0,
        le=86400,
        description="After a change, how long until one in the other direction, in seconds. Only ceiling, "
        "budget, circuit and switch do not wait.",
    )
    zero_after_seconds: float = Field(
        default=1800,
        ge=60,
        le=86400,
        description="Without a sign of need for so many seconds all replicas go, also when signals are "
        "missing.",
    )
    cold_start_seconds: float = Field(
        default=360,
        ge=1,
        le=7200,
        description="First guess of the time from asking for a replica to its readiness; afterwards it is "
        "measured.",
    )
    release_seconds: float = Field(
        default=900,
        ge=0,
        le=7200,
        description="From giving a replica up to the end of its node: requests finish, and the node "
        "autoscaler waits (10 minutes by default). Node-hours for it are set aside.",
    )
    tick_seconds: float = Field(default=10, ge=1, le=300, description="Seconds between two decisions.")
    stale_seconds: float = Field(
        default=60, ge=1, le=3600, description="A signal older than so many seconds counts as missing."
    )
    signals: SignalSource = Field(
        default_factory=lambda: SignalSource(), description="Where the load is read."
    )
    launches: Launches = Field(
        default_factory=lambda: Launches(), description="What happens when no nodes come."
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="IANA name of the zone of `schedule` and of the calendar month."
    )
    schedule: tuple[Window, ...] = Field(
        default=(), description="Hours of the week in which replicas are kept ready."
    )
    switch: Switch = Field(default_factory=lambda: Switch(), description="The manual switch.")

    @model_validator(mode="after")
    def _two_thresholds(self) -> Self:
        if self.scale_in.spare <= self.scale_out.spare:
            raise ContradictionError(
                "scaleIn.spare",
                f"is {self.scale_in.spare:g}, not above scaleOut.spare {self.scale_out.spare:g}; raise it, "
                "because between the two nothing changes",
            )
        return self

    @model_validator(mode="after")
    def _need_is_seen_before_zero(self) -> Self:
        kept = self.scale_in.for_seconds
        if kept is not None and kept > self.zero_after_seconds:
            raise ContradictionError(
                "zeroAfterSeconds",
                f"is {self.zero_after_seconds:g}, below scaleIn.forSeconds {kept:g}; raise it",
            )
        return self

    @property
    def ceiling(self) -> Decimal:
        """The ceiling as money, in USD per hour."""
        return Decimal(str(self.ceiling_usd_per_hour))

    @property
    def zone(self) -> ZoneInfo:
        """The zone of schedule and month."""
        return ZoneInfo(self.time_zone)

    def month(self, now: float) -> str:
        """The calendar month of a Unix time, such as `2026-11`."""
        return datetime.fromtimestamp(now, self.zone).strftime("%Y-%m")

    def scheduled(self, model: str, now: float, ahead_s: float) -> int:
        """Replicas that the schedule keeps for a model, from now until `ahead_s` seconds later."""
        if not self.schedule:
            return 0
        # A window is at least a minute long, so looking once a minute sees each.
        times = [now + step * 60 for step in range(int(ahead_s // 60) + 1)] + [now + ahead_s]
        local = [datetime.fromtimestamp(time, self.zone) for time in times]
        return max(
            (window.replicas for window in self.schedule if any(window.holds(model, time) for time in local)),
            default=0,
        )

    def mode(self, model: str, now: float) -> Literal["auto", "off", "on"]:
        """What the manual switch says for a model at a Unix time."""
        if self.switch.mode == "auto":
            return "auto"
        return self.switch.at(model, datetime.fromtimestamp(now, UTC))


def _minute(time_of_day: str) -> int:
    hour, minute = time_of_day.split(":")
    return (int(hour) * 60 + int(minute)) % _MINUTES_A_DAY
