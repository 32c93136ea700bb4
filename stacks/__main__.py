"""`pulumi up`: loads the stack's settings, declares its scenario, exports the outputs."""

import pulumi

from stacks import onprem, settings

try:
    onprem.deploy(settings.load()).export()
except settings.SettingsError as error:
    raise pulumi.RunError(str(error)) from None
