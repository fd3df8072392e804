"""A model of time for etnaviv programs, read off the instructions that the chip is given.

Each engine says what its instructions cost (`nn/engine.py`, `tp/engine.py`). The rates of the chips
are in `rates.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from teflon.pipe import HOST, Cost
from teflon_etnaviv.chips import chip
from teflon_etnaviv.engines import ENGINES
from teflon_etnaviv.program import EtnavivProgram, Port
from teflon_etnaviv.rates import RATES, TODAY, Model, Rates, Variant

__all__ = ["RATES", "TODAY", "Rates", "Variant", "costs"]


def costs(
    program: EtnavivProgram, rates: Rates | None = None, variant: Variant = TODAY
) -> list[Cost]:
    """Return one cost for each instruction, between those of the host's copies."""
    model = Model(chip(program.chip), rates or RATES[program.chip], variant)
    steps = [_copy(port, model, "in") for port in program.input_ports]
    steps += _instructions(program, model)
    return steps + [_copy(port, model, "out") for port in program.output_ports]


def _instructions(program: EtnavivProgram, model: Model) -> Iterator[Cost]:
    for launch in program.instructions:
        buffer = program.buffers[launch.buffer]
        code = memoryview(buffer.data or b"")[launch.offset :]
        yield ENGINES[buffer.role].cost(code, launch, model)


def _copy(port: Port, model: Model, which: str) -> Cost:
    size = port.type.size_bytes
    return Cost(
        name=f"copy {which}put",
        engine=HOST,
        milliseconds={HOST: size / model.rates.host},
        dram_read=size,
        dram_written=size,
    )
