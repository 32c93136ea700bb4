"""The providers of the AWS side: one account, one region, one EKS cluster."""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from stacks.cloud_settings import AssumeRole, CloudSettings
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import SettingsError

# What sends AWS' SDKs to another place than AWS; the rehearsal sets it for its double.
_ENDPOINT = "AWS_ENDPOINT_URL"
# Kubeconfig of the cluster that stands for EKS; the rehearsal's, and of no use without its double.
_KUBECONFIG = "SPILLWAY_EKS_KUBECONFIG"


def aws_provider(cloud: CloudSettings | SageMakerSettings, tags: Mapping[str, str]) -> aws.Provider:
    """The provider of the account and region, which refuses credentials of any other account."""
    role = cloud.assume_role
    roles = None if role is None else [_assumed(role)]
    return aws.Provider(
        "aws",
        region=cloud.region,
        allowed_account_ids=[cloud.account_id],
        default_tags={"tags": dict(tags)},
        assume_roles=roles,
    )


def _assumed(role: AssumeRole) -> aws.ProviderAssumeRoleArgs:
    return aws.ProviderAssumeRoleArgs(
        role_arn=role.role_arn, external_id=role.external_id, session_name="spillway"
    )


def reachable(kubeconfig: pulumi.Output[str]) -> pulumi.Output[str]:
    """The kubeconfig of the EKS cluster, or of the one that stands for it in a rehearsal.

    Raises:
        SettingsError: A cluster is named for a rehearsal, and this is none.
    """
    stand_in = rehearsal_kubeconfig()
    if stand_in is None:
        return kubeconfig
    # Still after the cluster: the order of a rehearsal is the order in earnest.
    text = stand_in.read_text()
    return kubeconfig.apply(lambda _: text)


def eks_provider(kubeconfig: pulumi.Output[str], needs: Sequence[pulumi.Resource]) -> kubernetes.Provider:
    """The provider of the EKS cluster. All that is declared with it comes after `needs`, and goes before."""
    return kubernetes.Provider(
        "eks",
        kubeconfig=kubeconfig,
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        opts=pulumi.ResourceOptions(depends_on=list(needs)),
    )


def rehearsal_kubeconfig() -> Path | None:
    """The cluster that stands for EKS in a rehearsal; None in earnest.

    Raises:
        SettingsError: One is named while AWS' SDKs do not go to this machine.
    """
    path = os.environ.get(_KUBECONFIG)
    if not path:
        return None
    if not is_rehearsal():
        raise SettingsError(
            f"{_KUBECONFIG} = {path!r} names a cluster that stands for EKS, but {_ENDPOINT} names no AWS "
            "double on this machine; unset it, or run the stack with `make rehearse`"
        )
    return Path(path)


def is_rehearsal() -> bool:
    """Whether AWS' SDKs go to an address of this machine."""
    host = urlsplit(os.environ.get(_ENDPOINT, "")).hostname
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
