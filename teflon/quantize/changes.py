"""What quantisation changes: each layer's signal-to-noise ratio, and the outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.quantize.tensors import Sample


@dataclass(frozen=True)
class Layer:
    """An operation of the float model, and the tensor that it makes."""

    name: str
    kind: str


class Probe(Protocol):
    """A model whose inner tensors can be seen."""

    @property
    def layers(self) -> Sequence[Layer]:
        """What the operations make, in order, less conversions."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """The names that users know, in order."""
        ...

    def run(self, sample: Sample) -> tuple[Mapping[str, Array], Sequence[Array]]:
        """Return the layers' tensors by name, and the outputs: real numbers, not quantised ones.

        A tensor that is not there, or that has no real numbers, is left out.
        """
        ...


@dataclass
class Noise:
    """Powers of a signal and of its error, summed up."""

    signal: float = 0.0
    error: float = 0.0
    count: int = 0
    largest: float = 0.0
    absolute: float = 0.0

    def add(self, want: Array, have: Array) -> None:
        exact = want.astype(np.float64)
        off = np.abs(exact - have)
        self.signal += float(np.square(exact).sum())
        self.error += float(np.square(off).sum())
        self.absolute += float(off.sum())
        self.largest = max(self.largest, float(off.max(initial=0)))
        self.count += off.size

    @property
    def decibels(self) -> float:
        """SQNR; infinite where there is no error, -infinite where there is no signal."""
        if not self.error:
            return math.inf
        return 10 * math.log10(self.signal / self.error) if self.signal else -math.inf


@dataclass
class OutputChange:
    """How far an output is from that of the float model."""

    name: str
    noise: Noise = field(default_factory=Noise)
    classes: int = 0
    """How many numbers an output that is a list of scores has; 0 for other outputs."""
    same_top: int = 0

    def add(self, want: Array, have: Array) -> None:
        self.noise.add(want, have)
        self.classes = _classes(want)
        if self.classes:
            self.same_top += int(want.reshape(-1).argmax() == have.reshape(-1).argmax())


def _classes(array: Array) -> int:
    """Return the number of scores where all sizes but one are 1; else 0."""
    return array.size if array.size > 1 and max(array.shape) == array.size else 0


@dataclass
class Changes:
    """All of it, over all samples."""

    layers: dict[Layer, Noise]
    outputs: list[OutputChange]
    samples: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; None for an infinite ratio."""
        return {
            "samples": self.samples,
            "layers": [
                {"name": layer.name, "kind": layer.kind, "sqnr_db": _finite(noise.decibels)}
                for layer, noise in self.layers.items()
            ],
            "outputs": [
                {
                    "name": out.name,
                    "sqnr_db": _finite(out.noise.decibels),
                    "mean_difference": out.noise.absolute / max(1, out.noise.count),
                    "largest_difference": out.noise.largest,
                    "top1_agreement": out.same_top / self.samples if out.classes else None,
                }
                for out in self.outputs
            ],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def measure(before: Probe, after: Probe, samples: Iterable[Sample]) -> Changes:
    """Run both models on all samples. Layers that only one of them has are left out.

    Raises ModelError if the models have different outputs.
    """
    kinds = {layer.name: layer for layer in after.layers}  # Conv, where Relu became a part of it
    noises = {kinds.get(layer.name, layer): Noise() for layer in before.layers}
    outputs = [OutputChange(name) for name in before.outputs]
    count = 0
    for sample in samples:
        (want, results), (have, ours) = before.run(sample), after.run(sample)
        if [r.shape for r in results] != [r.shape for r in ours]:
            raise ModelError("the quantised model has other outputs than the float model")
        for layer, noise in noises.items():
            a, b = want.get(layer.name), have.get(layer.name)
            if a is not None and b is not None and a.shape == b.shape:
                noise.add(a, b)
        for change, a, b in zip(outputs, results, ours, strict=True):
            change.add(a, b)
        count += 1
    return Changes({la: n for la, n in noises.items() if n.count}, outputs, count)
