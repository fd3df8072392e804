"""Run cases on an opened device and say how they went."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teflon.compile.artefact import Artefact
from teflon.compile.cache import Cache
from teflon.compile.partition import Plan
from teflon.compile.planning import compile_plan, plan_model
from teflon.devices import CPU, open_device
from teflon.errors import OptionError
from teflon.inspect.compare import Comparison, compare_plan
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Driver, Program
from teflon.plugins import discover
from teflon_common.conformance.case import Case
from teflon_common.conformance.graphs import random_inputs

STEPS = 1
"""Greatest difference of an operation's result from the reference, on equal operands; where several
may have been fused, of each.
"""

SHARE = 0.2
"""Greatest share of a result's elements that may differ. Hardware that rounds otherwise at ties, or
whose multipliers are short, is far below; cutting off in place of rounding is far above.
"""

FEW = 50
"""Results with fewer elements than this tell nothing about a share."""


class Status(enum.Enum):
    """How a case ended; the values are the words of expectation files."""

    PASS = "Pass"
    FAIL = "Fail"  # the numbers, or what the interface promises, are wrong
    CRASH = "Crash"  # something was raised that must not be
    SKIP = "Skip"  # the device does not support it, and says why


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and why where it did not pass."""

    status: Status
    reason: str = ""
    steps: int = 0
    share: float = 0.0


class Bench:
    """A device under test, opened once for all cases."""

    def __init__(self, spec: str, options: Mapping[str, str] | None = None) -> None:
        """Raises what `open_device` raises; OptionError for a chip's mere description."""
        device, context = open_device(spec, options)
        if context is None:
            raise OptionError(f"device {spec}: is a description, must be one that runs")
        self._take(spec, device, context, dict(options or {}))

    @classmethod
    def of(cls, device: Device, context: Context) -> Bench:
        """Return a bench for a device that somebody opened."""
        bench = cls.__new__(cls)
        bench._take(f"{device.driver}-{device.chip}", device, context, {})
        return bench

    def _take(self, spec: str, device: Device, context: Context, options: dict[str, str]) -> None:
        self.spec, self.options = spec, options
        self.device, self.context = device, context
        self.reference, _ = open_device(CPU)

    @property
    def name(self) -> str:
        """Driver and chip, as expectation files are called."""
        return f"{self.device.driver}-{self.device.chip}"

    @property
    def driver(self) -> Driver:
        return discover().drivers[self.device.driver]

    def compile(self, graph: Graph) -> Artefact:
        """Return what is compiled of a model for the device and the reference."""
        devices = [self.device, self.reference]
        return compile_plan(plan_model(graph, self.device), devices, Cache(None))

    def program(self, graph: Graph) -> Program | None:
        """Return the program of a model that the device takes whole, None where it does not."""
        artefact = self.compile(graph)
        whole = [part.device for part in artefact.plan.partitions] == [0]
        return artefact.programs[0] if whole else None

    def run(self, program: Program, inputs: Sequence[Array]) -> list[Array]:
        """Load, run once, unload."""
        loaded = self.context.load(program)
        try:
            return self.context.invoke(loaded, inputs)
        finally:
            loaded.close()


def run_case(bench: Bench, case: Case) -> Outcome:
    """Run a case and compare every operation that the device took with the reference."""
    random = case.random
    graph = case.make(random)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow in numpy is a wrong number somewhere
        try:
            artefact = bench.compile(graph)
            inputs = random_inputs(random, graph)
            found = compare_plan(artefact.plan, bench.context, inputs, programs=artefact.programs)
        except Exception as error:  # whatever a stranger's driver raises
            return Outcome(Status.CRASH, f"{type(error).__name__}: {error}")
    return _judged(found, refusals(artefact.plan))


def refusals(plan: Plan) -> str:
    """Return why the device does not take all operations; empty where it does."""
    said = [
        f"{placement.op.tflite_name}: {reason}"
        for placement in plan.placements.values()
        for number, (_, reason) in enumerate(placement.reasons)
        if number == 0 and placement.device != 0
    ]
    return "; ".join(dict.fromkeys(said))


def _judged(found: Comparison, refused: str) -> Outcome:
    share = max((layer.share for layer in found.layers if _size(layer.shape) >= FEW), default=0.0)
    for layer in found.layers:
        what = f"{' + '.join(layer.ops)}: {layer.output!r}"
        fused = len(layer.ops)
        if layer.steps > STEPS * fused:
            reason = f"{what} differs by {layer.steps} steps in {layer.share:.1%} of its elements"
            return Outcome(Status.FAIL, reason, found.worst, share)
        if layer.share > SHARE * fused and _size(layer.shape) >= FEW:
            reason = f"{what} differs in {layer.share:.1%} of its elements"
            return Outcome(Status.FAIL, reason, found.worst, share)
    status = Status.SKIP if refused or not found.layers else Status.PASS
    return Outcome(status, refused, found.worst, share)


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
