"""The embedded site: real tools, a real one-node Kubernetes, and named doubles for what cannot be had here."""
