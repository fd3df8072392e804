"""The compiler for several cores: it runs the device's own compiler once for each part."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
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
    Prediction,
    Share,
    Stage,
    from_bytes,
    is_multicore,
    one_stage,
)
from teflon.run.multicore.timing import ASSUMPTIONS, Assumptions, Effort, duration

_GAIN = 0.97
"""Stages are used if they take less than this share of the time of one core."""
_COUNTS = (
    "macs", "array_cycles", "dram_read", "dram_written", "coefficient_bytes", "sram_hits",
)  # fmt: skip


class MulticoreDevice(Device):
    """The description of a device of which several cores work on one inference."""

    def __init__(self, device: Device, cores: int, assumptions: Assumptions = ASSUMPTIONS) -> None:
        """Raises OptionError for less than one core."""
        if cores < 1:
            raise OptionError(f"option cores: is {cores}, must be at least 1")
        self.inner, self.assumptions = device, assumptions
        self.driver, self.chip = device.driver, device.chip
        self.cores = cores

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return self.inner.unsupported(op, graph)

    def passes(self) -> Sequence[Callable[[Graph], Graph]]:
        return self.inner.passes()

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        return self.inner.veto(subgraph)

    def leave(self, subgraph: Graph, model: Graph) -> Mapping[Op, str]:
        return self.inner.leave(subgraph, model)

    def undivided(self, op: Op) -> Collection[str]:
        return self.inner.undivided(op)

    def absorbed(self, subgraph: Graph) -> Collection[Value] | None:
        return self.inner.absorbed(subgraph)

    def signature(self) -> str | None:
        made_by = identity(self.inner)
        return None if made_by is None else f"stages {self.cores} {self.assumptions} {made_by}"

    def compile(self, subgraph: Graph) -> MulticoreProgram:
        """Return a program in stages if the model of time predicts that it is faster, else the
        program of one core.
        """
        program = self.inner.compile(subgraph)
        plain = one_stage(program, _title(subgraph), _macs(subgraph), "")
        note = self._obstacle()
        if note:
            return replace(plain, note=note)
        try:
            costs = self.inner.estimate(program)
        except DriverUnavailable as error:
            return replace(plain, note=str(error))
        one = sum(cost.total_ms for cost in costs)
        with trace.span("choose stages", operations=len(subgraph.ops)):
            choices = choose(subgraph, costs, self.cores, self.assumptions, self.inner)
        if all(choice.cut is None for choice in choices):
            return replace(plain, note=f"{one:.2f} ms predicted, no stages are faster")
        found = self.compile_stages(subgraph, choices)
        if found is None:
            return replace(plain, note="the device cannot run parts of it")
        took, sharing = self._milliseconds(found)
        if took > one * _GAIN:
            return replace(plain, note=f"{one:.2f} ms predicted, in stages {took:.2f} ms")
        return replace(found, prediction=Prediction(one, took, sharing))

    def _obstacle(self) -> str:
        """Return why an inference cannot be divided; empty if it can."""
        if self.cores == 1:
            return "one core was asked for"
        if self.inner.cores == 1:
            return f"{self.chip} runs one job at a time"
        return "" if self.inner.divisible() else "parts would not give the same bits as the whole"

    def load(self, data: Data) -> MulticoreProgram:
        """Return the program; a program that was compiled for one core becomes one stage."""
        if is_multicore(data):
            return from_bytes(data, self.inner.load)
        program = self.inner.load(data)
        return one_stage(program, "the whole program", 0, "it was compiled for one core")

    def outline(self, program: Program) -> str:
        return self._show_each(program, self.inner.outline)

    def describe(self, program: Program) -> str:
        return self._show_each(program, self.inner.describe)

    def _show_each(self, program: Program, show: Callable[[Program], str]) -> str:
        if not isinstance(program, MulticoreProgram):
            return show(program)
        lines = list(program.remarks)
        for number, stage in enumerate(program.stages):
            for core, share in enumerate(stage.shares):
                lines.append(f"# stage {number}, core {core}: {stage.title}\n{show(share.program)}")
        return "\n".join(lines)

    # Stages -----------------------------------------------------------------------------------

    def compile_stages(self, graph: Graph, choices: Sequence[Choice]) -> MulticoreProgram | None:
        """Return the program of these stages; None if the device refuses a part of one."""
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
            except (EncodingError, UnsupportedOperation):  # it compiles the whole, but not a part
                return None
            feeds = zip((numbers[v] for v in stage.inputs), part.inputs, strict=True)
            yields = zip((numbers[v] for v in stage.outputs), part.outputs, strict=True)
            shares.append(Share(program, tuple(feeds), tuple(yields)))
        return tuple(shares) or None

    # Time -------------------------------------------------------------------------------------

    def _milliseconds(self, program: MulticoreProgram) -> tuple[float, float]:
        """Return the predicted times of all stages: by the assumptions, and with shared memory."""
        efforts = [
            [share.effort for share in _share_costs(program, stage, self.inner, self.assumptions)]
            for stage in program.stages
        ]
        shared = replace(self.assumptions, sharing=1.0)
        return (
            sum(duration(stage, self.assumptions) for stage in efforts),
            sum(duration(stage, shared) for stage in efforts),
        )

    def estimate(self, program: Program) -> Sequence[Cost]:
        """Return the costs of all stages.

        A step on several cores has the sum of their work, and the time of the slowest core.
        """
        if not isinstance(program, MulticoreProgram):
            raise ProgramError(f"stages: cannot estimate a program of driver {program.driver}")
        found: list[Cost] = []
        for number, stage in enumerate(program.stages):
            shares = _share_costs(program, stage, self.inner, self.assumptions)
            alone = len(program.stages) == len(shares) == 1
            found += shares[0].costs if alone else _merge(shares, number, self.assumptions)
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
class _ShareCosts:
    """The costs of a share, and their sums."""

    costs: tuple[Cost, ...]
    effort: Effort


def _share_costs(
    program: MulticoreProgram, stage: Stage, device: Device, assumptions: Assumptions
) -> list[_ShareCosts]:
    many = len(stage.shares) > 1
    found = []
    for share in stage.shares:
        costs = tuple(device.estimate(share.program))
        joined = sum(_piece_bytes(program, n, piece) for n, piece in share.yields) if many else 0.0
        found.append(_ShareCosts(costs, _effort(costs, joined / assumptions.copy)))
    return found


def _piece_bytes(program: MulticoreProgram, number: int, piece: Piece) -> float:
    kind = program.tensors[number]
    return kind.size_bytes * (piece.high - piece.low) / max(kind.shape[piece.axis], 1)


def _effort(costs: Sequence[Cost], joining: float) -> Effort:
    """Return the sums of a program's costs: conversion of inputs, the chip, conversion of outputs.

    `joining` is the time to join the outputs, in milliseconds.
    """
    first = next((n for n, cost in enumerate(costs) if cost.engine != HOST), len(costs))
    host = [cost.total_ms if cost.engine == HOST else 0.0 for cost in costs]
    chip = [cost for cost in costs if cost.engine != HOST]
    memory = math.fsum(cost.milliseconds.get(MEMORY, 0.0) for cost in chip)
    rest = math.fsum(cost.total_ms for cost in chip) - memory
    return Effort(sum(host[:first]), rest, memory, sum(host[first:]) + joining)


def _merge(shares: Sequence[_ShareCosts], number: int, assumptions: Assumptions) -> list[Cost]:
    cores = len(shares)
    slowest = max(shares, key=lambda share: share.effort.chip(cores, assumptions))
    by_name: dict[str, Cost] = {}
    for share in (slowest, *(s for s in shares if s is not slowest)):
        for cost in share.costs:
            if cost.engine == HOST:
                continue
            by_name[cost.name] = _add(by_name.get(cost.name), cost, share is slowest, cores)
    host = [cost for share in shares for cost in share.costs if cost.engine == HOST]
    efforts = [share.effort for share in shares]
    rest = duration(efforts, assumptions) - sum(cost.total_ms for cost in by_name.values())
    return [*by_name.values(), Cost(
        name=f"stage {number}: feed and join" + (f" {cores} cores" if cores > 1 else ""),
        engine=HOST,
        milliseconds={HOST: rest},
        dram_read=sum(cost.dram_read for cost in host),
        dram_written=sum(cost.dram_written for cost in host),
    )]  # fmt: skip


def _add(old: Cost | None, cost: Cost, slowest: bool, cores: int) -> Cost:
    """Add a core's part to the costs of a step; only the slowest core's part takes time."""
    times = cost.milliseconds if slowest else dict.fromkeys(cost.milliseconds, 0.0)
    if old is None:
        engine = f"{cost.engine} x{cores}" if cores > 1 else cost.engine
        return replace(cost, milliseconds=times, engine=engine, peak=cost.peak * cores)
    counts = {name: getattr(old, name) + getattr(cost, name) for name in _COUNTS}
    sums = {name: ms + times.get(name, 0.0) for name, ms in old.milliseconds.items()}
    return replace(old, milliseconds=sums, **counts)
