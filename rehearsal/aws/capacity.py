"""What the double is told to do wrong: no capacity, slow launches, quotas, an API that is away.

One document, put from outside while the double runs. Times in it are relative to when it is put.
"""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from rehearsal.aws.instance_types import QUOTAS

Seconds = Annotated[float, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Window(_Model):
    """When something holds, counted from when the script was put."""

    starts_in: Seconds = 0
    lasts: Seconds | None = Field(None, description="seconds; without it until the next script")

    def holds(self, elapsed: float) -> bool:
        """Whether it holds `elapsed` seconds after the script was put."""
        return self.starts_in <= elapsed and (self.lasts is None or elapsed < self.starts_in + self.lasts)


class Shortage(Window):
    """An instance type that EC2 has no more of.

    Attributes:
        instance_type: As `g6e.12xlarge`; `*` is every type.
        availability_zone: Where; without it in all zones together.
        capacity_type: ON_DEMAND, SPOT or CAPACITY_BLOCK; without it all.
        available: How many instances there may be at most while it holds. Running ones are not taken away.
    """

    instance_type: str
    availability_zone: str | None = None
    capacity_type: str | None = None
    available: int = Field(0, ge=0)


class Outage(Window):
    """A service whose API answers `status` to every call.

    Attributes:
        service: As in its endpoint: `eks`, `ec2`, `autoscaling`; `*` is every one.
        status: 503, 429 for throttling, or 403 with code `AccessDenied` for a caller who may not ask.
        code: What the answer calls the error.
    """

    service: str
    status: int = Field(503, ge=400, le=599)
    code: str = "ServiceUnavailable"


class ClusterApi(_Model):
    """The Kubernetes API that EKS names for every cluster: that of an embedded site.

    Attributes:
        endpoint: Its address.
        certificate_authority: The certificate of its authority, base64 of PEM.
    """

    endpoint: str
    certificate_authority: str


class Script(_Model):
    """Everything that the double can be told.

    Attributes:
        launch_seconds: From the launch of an instance until its node is there.
        terminate_seconds: From the end of an instance until its node is gone.
        launch_seconds_of: The same as launch_seconds for single instance types.
        retry_seconds: How long a group waits after a launch that failed.
        shortages: What EC2 has no more of.
        outages: Services that are away, or that refuse.
        undeletable: Node groups whose deletion fails, by name.
        failing: Endpoints whose creation fails, by name, and the reason that it tells.
        taken_back: Endpoints whose updates SageMaker takes back, by name, and the reason that it tells.
        quotas: vCPUs by quota code, `L-417A185B`; a launch beyond one fails. Instances of endpoints by the
            quota's name, `ml.g6e.2xlarge for endpoint usage`, which are only told.
        cluster_api: What DescribeCluster names; without it names that lead nowhere.
    """

    launch_seconds: Seconds = 0
    terminate_seconds: Seconds = 0
    launch_seconds_of: dict[str, Seconds] = {}
    retry_seconds: Seconds = 5
    shortages: tuple[Shortage, ...] = ()
    outages: tuple[Outage, ...] = ()
    undeletable: tuple[str, ...] = ()
    failing: dict[str, str] = {}
    taken_back: dict[str, str] = {}
    quotas: dict[str, float] = Field(default_factory=lambda: {code: q.default for code, q in QUOTAS.items()})
    cluster_api: ClusterApi | None = None
    put_at: float = Field(default_factory=time.time, exclude=True)

    def shortage(
        self, instance_type: str, zone: str, capacity_type: str, *, in_zone: int, everywhere: int, now: float
    ) -> Shortage | None:
        """The first shortage that forbids one more instance; None if there may be one.

        Args:
            instance_type: Of the instance.
            zone: Its availability zone.
            capacity_type: As in Shortage.
            in_zone: How many of the type there are in the zone.
            everywhere: How many of the type there are.
            now: Seconds since the epoch.
        """
        for shortage in self.shortages:
            if (
                shortage.holds(now - self.put_at)
                and shortage.instance_type in ("*", instance_type)
                and shortage.availability_zone in (None, zone)
                and shortage.capacity_type in (None, capacity_type)
                and (in_zone if shortage.availability_zone else everywhere) >= shortage.available
            ):
                return shortage
        return None

    def outage(self, service: str, now: float) -> Outage | None:
        """The outage that a call of `service` meets now."""
        return next(
            (
                outage
                for outage in self.outages
                if outage.service in ("*", service) and outage.holds(now - self.put_at)
            ),
            None,
        )
