"""Why the burst is where it is, for people: told by any pod or command, from what was written down."""

from runtime.burst.config import ControllerConfig, is_armed
from runtime.burst.decision import explain
from runtime.burst.fleet import Fleet
from runtime.burst.policy import BurstPolicy
from runtime.burst.store import Kept


def policy_of(config: ControllerConfig, kept: Kept) -> BurstPolicy:
    """The stack's policy, with the manual switch where somebody has used it."""
    return config.policy if kept.switch is None else config.policy.model_copy(update={"switch": kept.switch})


def fleet_of(config: ControllerConfig, kept: Kept) -> Fleet:
    """What may be used now. A model that is not armed may keep what runs, and gets no more.

    A new version of a model is staged while the old one serves.
    """
    return config.fleet(kept.armed, {name: one.target for name, one in kept.state.models.items()})


def explained(config: ControllerConfig, kept: Kept, now: float) -> str:
    """The whole text.

    Args:
        config: The controller's file.
        kept: What the ConfigMap holds.
        now: Unix time.
    """
    policy = policy_of(config, kept)
    lines = [kept.notes.rstrip() or "no controller leads yet", _switch_line(policy, kept)]
    for model in config.models:
        if not is_armed(model, kept.armed):
            verified = ", ".join(kept.armed.get(model.name, ())) or "nothing"
            lines.append(
                f"{model.name} is not armed, so it gets no more replicas: verified on EKS is {verified}, "
                f"and it needs {model.cloud.staged}"
            )
    return "\n".join(lines) + "\n" + explain(policy, fleet_of(config, kept), kept.state, now)


def _switch_line(policy: BurstPolicy, kept: Kept) -> str:
    switch, by = policy.switch, "the stack file" if kept.switch is None else "hand"
    number = f" with {switch.replicas} replicas" if switch.replicas else ""
    until = f" until {switch.until}" if switch.until else ""
    of = f" for {', '.join(switch.models)}" if switch.models else ""
    return f"switch: {switch.mode}{number}{of}{until}, by {by}"
