"""`python -m runtime.burst serve|explain|switch`: the burst controller, and what people ask and tell it."""

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from runtime.burst.actuator import Actuator
from runtime.burst.config import CONFIG_FILE, ConfigError, ControllerConfig, read_config
from runtime.burst.dashboard import Dashboard, proxied
from runtime.burst.events import Events
from runtime.burst.explain import explained
from runtime.burst.leader import Leader
from runtime.burst.policy import Switch
from runtime.burst.scrape import Direct, Prometheus
from runtime.burst.service import Parts, serve, stop_on_signals
from runtime.burst.signals import Signals
from runtime.burst.store import Store, StoreError
from runtime.cluster import (
    Access,
    ClusterApi,
    KubeconfigError,
    read_kubeconfig,
    read_service_account,
)
from runtime.model import ContradictionError

# Three of them, one after the other, end within service.ACT_WITHIN_S in all but the worst case.
_TIMEOUT_S = 2.5
_DURATION = re.compile(r"(?:(?P<days>\d+)d)?(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?")


class UsageError(Exception):
    """What was asked for makes no sense; the text is the whole message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config)
        home = _home(options.kubeconfig, options.context)
        store = Store(home(), config.namespace, config.state)
        if options.command == "serve":
            serve(config, _parts(config, home, store), stop_on_signals())
        elif options.command == "explain":
            print(explained(config, store.load(), time.time()), end="")
        else:
            wanted = switch_of(options, datetime.now(UTC))
            store.set_switch(wanted)
            print(f"switch: {wanted.mode if wanted else 'as the stack file says'}")
    except (ConfigError, KubeconfigError, StoreError, UsageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def switch_of(options: argparse.Namespace, now: datetime) -> Switch | None:
    """The manual switch that the command line asks for; None gives it back to the stack file.

    Raises:
        UsageError: It makes no sense; the message says what does.
    """
    if options.mode == "stack":
        return None
    until = None
    if options.duration is not None:
        found = _DURATION.fullmatch(options.duration)
        parts = {key: int(value) for key, value in found.groupdict().items() if value} if found else {}
        if not any(parts.values()):
            raise UsageError(f"--for is {options.duration!r}; write it like 2h, 30m or 1d12h")
        until = (now + timedelta(**parts)).isoformat(timespec="seconds")
    try:
        return Switch(
            mode=options.mode, replicas=options.replicas, until=until, models=tuple(options.model or ())
        )
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        place = cause.place if isinstance(cause, ContradictionError) else first["loc"]
        raise UsageError(f"switch {options.mode}: {'.'.join(map(str, place))} {first['msg']}") from None


@dataclass(frozen=True)
class _Home:
    """Connections to the cluster that the controller runs on, each with a lock and a timeout of its own."""

    access: Access

    def __call__(self) -> ClusterApi:
        return ClusterApi(self.access, _TIMEOUT_S)


def _home(kubeconfig: Path | None, context: str | None) -> _Home:
    return _Home(read_service_account() if kubeconfig is None else read_kubeconfig(kubeconfig, context))


def _parts(config: ControllerConfig, home: _Home, store: Store) -> Parts:
    identity = f"{os.environ.get('HOSTNAME', 'controller')}-{uuid4().hex[:6]}"
    eks = ClusterApi(read_kubeconfig(Path(config.kubeconfig)), _TIMEOUT_S)
    cloud_token, own_token = Path(config.ray_token), Path(config.on_prem_ray_token)
    cloud = {
        model.name: Dashboard(
            eks,
            proxied(model.cloud.namespace, model.cloud.service, model.cloud.port),
            lambda: cloud_token.read_text().strip(),
        )
        for model in config.models
    }
    on_prem = {
        model.name: Dashboard(
            ClusterApi(Access(context=model.name, server=model.on_prem.dashboard), _TIMEOUT_S),
            "",
            lambda: own_token.read_text().strip(),
        )
        for model in config.models
        if model.on_prem.serving == "ray"
    }
    prometheus, window_s = config.policy.signals.prometheus, config.policy.stale_seconds
    metrics = Prometheus(prometheus, window_s) if prometheus else Direct()
    return Parts(
        observer=Signals(config, metrics, on_prem, cloud, eks),
        hand=Actuator(config.models, cloud),
        store=store,
        leader=Leader(home(), config.namespace, config.lease, identity),
        events=Events(home(), config.namespace, config.state, identity),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.burst", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG_FILE, help="the controller's file")
    parser.add_argument("--kubeconfig", type=Path, help="the cluster it runs on; else the pod's own")
    parser.add_argument("--context", help="context of the kubeconfig")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the controller")
    commands.add_parser("explain", help="why it is where it is")
    switch = commands.add_parser("switch", help="the manual switch")
    switch.add_argument(
        "mode",
        choices=("auto", "off", "on", "stack"),
        help="auto: by load; off: no cloud; on: just --replicas; stack: as the stack file says",
    )
    switch.add_argument("--replicas", type=int, help="replicas of each model, with on")
    switch.add_argument(
        "--for", dest="duration", metavar="2h", help="until when it holds; with on it must be said"
    )
    switch.add_argument("--model", action="append", help="only this model; may be repeated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
