"""`pulumi up`: loads the settings, looks first, declares the scenario, exports the outputs."""

import importlib

import pulumi

from stacks import settings
from stacks.before_up import look

try:
    platform = settings.load()
    look(platform)
    importlib.import_module(f"stacks.{platform.scenario}").deploy(platform).export()
except settings.SettingsError as error:
    raise pulumi.RunError(str(error)) from None
