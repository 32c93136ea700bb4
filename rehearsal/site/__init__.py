"""The embedded site: a real one-node Kubernetes in a network namespace of its own.

`Site(name, home)` starts and stops it; `python -m rehearsal.site` is its command line.
"""

from rehearsal.site.layout import SiteError, default_home
from rehearsal.site.site import ComponentStatus, Site, SiteStatus

__all__ = ["ComponentStatus", "Site", "SiteError", "SiteStatus", "default_home"]
