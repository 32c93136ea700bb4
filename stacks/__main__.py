"""`pulumi up`: loads the settings, looks at the cluster, declares the scenario, exports the outputs."""

import pulumi

from components.kubernetes.ownership import stack_name
from stacks import cluster, onprem, settings
from stacks.takeover import TakeoverCheck, refuse_takeovers

try:
    platform = settings.load()
    api = cluster.connect(platform.cluster)
    cluster.require_kuberay(api, platform)
    check = TakeoverCheck(api, platform.name, stack_name(), pulumi.runtime.is_dry_run())
    refuse_takeovers(check, shared_namespace=platform.cluster.access == "namespace")
    onprem.deploy(platform).export()
except settings.SettingsError as error:
    raise pulumi.RunError(str(error)) from None
