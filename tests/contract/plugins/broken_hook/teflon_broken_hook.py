"""A plugin that misspells the hook."""

from __future__ import annotations

from teflon.plugins import hookimpl


@hookimpl
def teflon_drivers() -> None:
    """Describe nothing."""
