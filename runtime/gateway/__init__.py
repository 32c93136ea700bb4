"""Renders the Envoy gateway from the models that it routes to.

`render` gives the files of a ConfigMap, `render_api_keys` those of a Secret, and `arguments` the
command line of the Envoy that reads both. Everything here is a pure function of its arguments.
"""

from runtime.gateway.alerts import alert_groups, render_alerts
from runtime.gateway.config import GatewayConfig, LinkTls, ModelRoute, Overflow, Upstream
from runtime.gateway.files import BOOTSTRAP_FILE, arguments, render, render_api_keys

__all__ = [
    "BOOTSTRAP_FILE",
    "GatewayConfig",
    "LinkTls",
    "ModelRoute",
    "Overflow",
    "Upstream",
    "alert_groups",
    "arguments",
    "render",
    "render_alerts",
    "render_api_keys",
]
