"""The compiler for one inference on several cores: the device's own, once for each part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from teflon import trace
from teflon.compile.programs import identity
from teflon.errors import (
    DriverUnavailable,
    EncodingError,
    OptionError,
    ProgramError,
    UnsupportedOperation,
)
from teflon.ir.graph import Graph, Op, Value
from teflon.pipe import HOST, MEMORY, Cost, Data, Device, Program
from teflon.run.multicore.choose import Choice, choose
from teflon.run.multicore.parts import Channels, Part, Piece, Rows, cut_channels, cut_rows
from teflon.run.multicore.program import (
    MulticoreProgram,
    Predicted,
    Share,
    Stage,
    from_bytes,
    is_multicore,
    whole,
)
from teflon.run.multicore.timing import ASSUMED, Assumed, Effort, duration

_GAIN = 0.97
"""Share of one core's time that stages must stay below."""
_COUNTS = (
    "macs", "array_cycles", "dram_read", "dram_written", "coefficient_bytes", "sram_hits",
)  # fmt: skip


class MulticoreDevice(Device):
    """A device's description, for so many opened files of it; stateless as the device is."""

    def __init__(self, device: Device, cores: int, assumed: Assumed = ASSUMED) -> None:
        """Raises OptionError for less than one core."""
        if cores < 1:
            raise OptionError(f"option cores: is {cores}, must be at least 1")
        self.inner, self.assumed = device, assumed
        self.driver, self.chip = device.driver, device.chip
        self.cores = cores

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return self.inner.unsupported(op, graph)

    def passes(self) -> Sequence[Callable[[Graph], Graph]]:
        return self.inner.passes()

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        return self.inner.veto(subgraph)

    def signature(self) -> str | None:
        made_by = identity(self.inner)
        return None if made_by is None else f"stages {self.cores} {self.assumed} {made_by}"

    def compile(self, subgraph: Graph) -> MulticoreProgram:
        """Return stages where the model of time says that they are faster, else one stage."""
        program = self.inner.compile(subgraph)
        plain = whole(program, _title(subgraph), _macs(subgraph), "")
        note = self._refusal()
        if note:
            return replace(plain, note=note)
        try:
            costs = self.inner.estimate(program)
        except DriverUnavailable as error:
            return replace(plain, note=str(error))
        one = sum(cost.total_ms for cost in costs)
        with trace.span("choose stages", operations=len(subgraph.ops)):
            choices = choose(subgraph, costs, self.cores, self.assumed)
        if all(choice.cut is None for choice in choices):
            return replace(plain, note=f"{one:.2f} ms predicted, no stages are faster")
        found = self.staged(subgraph, choices)
        if found is None:
            return replace(plain, note="the device cannot run parts of it")
        took, sharing = self._milliseconds(found)
        if took > one * _GAIN:
            return replace(plain, note=f"{one:.2f} ms predicted, in stages {took:.2f} ms")
        return replace(found, predicted=Predicted(one, took, sharing))

    def _refusal(self) -> str:
        """Return why nothing is divided, empty where something may be."""
        if self.cores == 1:
            return "one core was asked for"
        if self.inner.cores == 1:
            return f"{self.chip} runs one job at a time"
        return "" if self.inner.divisible() else "parts would not give the same bits as the whole"

    def load(self, data: Data) -> MulticoreProgram:
        """Return the program; one that was compiled for one core is one stage."""
        if is_multicore(data):
            return from_bytes(data, self.inner.load)
        return whole(self.inner.load(data), "the whole program", 0, "it was compiled for one core")

    def outline(self, program: Program) -> str:
        return self._each(program, self.inner.outline)

    def describe(self, program: Program) -> str:
        return self._each(program, self.inner.describe)

    def _each(self, program: Program, show: Callable[[Program], str]) -> str:
        if not isinstance(program, MulticoreProgram):
            return show(program)
        lines = list(program.remarks)
        for number, stage in enumerate(program.stages):
            for core, share in enumerate(stage.shares):
                lines.append(f"# stage {number}, core {core}: {stage.title}\n{show(share.program)}")
        return "\n".join(lines)

    # Stages -----------------------------------------------------------------------------------

    def staged(self, graph: Graph, choices: Sequence[Choice]) -> MulticoreProgram | None:
        """Return the program of some stages, None where the device refuses a part."""
        numbers: dict[Value, int] = {v: n for n, v in enumerate(graph.inputs)}
        stages = []
        for choice in choices:
            stage = graph.subgraph(graph.ops[choice.first : choice.last], graph.name)
            for value in stage.outputs:
                numbers[value] = len(numbers)
            shares = self._shares(stage, choice, numbers)
            if shares is None:
                return None
            kinds = {Rows: "rows", Channels: "channels"}
            kind = kinds.get(type(choice.cut), "whole")
            stages.append(Stage(_title(stage), kind, shares, _macs(stage)))
        return MulticoreProgram(
            self.driver,
            self.chip,
            tuple(v.type for v in numbers),
            tuple(numbers[v] for v in graph.inputs),
            tuple(numbers[v] for v in graph.outputs),
            tuple(stages),
        )

    def _shares(
        self, stage: Graph, choice: Choice, numbers: Mapping[Value, int]
    ) -> tuple[Share, ...] | None:
        shares = []
        for part in _parts(stage, choice.cut):
            if self.inner.veto(part.graph):
                return None
            try:
                program = self.inner.compile(part.graph)
            except (EncodingError, UnsupportedOperation):  # the whole was taken, a part is not
                return None
            feeds = zip((numbers[v] for v in stage.inputs), part.inputs, strict=True)
            yields = zip((numbers[v] for v in stage.outputs), part.outputs, strict=True)
            shares.append(Share(program, tuple(feeds), tuple(yields)))
        return tuple(shares) or None

    # Time -------------------------------------------------------------------------------------

    def _milliseconds(self, program: MulticoreProgram) -> tuple[float, float]:
        """Return the predicted time of all stages: as assumed, and where memory is shared."""
        efforts = [
            [timed.effort for timed in _timed(program, stage, self.inner, self.assumed)]
            for stage in program.stages
        ]
        shared = replace(self.assumed, sharing=1.0)
        return (
            sum(duration(stage, self.assumed) for stage in efforts),
            sum(duration(stage, shared) for stage in efforts),
        )

    def estimate(self, program: Program) -> Sequence[Cost]:
        """Return the costs of all stages: of a step on several cores the sums of their work, and
        the time of the slowest core.
        """
        if not isinstance(program, MulticoreProgram):
            raise ProgramError(f"stages: cannot estimate a program of driver {program.driver}")
        found: list[Cost] = []
        for number, stage in enumerate(program.stages):
            timed = _timed(program, stage, self.inner, self.assumed)
            alone = len(program.stages) == len(timed) == 1
            found += timed[0].costs if alone else _merged(timed, number, self.assumed)
        return found


