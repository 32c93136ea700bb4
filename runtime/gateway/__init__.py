"""Renders the Envoy gateway from the models that it routes to."""
