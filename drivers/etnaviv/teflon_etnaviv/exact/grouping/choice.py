"""Mode balanced: the groups with the least sum of time and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teflon.ir.ops import DepthwiseConv2D, FullyConnected
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.grouping.cutting import segments
from teflon_etnaviv.exact.grouping.kernels import F64, Weighted
from teflon_etnaviv.rates import RATES, Rates

_START = 0.004
"""Milliseconds that one more job is taken to need. Ref: rates.py (what a fit finds)"""
_NOISE = 2.0
"""How many times the time of one job for all channels it is worth to be rid of noise as strong as
that of rounding the outputs.
"""
_GRAIN = 2 ** (1 / 8)
"""Neighbours whose scales lie closer together are never parted."""


def _rates(chip: Chip) -> Rates:
    """Return what a chip does in a millisecond; of one without a model of time, the A311D's."""
    return RATES.get(chip.name, RATES["a311d"])


@dataclass(frozen=True)
class Price:
    """What a group of a layer costs.

    Times in milliseconds. each_job, each_channel: what goes through memory; array: what a channel
    keeps the MADs busy while all cores work (squared: for each of its group's planes, as depthwise
    layers of V7 are full convolutions); noise: what a kernel is charged whose weights are rounded
    to a scale of 1.
    """

    each_job: float
    each_channel: float
    array: float
    squared: bool
    cores: int
    noise: float

    def time(self, channels: F64) -> F64:
        """Return the time of groups of so many channels."""
        kernels = np.ceil(channels / self.cores) * self.cores
        array = self.array * kernels * (channels if self.squared else 1)
        found: F64 = _START + np.maximum(array, self.each_job + self.each_channel * channels)
        return found

    def whole(self, channels: int) -> float:
        """Return the time of one job for all channels."""
        return float(self.time(np.array([float(channels)]))[0])

    def cost(self, scales: F64, parts: Sequence[slice]) -> float:
        """Return the sum of time and noise: time in times of one job for all channels, noise as the
        mean over channels.
        """
        channels = np.array([float(part.stop - part.start) for part in parts])
        squares = np.array([scales[part].max() ** 2 for part in parts])
        uneven = np.array([scales[part].max() > scales[part].min() for part in parts])
        noise = float((channels * squares * uneven).sum()) * self.noise / len(scales)
        return float(self.time(channels).sum()) / self.whole(len(scales)) + noise


def price_of(op: Weighted, chip: Chip, square: float) -> Price:
    """Return what groups of a layer cost on a chip.

    square: the expected mean square of inputs, in steps from their zero point.
    """
    rates = _rates(chip)
    depthwise = isinstance(op, DepthwiseConv2D) and op.input.shape[3] > 1
    pixels = 1 if isinstance(op, FullyConnected) else math.prod(op.output.shape[1:3])
    weights = op.weights.type.size // op.weights.shape[3 if isinstance(op, DepthwiseConv2D) else 0]
    per_cycle = chip.nn_core_count * chip.nn_mad_per_core * rates.products
    read = math.prod(op.input.shape)
    of_one = read / op.input.shape[3] if depthwise else 0
    factor = 4 if isinstance(op, DepthwiseConv2D) and op.stride == (2, 2) else 1
    multiplier = op.input.type.scale / op.output.type.scale
    return Price(
        each_job=0 if depthwise else read / rates.memory,
        each_channel=(of_one + weights + pixels) / rates.memory,
        array=factor * pixels * weights / per_cycle / rates.cycles,
        squared=depthwise and not chip.depthwise_mode,
        cores=chip.nn_core_count,
        noise=_NOISE * weights * square * multiplier**2,
    )


def best(price: Price, scales: F64) -> list[slice]:
    """Return the parts of a row of channels of the least cost."""
    grains = segments(scales, _GRAIN)
    starts = np.array([part.start for part in grains])
    ends = np.array([part.stop for part in grains])
    largest, smallest = (f.reduceat(scales, starts) for f in (np.maximum, np.minimum))
    whole = price.whole(len(scales))
    sums = np.zeros(len(grains) + 1)
    first = np.zeros(len(grains) + 1, np.intp)
    for last in range(len(grains)):
        # groups that end here, from each start
        top = np.maximum.accumulate(largest[last::-1])[::-1]
        low = np.minimum.accumulate(smallest[last::-1])[::-1]
        count = (ends[last] - starts[: last + 1]).astype(float)
        noise = price.noise * top**2 * (top > low) * count / len(scales)
        total = sums[: last + 1] + price.time(count) / whole + noise
        first[last + 1] = int(total.argmin())
        sums[last + 1] = total[first[last + 1]]
    found: list[slice] = []
    at = len(grains)
    while at:
        begin = int(first[at])
        found.append(slice(int(starts[begin]), int(ends[at - 1])))
        at = begin
    return found[::-1]


def reordering(size: int, channels: int, chip: Chip) -> float:
    """Return the milliseconds that a job takes to bring planes of so many bytes together into
    another order.

    It reads and writes the planes, and reads three bits for each weight.
    """
    rates = _rates(chip)
    per_cycle = chip.nn_core_count * chip.nn_mad_per_core * rates.products
    array = size * channels / per_cycle / rates.cycles
    return _START + max(array, (2 * size + channels**2 * 3 / 8) / rates.memory)
