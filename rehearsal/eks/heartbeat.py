"""How the loop of the embedded EKS cluster shows that it works."""

from pathlib import Path

from rehearsal.site.layout import SiteLayout

HEARTBEAT_LIMIT_S = 30.0


def heartbeat_file(layout: SiteLayout) -> Path:
    """Touched after each round."""
    return layout.run / "eks.heartbeat"
