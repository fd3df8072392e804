"""`teflon cache`: shows the content of the compile cache, or removes it."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from teflon.cli.common import table
from teflon.compile.cache import Cache, cache_for
from teflon.errors import TeflonError


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("cache", help="show or clear the cache of compiled programs")
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print folder, entries and bytes; or remove all entries and print their number."""
    cache = cache_for()
    try:
        result = _clear(cache) if options.action == "clear" else _show(cache)
    except OSError as error:
        raise TeflonError(f"cache {cache.folder}: {error.strerror}") from error
    print(json.dumps(result, indent=2) if options.json else table(list(result.items())))
    return 0


def _clear(cache: Cache) -> dict[str, object]:
    return {"folder": _folder(cache), "removed": cache.clear()}


def _show(cache: Cache) -> dict[str, object]:
    entries = cache.entries()
    found: dict[str, object] = {
        "folder": _folder(cache),
        "entries": len(entries),
        "bytes": sum(e.size for e in entries),
        "limit": cache.limit if cache.folder else 0,
    }
    if entries:
        found["oldest"] = _day(entries[0].used)
        found["newest"] = _day(entries[-1].used)
    return found


def _folder(cache: Cache) -> str:
    return str(cache.folder) if cache.folder else "off"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
