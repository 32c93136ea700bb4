"""`pulumi up`: loads the settings, looks at the cluster, declares the scenario, exports the outputs."""

import importlib

import pulumi

from components.kubernetes.ownership import stack_name
from stacks import cluster, settings
from stacks.takeover import TakeoverCheck, refuse_takeovers

try:
    platform = settings.load()
    api = cluster.connect(platform.cluster)
    cluster.require_kuberay(api, platform)
    if platform.cloud is not None:
        # By name, because the SDK of a cloud is installed only where a stack has one.
        importlib.import_module("stacks.cloud_account").look(platform.cloud)
    check = TakeoverCheck(api, platform.name, stack_name(), pulumi.runtime.is_dry_run())
    refuse_takeovers(check, shared_namespace=platform.cluster.access == "namespace")
    importlib.import_module(f"stacks.{platform.scenario}").deploy(platform).export()
except settings.SettingsError as error:
    raise pulumi.RunError(str(error)) from None
