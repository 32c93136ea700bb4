"""The loop that makes an embedded site an EKS cluster: `python -m rehearsal.eks --site NAME --home FOLDER …`.

Each round joins and removes nodes as the AWS double says, does what the cluster autoscaler and Ray's would
do, and leads the internal load balancers' ports into the site. It runs in the host's network namespace.
"""

import argparse
import sys
import time
from pathlib import Path

from rehearsal.eks.aws import Aws, AwsError
from rehearsal.eks.cluster import EksCluster
from rehearsal.eks.heartbeat import heartbeat_file
from rehearsal.site.api import ApiClient, ApiError
from rehearsal.site.layout import SiteError, SiteLayout
from rehearsal.site.link import Link

ROUND_S = 0.5


def main() -> None:
    """Works until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal.eks", description=__doc__)
    parser.add_argument("--site", required=True, help="the embedded site that is the cluster")
    parser.add_argument("--near", required=True, help="the embedded site that the link comes from")
    parser.add_argument("--home", type=Path, required=True, help="Spillway's home folder")
    parser.add_argument("--aws", required=True, help="URL of the AWS double")
    parser.add_argument("--region", required=True, help="the cluster's region")
    parser.add_argument("--unneeded", type=float, default=10.0, help="seconds until an empty node goes")
    parser.add_argument("--hurry", type=float, default=20.0, help="how many times faster Ray lets workers go")
    options = parser.parse_args()
    layout = SiteLayout(options.site, options.home)
    cluster = EksCluster(
        layout,
        Link(SiteLayout(options.near, options.home), layout),
        ApiClient.inside(layout),
        Aws(options.aws, options.region),
        unneeded_s=options.unneeded,
        hurry=options.hurry,
    )
    while True:
        try:
            for line in cluster.round(time.monotonic()):
                print(f"{time.strftime('%FT%T')} {line}", flush=True)
            heartbeat_file(layout).touch()
        except (AwsError, ApiError, SiteError, OSError) as error:
            print(f"{time.strftime('%FT%T')} {error}", file=sys.stderr, flush=True)
        time.sleep(ROUND_S)


if __name__ == "__main__":
    main()
