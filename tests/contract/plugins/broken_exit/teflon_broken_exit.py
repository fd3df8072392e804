"""A plugin that was a program once."""

raise SystemExit("usage: broken MODEL")
