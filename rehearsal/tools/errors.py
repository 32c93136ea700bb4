"""The one error that the tools raise."""


class ToolError(Exception):
    """A tool cannot be had; the message says which, why and what to do about it."""
