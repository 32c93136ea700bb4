"""Components that live in a Kubernetes cluster."""
