"""What became of a layer with a scale for each output channel, for reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_LISTED = 3
"""Layers that remarks name: those whose weights lost most."""


class Grouped(NamedTuple):
    """A layer with a scale for each output channel.

    title: how messages name it; jobs: those that compute its channels; decibels: the signal to
    noise ratio of its weights, infinite where all kept their values; worst: that of the channel
    that lost most.
    """

    title: str
    channels: int
    jobs: int
    decibels: float
    worst: float

    def __str__(self) -> str:
        return (
            f"{self.title}: {self.channels} channels in {_counted(self.jobs, 'job')}, weights at"
            f" {level(self.decibels)}, at least {level(self.worst)} in each channel"
        )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def level(decibels: float) -> str:
    """Return a signal-to-noise ratio as text."""
    return "full precision" if math.isinf(decibels) else f"{decibels:.1f} dB"


def remarks(layers: Sequence[Grouped]) -> Iterator[str]:
    """Yield lines about the layers of a program: all together, then those that lost most."""
    if not layers:
        return
    jobs = sum(layer.jobs for layer in layers)
    mean = sum(10 ** (-layer.decibels / 10) for layer in layers) / len(layers)
    decibels = -10 * math.log10(mean) if mean else math.inf
    yield (
        f"{_counted(len(layers), 'layer')} with a scale for each channel, {_counted(jobs, 'job')},"
        f" weights at {level(decibels)} on average"
    )
    lossy = [layer for layer in layers if not math.isinf(layer.decibels)]
    yield from map(str, sorted(lossy, key=lambda layer: layer.decibels)[:_LISTED])
