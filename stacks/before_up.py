"""Looks before anything is declared: at the cluster, at the account, at what has the names already."""

import importlib

import pulumi

from components.kubernetes.ownership import stack_name
from stacks import cluster
from stacks.sagemaker_settings import SageMakerSettings
from stacks.settings import PlatformSettings, Settings
from stacks.takeover import TakeoverCheck, refuse_takeovers


def look(settings: Settings) -> None:
    """Looks at what the scenario is about to use.

    Raises:
        SettingsError: It is not what the settings say, or cannot be used.
    """
    if isinstance(settings, SageMakerSettings):
        _account().look_at_endpoints(settings)
        importlib.import_module("stacks.endpoint_updates").prepare_updates(settings)
    else:
        _look_at_cluster(settings)


def _look_at_cluster(platform: PlatformSettings) -> None:
    api = cluster.connect(platform.cluster)
    cluster.require_kuberay(api, platform)
    if platform.cloud is not None:
        _account().look(platform.cloud)
    check = TakeoverCheck(api, platform.name, stack_name(), pulumi.runtime.is_dry_run())
    refuse_takeovers(check, shared_namespace=platform.cluster.access == "namespace")


def _account():
    # By name, because the SDK of a cloud is installed only where a stack has one.
    return importlib.import_module("stacks.cloud_account")
