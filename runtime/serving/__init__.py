"""Renders what Ray Serve and vLLM run, from a ModelSpec."""
