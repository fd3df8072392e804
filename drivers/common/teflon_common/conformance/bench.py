"""Running cases on an opened device, and judging their results."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

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
"""The largest allowed difference of an operation's result from the reference, on equal operands;
for operations of which the device does not say whether it fuses them, this many steps for each.
"""

SHARE = 0.2
"""The largest allowed share of a result's elements that differ. Hardware that rounds ties in
another way, or has short multipliers, is far below; truncation instead of rounding is far above.
"""

FEW = 50
"""Results with fewer elements are not checked for SHARE."""


class Status(enum.Enum):
    """How a case ended; the values are the words of expectation files."""

    PASS = "Pass"
    FAIL = "Fail"  # the numbers are wrong, or the interface does not behave as it must
    CRASH = "Crash"  # an unexpected error
    SKIP = "Skip"  # the device does not support it, and says why


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and the reason if it did not pass."""

    status: Status
    reason: str = ""
    steps: int = 0
    share: float = 0.0


class Bench:
    """A device under test, opened once for all cases."""

    def __init__(
        self, device: Device, context: Context, spec: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Take an opened device. spec, options: how to open it once more, where that is known."""
        self.device, self.context = device, context
        self.spec, self.options = spec or self.name, dict(options or {})
        self.reference, _ = open_device(CPU)

    @classmethod
    def open(cls, spec: str, options: Mapping[str, str] | None = None) -> Self:
        """Open a device. Raises what `open_device` raises, OptionError for a chip's description."""
        device, context = open_device(spec, options)
        if context is None:
            raise OptionError(
                f"device {spec}: is the description of a chip, must be a device that can run"
            )
        return cls(device, context, spec, options)

    @property
    def name(self) -> str:
        """Driver and chip, as in the names of expectation files."""
        return f"{self.device.driver}-{self.device.chip}"

    @property
    def driver(self) -> Driver:
        return discover().drivers[self.device.driver]

    def compile(self, graph: Graph) -> Artefact:
        """Compile a model for the device and the reference."""
        return compile_plan(plan_model(graph, self.device), Cache(None))

    def program(self, graph: Graph) -> Program | None:
        """Return the program of a model; None if the device cannot run all of it."""
        artefact = self.compile(graph)
        whole = [part.device for part in artefact.plan.partitions] == [0]
        return artefact.programs[0] if whole else None

    def run(self, program: Program, inputs: Sequence[Array]) -> list[Array]:
        """Load a program, run it once, and free it."""
        loaded = self.context.load(program)
        try:
            return self.context.invoke(loaded, inputs)
        finally:
            loaded.close()


def run_case(bench: Bench, case: Case) -> Outcome:
    """Run a case and compare each operation that the device runs with the reference."""
    random = case.random
    graph = case.make(random)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a numpy warning about an overflow means a wrong number
        try:
            artefact = bench.compile(graph)
            inputs = random_inputs(random, graph)
            found = compare_plan(artefact.plan, bench.context, inputs, programs=artefact.programs)
        except Exception as error:  # other people's drivers may raise anything
            return Outcome(Status.CRASH, f"{type(error).__name__}: {error}")
    parts = [part.graph for part in artefact.plan.partitions if part.device == 0]
    guessed = any(bench.device.absorbed(part) is None for part in parts)
    return _judge(found, refusals(artefact.plan), guessed)


def refusals(plan: Plan) -> str:
    """Return why the device does not run all operations; empty if it does."""
    reasons = [
        f"{placement.op.tflite_name}: {reason}"
        for placement in plan.placements.values()
        for number, (_, reason) in enumerate(placement.reasons)
        if number == 0 and placement.device != 0
    ]
    return "; ".join(dict.fromkeys(reasons))


def _judge(found: Comparison, refused: str, guessed: bool) -> Outcome:
    """Return the outcome; guessed: operations of a layer may have been done one by one."""
    share = max((layer.share for layer in found.layers if _size(layer.shape) >= FEW), default=0.0)
    for layer in found.layers:
        what = f"{' + '.join(layer.ops)}: {layer.output!r}"
        fused = len(layer.ops)
        if layer.steps > STEPS * (fused if guessed else 1):
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
