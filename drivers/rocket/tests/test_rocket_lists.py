"""Command lists of any length, for any units: trailers, addresses, and who must know of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from teflon.errors import FieldOverflow, ProgramError
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket import timing, work
from teflon_rocket.addresses import addresses
from teflon_rocket.chips import RK3588
from teflon_rocket.exact.lower import surfaces
from teflon_rocket.exact.strategy import PACKED
from teflon_rocket.mesa.fields import wrapping
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Commands, strict
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.registers import PC, PPU, PPU_RDMA, command, enable_command

SIZE = (1, 4, 4, 16)


@dataclass(frozen=True, eq=False)
class Growing(Operation):
    """Its tasks have ever longer lists."""

    units = (PPU, PPU_RDMA)

    name: str
    input: Feature
    output: Feature
    macs: int = 0
    moved: int = 0

    @property
    def reads(self) -> tuple[Feature, ...]:
        return (self.input,)

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.output,)

    @property
    def tasks(self) -> int:
        return 3

    def emit(self, task: int, commands: Commands) -> None:
        commands.point(PPU.DST_BASE_ADDR, self.output, 16 * task)
        commands.point(PPU_RDMA.RDMA_SRC_BASE_ADDR, self.input)
        for width in range(10 * task):
            commands.write(PPU_RDMA.RDMA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=width + 1)

    def text(self) -> str:
        return self.name


def test_a_list_knows_the_place_and_the_length_of_the_next_one() -> None:
    made = command_lists(Growing("g", Feature("x", SIZE), Feature("y", SIZE)), strict)
    assert [(one.offset, one.words) for one in made.lists] == [(0, 6), (64, 16), (192, 26)]
    words = np.frombuffer(made.data, "<u8").tolist()
    trailers = [words[one.offset // 8 :][one.words - 4 : one.words] for one in made.lists]
    amounts = [command(PC.REGISTER_AMOUNTS(PC_DATA_AMOUNT=n)) for n in (6, 12, 0)]
    assert [trailer[1] for trailer in trailers] == amounts
    assert {trailer[3] for trailer in trailers} == {enable_command(0x60)}
    followers = [one.addresses[2:] for one in made.lists]
    assert [[a.addend for a in found] for found in followers] == [[64], [192], []]
    assert {trailer[0] for trailer in trailers} == {command(PC.BASE_ADDRESS())}


def test_addresses_of_the_pooling_unit_are_known() -> None:
    registers = [PPU.DST_BASE_ADDR.unpack(0x1000), PPU_RDMA.RDMA_SRC_BASE_ADDR.unpack(0x2000)]
    data = np.array([command(register) for register in registers], "<u8").view(np.uint8)
    assert addresses(data) == [(0, "output", 0x1000), (8, "input", 0x2000)]


def one_input() -> Graph:
    b = Builder("one")
    b.output(b.relu(b.input("x", "u8", SIZE, 0.1, 3), name="y"))
    return b.build()


def test_a_unit_that_the_model_of_time_does_not_know_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {name: cost for name, cost in work.UNITS.items() if not name.startswith("PPU")}
    monkeypatch.setattr(work, "UNITS", known)
    graph = one_input()
    features = surfaces(graph, {})
    pooled = Growing("pooled", features[graph.inputs[0]], features[graph.outputs[0]])
    program = PACKED.program(graph, [pooled], RK3588, "exact")
    assert [buffer.role for buffer in program.buffers] == ["tensor", "tensor", "regcmd"]
    assert program.statistics["coefficient_bytes"] == 0
    with pytest.raises(
        ProgramError,
        match=r"^rocket: 'pooled' runs on the PPU, the model of time has only CNA, CORE, DPU, DPU_",
    ):
        timing.costs(program)


def test_a_value_that_does_not_fit_is_refused_or_cut() -> None:
    commands = Commands(strict)
    with pytest.raises(FieldOverflow, match=r"CUBE_IN_WIDTH is 8193, must fit 13 bits"):
        commands.write(PPU_RDMA.RDMA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=8193)
    assert commands.words == []
    cut = Commands(wrapping)
    cut.write(PPU_RDMA.RDMA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=8193)
    assert cut.words == [command(PPU_RDMA.RDMA_CUBE_IN_WIDTH(CUBE_IN_WIDTH=1))]
