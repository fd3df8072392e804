"""The options of drivers that hand operations to another runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping

from teflon.errors import OptionError, did_you_mean
from teflon.pipe import Option


def checked_options(
    driver: str, options: Mapping[str, str] | None, known: Mapping[str, Option]
) -> dict[str, str]:
    """Return all options with their values. Raises OptionError."""
    given = dict(options or {})
    for name, value in given.items():
        if name not in known:
            hint = did_you_mean(name, known) or f" (it takes {', '.join(known)})"
            raise OptionError(f"{driver}: there is no option {name!r}{hint}")
        choices = known[name].choices
        if choices and value not in choices:
            raise OptionError(
                f"{driver}: option {name} is {value!r}, must be one of {', '.join(choices)}"
            )
    threads = given.get("threads", "")
    if threads and not (threads.isdecimal() and 1 <= int(threads) <= 1024):
        raise OptionError(f"{driver}: option threads is {threads!r}, must be a number from 1 to"
                          " 1024")  # fmt: skip
    return {name: given.get(name, about.default) for name, about in known.items()}


OPTIONS = {
    "known": Option(
        "which operations it takes: those alone that nothing else computes (`no`; with the kernels"
        " that give the same bits everywhere), or all (`yes`; with the fastest kernels)",
        ("no", "yes"), "no",
    ),
    "threads": Option(
        "threads of an inference; 1 by default, with known=yes as many as there are processors"
    ),
}  # fmt: skip
"""The options that these drivers take."""


def thread_count(options: Mapping[str, str]) -> int:
    """Return how many threads an inference has."""
    if options["threads"]:
        return int(options["threads"])
    return (os.cpu_count() or 1) if options["known"] == "yes" else 1
