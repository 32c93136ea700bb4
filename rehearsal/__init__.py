"""The embedded site: real tools, a real one-node Kubernetes, and named doubles for what is not to be had."""
