"""What a model from a source that is not trusted may cost: `teflon.load(..., trusted=False)`.

A limit is checked before the work that it bounds, in the thread that loads. See docs/security.md
for what no limit in the same process can bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace

from teflon.errors import ModelError, OptionError, shown


@dataclass(frozen=True)
class Limits:
    """The most that one model may have or need; `math.inf` stands for no limit.

    file_bytes: each file that is read. tensor_bytes: all tensors of the graph, constants included,
    as if all were there at once. operations: of the graph. macs: multiply-accumulates of one
    inference. seconds: reading and compiling; it is looked at between steps, and the longest step
    is one operation's. mapped: files may be mapped into memory: who shortens such a file ends the
    process. runtimes: operations may go to an installed runtime in this process (LiteRT, ONNX
    Runtime), which reads the file with its own code.
    """

    file_bytes: float = 256 << 20
    tensor_bytes: float = 1 << 30
    operations: float = 10_000
    macs: float = 100e9
    seconds: float = 60.0
    mapped: bool = False
    runtimes: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            item: object = getattr(self, field.name)
            if field.name in ("mapped", "runtimes"):
                if not isinstance(item, bool):
                    raise OptionError(
                        f"limit {field.name}: is {shown(item)}, must be True or False"
                    )
            elif isinstance(item, bool) or not isinstance(item, int | float) or not item > 0:
                raise OptionError(f"limit {field.name}: is {shown(item)}, must be a number above 0")


TRUSTED = Limits(math.inf, math.inf, math.inf, math.inf, math.inf, mapped=True, runtimes=True)
"""Of models whose authors are trusted: none."""

_current: ContextVar[tuple[Limits, float]] = ContextVar("limits", default=(TRUSTED, math.inf))


def current() -> Limits:
    """Return the limits of the model that this thread loads."""
    return _current.get()[0]


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Hold what the body does to limits; the time begins now."""
    token = _current.set((limits, time.monotonic() + limits.seconds))
    try:
        yield
    finally:
        _current.reset(token)


def chosen(trusted: object, mmap: object, limits: object) -> Limits:
    """Return the limits that arguments of `teflon.load` mean. Raises OptionError."""
    for name, given in (("trusted", trusted), ("mmap", mmap)):
        if not isinstance(given, bool):
            raise OptionError(f"{name}: is {shown(given)}, must be True or False")
    if limits is None:
        return replace(TRUSTED, mapped=bool(mmap)) if trusted else Limits()
    if not isinstance(limits, Limits):
        raise OptionError(f"limits: is {shown(limits)}, must be a teflon.Limits")
    if trusted:
        raise OptionError(
            "limits: are for models that are not trusted, must come with trusted=False"
        )
    return limits


def check(name: str, what: str, have: float, limit: str) -> None:
    """Raise ModelError if `have`, which `what` names, is beyond the limit of this name."""
    most = getattr(current(), limit)
    if have > most:
        raise ModelError(
            f"{name}: has {have:.0f} {what}, must have at most {most:.0f} where it is not trusted"
            f" (limits=teflon.Limits({limit}=...) allows more)"
        )


def check_time(name: str) -> None:
    """Raise ModelError if the time of the model that this thread loads is over."""
    limits, until = _current.get()
    if time.monotonic() > until:
        raise ModelError(
            f"{name}: reading and compiling took more than {limits.seconds:g} s, must take less"
            " where it is not trusted (limits=teflon.Limits(seconds=...) allows more)"
        )
