"""Tests of the rendered gateway with the real Envoy in front of a scripted upstream."""