def _parts(stage: Graph, cut: Rows | Channels | None) -> list[Part]:
    if isinstance(cut, Rows):
        return cut_rows(stage, cut) or []
    if isinstance(cut, Channels):
        return cut_channels(stage, cut) or []
    pieces = [
        tuple(Piece(0, 0, v.shape[0] if v.shape else 0) for v in values)
        for values in (stage.inputs, stage.outputs)
    ]
    return [Part(stage, pieces[0], pieces[1])]


def _title(graph: Graph) -> str:
    names = [op.where for op in graph.ops]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} operations)"


def _macs(graph: Graph) -> int:
    return sum(op.macs for op in graph.ops)


@dataclass(frozen=True)
class _Timed:
    """A share's costs, and their sums."""

    costs: tuple[Cost, ...]
    effort: Effort


def _timed(
    program: MulticoreProgram, stage: Stage, device: Device, assumed: Assumed
) -> list[_Timed]:
    many = len(stage.shares) > 1
    found = []
    for share in stage.shares:
        costs = tuple(device.estimate(share.program))
        joined = sum(_joined(program, n, piece) for n, piece in share.yields) if many else 0.0
        found.append(_Timed(costs, _effort(costs, joined / assumed.copy)))
    return found


def _joined(program: MulticoreProgram, number: int, piece: Piece) -> float:
    kind = program.tensors[number]
    return kind.size_bytes * (piece.high - piece.low) / max(kind.shape[piece.axis], 1)


def _effort(costs: Sequence[Cost], joined: float) -> Effort:
    """Return the sums of costs in order: conversions of inputs, the chip's, of outputs."""
    first = next((n for n, cost in enumerate(costs) if cost.engine != HOST), len(costs))
    host = [cost.total_ms if cost.engine == HOST else 0.0 for cost in costs]
    chip = [cost for cost in costs if cost.engine != HOST]
    memory = math.fsum(cost.milliseconds.get(MEMORY, 0.0) for cost in chip)
    rest = math.fsum(cost.total_ms for cost in chip) - memory
    return Effort(sum(host[:first]), rest, memory, sum(host[first:]) + joined)


def _merged(timed: Sequence[_Timed], number: int, assumed: Assumed) -> list[Cost]:
    cores = len(timed)
    slowest = max(timed, key=lambda one: one.effort.chip(cores, assumed))
    by_name: dict[str, Cost] = {}
    for one in (slowest, *(t for t in timed if t is not slowest)):
        for cost in one.costs:
            if cost.engine == HOST:
                continue
            by_name[cost.name] = _with(by_name.get(cost.name), cost, one is slowest, cores)
    host = [cost for one in timed for cost in one.costs if cost.engine == HOST]
    efforts = [one.effort for one in timed]
    rest = duration(efforts, assumed) - sum(cost.total_ms for cost in by_name.values())
    return [*by_name.values(), Cost(
        name=f"stage {number}: feed and join" + (f" {cores} cores" if cores > 1 else ""),
        engine=HOST,
        milliseconds={HOST: rest},
        dram_read=sum(cost.dram_read for cost in host),
        dram_written=sum(cost.dram_written for cost in host),
    )]  # fmt: skip


def _with(old: Cost | None, cost: Cost, slowest: bool, cores: int) -> Cost:
    """Return a step with another core's part of it; only the slowest core's takes time."""
    times = cost.milliseconds if slowest else dict.fromkeys(cost.milliseconds, 0.0)
    if old is None:
        engine = f"{cost.engine} x{cores}" if cores > 1 else cost.engine
        return replace(cost, milliseconds=times, engine=engine, peak=cost.peak * cores)
    counts = {name: getattr(old, name) + getattr(cost, name) for name in _COUNTS}
    sums = {name: ms + times.get(name, 0.0) for name, ms in old.milliseconds.items()}
    return replace(old, milliseconds=sums, **counts)
