"""`teflon models`: lists, downloads and finds the models that have a name."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from teflon.cli.common import table
from teflon.samples import models as library


def register(commands: Any) -> None:
    """Add the command and its three verbs."""
    parser = commands.add_parser("models", help="list, download and find the models with a name")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("list", help="print names, licences and paths").set_defaults(run=list_)
    fetch = verbs.add_parser("fetch", help="download into the cache and check the SHA-256")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.set_defaults(run=fetch_)
    where = verbs.add_parser("where", help="print a file's path, or the cure if it is missing")
    where.add_argument("name", metavar="NAME")
    where.set_defaults(run=where_)


def list_(options: argparse.Namespace) -> int:
    """Print a line for each file of the table."""
    rows = [
        (entry.name, entry.summary, entry.licence, library.find(entry.name) or "not fetched")
        for entry in library.known().values()
    ]
    print(table(rows, ("name", "what", "licence", "where")))
    return 0


def fetch_(options: argparse.Namespace) -> int:
    """Download the named files."""
    for name in options.names:
        library.entry_of(name)
    for name in options.names:
        print(library.fetch(name, progress=sys.stderr.isatty()))
    return 0


def where_(options: argparse.Namespace) -> int:
    """Print the path of one file."""
    library.entry_of(options.name)
    print(library.resolve(options.name))
    return 0
