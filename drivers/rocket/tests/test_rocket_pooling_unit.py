"""The simulated PPU: numbers against numpy, and what it refuses; lists are written by hand here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket import uapi
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import PPU, PPU_RDMA, PREPARE_WORD, REGISTERS, command, enable_command
from teflon_rocket.simulator.machine import Machine
from tests.paths import needs_shared
from tests.rocket import vendor

SOURCE, TARGET, COMMANDS = 0x100000, 0x200000, 0x300000
POOLING = 0x60
Pair = tuple[int, int]


def padded(size: int) -> int:
    return size if size == 16 else -(-size // 64) * 64


@dataclass(frozen=True)
class Pooling:
    """A task: sizes as (rows, columns); `pads` (top, left, bottom, right); `gap` pixels follow each
    row of the output."""

    size: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    surfaces: int = 1
    average: bool = False
    fill: int = 0
    gap: int = 0
    changes: dict[str, int] = field(default_factory=dict)

    @property
    def out(self) -> Pair:
        high, wide = (
            (self.size[i] + self.pads[i] + self.pads[i + 2] - self.kernel[i]) // self.stride[i] + 1
            for i in range(2)
        )
        return high, wide

    @property
    def exact(self) -> bool:
        """Whether windows cover input and padding to the last element."""
        return all(
            self.size[i] + self.pads[i] + self.pads[i + 2]
            == (self.out[i] - 1) * self.stride[i] + self.kernel[i]
            for i in range(2)
        )

    def words(self) -> list[int]:
        (rows, columns), (out_rows, out_columns) = self.size, self.out
        channels, line = self.surfaces * 16, (out_columns + self.gap) * 16
        surface = padded(out_rows * line)
        stored = self.fill & (1 << 35) - 1 if self.average else 0
        recip = [65536 // k if self.average else 0 for k in self.kernel]
        values = {
            "PPU.S_POINTER": 0xE, "PPU_RDMA.RDMA_S_POINTER": 0xE,
            "PPU.DATA_CUBE_IN_WIDTH": columns - 1, "PPU.DATA_CUBE_IN_HEIGHT": rows - 1,
            "PPU.DATA_CUBE_IN_CHANNEL": channels - 1,
            "PPU.DATA_CUBE_OUT_WIDTH": out_columns - 1, "PPU.DATA_CUBE_OUT_HEIGHT": out_rows - 1,
            "PPU.DATA_CUBE_OUT_CHANNEL": channels - 1,
            "PPU.OPERATION_MODE_CFG": 0x10 | (not self.average) | self.gap << 16,
            "PPU.POOLING_KERNEL_CFG": self.kernel[1] - 1 | self.kernel[0] - 1 << 8
            | self.stride[1] - 1 << 16 | self.stride[0] - 1 << 20,
            "PPU.RECIP_KERNEL_WIDTH": recip[1], "PPU.RECIP_KERNEL_HEIGHT": recip[0],
            "PPU.POOLING_PADDING_CFG": self.pads[1] | self.pads[0] << 4 | self.pads[3] << 8
            | self.pads[2] << 12,
            "PPU.PADDING_VALUE_1_CFG": stored & 0xFFFFFFFF, "PPU.PADDING_VALUE_2_CFG": stored >> 32,
            "PPU.DST_BASE_ADDR": TARGET, "PPU.DST_SURF_STRIDE": surface,
            "PPU.DATA_FORMAT": surface, "PPU.MISC_CTRL": 3,
            "PPU_RDMA.RDMA_CUBE_IN_WIDTH": columns - 1, "PPU_RDMA.RDMA_CUBE_IN_HEIGHT": rows - 1,
            "PPU_RDMA.RDMA_CUBE_IN_CHANNEL": channels - 1, "PPU_RDMA.RDMA_SRC_BASE_ADDR": SOURCE,
            "PPU_RDMA.RDMA_SRC_LINE_STRIDE": columns * 16,
            "PPU_RDMA.RDMA_SRC_SURF_STRIDE": padded(rows * columns * 16),
            "PPU_RDMA.RDMA_DATA_FORMAT": 1,
        }  # fmt: skip
        values |= self.changes
        named = {
            f"{r.block.__name__}.{r.__name__}": r for r in (*PPU.registers, *PPU_RDMA.registers)
        }
        words = [command(named[name].unpack(value)) for name, value in values.items()]
        return [*words, PREPARE_WORD, enable_command(POOLING)]

    def memory(self, x: NDArray[np.int8]) -> tuple[DeviceMemory, NDArray[np.uint8]]:
        """A memory that holds [surface, row, column, 16], and the bytes of the output."""
        surface = padded(self.size[0] * self.size[1] * 16)
        source = np.zeros((self.surfaces, surface), np.int8)
        source[:, : x[0].size] = x.reshape(self.surfaces, -1)
        line = (self.out[1] + self.gap) * 16
        target = np.full(self.surfaces * padded(self.out[0] * line), 77, np.uint8)
        words = np.array(self.words(), "<u8")
        memory = DeviceMemory()
        memory.map(SOURCE, source.view(np.uint8).reshape(-1), "source")
        memory.map(TARGET, target, "target")
        memory.map(COMMANDS, words.view(np.uint8), "commands")
        return memory, target

    def run(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """What the simulator makes: [surface, row, column, 16]; nothing else is touched."""
        memory, target = self.memory(x)
        Machine(RK3588, memory).run_task(COMMANDS, len(self.words()))
        rows, columns = self.out
        line = (columns + self.gap) * 16
        whole = target.reshape(self.surfaces, -1)[:, : rows * line]
        grid = whole.reshape(self.surfaces, rows, columns + self.gap, 16)
        assert (grid[:, :, columns:] == 77).all()
        return grid[:, :, :columns].view(np.int8)

    def expected(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """The same, window by window."""
        fill = self.fill if self.average else -128
        top, left, bottom, right = self.pads
        wide = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        out = np.empty((self.surfaces, *self.out, 16), np.int8)
        for row in range(self.out[0]):
            for column in range(self.out[1]):
                y, c = row * self.stride[0], column * self.stride[1]
                window = wide[:, y : y + self.kernel[0], c : c + self.kernel[1]]
                if not self.average:
                    out[:, row, column] = window.max(axis=(1, 2))
                    continue
                total = window.astype(np.int64).sum(axis=(1, 2))
                factor = (65536 // self.kernel[0]) * (65536 // self.kernel[1])
                out[:, row, column] = (total * factor + (1 << 31)) >> 32
        return out


def features(case: Pooling, seed: int = 0) -> NDArray[np.int8]:
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (case.surfaces, *case.size, 16), np.int8)


@st.composite
def poolings(draw: st.DrawFn) -> Pooling:
    kernel = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    stride = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    out = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    whole = [(out[i] - 1) * stride[i] + kernel[i] for i in range(2)]
    before = [draw(st.integers(0, k - 1)) for k in kernel]
    after = [draw(st.integers(0, k - 1)) for k in kernel]
    for i in range(2):
        if whole[i] - before[i] - after[i] < 1:
            before[i] = after[i] = 0
    return Pooling(
        size=(whole[0] - before[0] - after[0], whole[1] - before[1] - after[1]),
        kernel=kernel,
        stride=stride,
        pads=(*before, *after),  # type: ignore[arg-type]
        surfaces=draw(st.integers(1, 3)),
        average=draw(st.booleans()),
        fill=draw(st.integers(-128, 127)),
        gap=draw(st.integers(0, 3)),
    )


@settings(max_examples=150)
@given(poolings(), st.integers(0, 100))
def test_numbers(case: Pooling, seed: int) -> None:
    assert case.exact
    x = features(case, seed)
    np.testing.assert_array_equal(case.run(x), case.expected(x))


@pytest.mark.parametrize("value", [-128, 127])
def test_means_of_extremes_stay_in_range(value: int) -> None:
    case = Pooling((7, 7), (7, 7), average=True)
    x = np.full((1, 7, 7, 16), value, np.int8)
    assert (case.run(x) == value).all()


PLAIN = Pooling((5, 6), (3, 3), pads=(1, 1, 1, 1))
MEAN = Pooling((5, 6), (3, 3), pads=(1, 1, 1, 1), average=True)

REFUSED = [
    (PLAIN, {"PPU_RDMA.RDMA_DATA_FORMAT": 0}, r"IN_PRECISION is 0, must be 1 \(8 bit; 0 is 4 bit"),
    (PLAIN, {"PPU_RDMA.RDMA_CUBE_IN_CHANNEL": 14}, "15 channels, must be a multiple of 16"),
    (PLAIN, {"PPU_RDMA.RDMA_SRC_LINE_STRIDE": 80}, "is 80 bytes, must hold the row of 96"),
    (PLAIN, {"PPU_RDMA.RDMA_SRC_SURF_STRIDE": 448}, "is 448 bytes, must hold the rows of 480"),
    (PLAIN, {"PPU_RDMA.RDMA_SRC_SURF_STRIDE": 496}, "is 496 bytes, must be a multiple of 64"),
    (PLAIN, {"PPU_RDMA.RDMA_CUBE_IN_WIDTH": 4}, "must be the PPU's 1 of 5x6"),
    (PLAIN, {"PPU_RDMA.RDMA_SRC_BASE_ADDR": SOURCE + 8}, "must be a multiple of 16"),
    (PLAIN, {"PPU.DST_BASE_ADDR": TARGET + 8}, "undocumented bits #00000008 are set"),
    (PLAIN, {"PPU.OPERATION_MODE_CFG": 0x12}, r"POOLING_METHOD=2.*must have POOLING_METHOD 0"),
    (PLAIN, {"PPU.OPERATION_MODE_CFG": 0x1}, "FLYING_MODE 1"),
    (PLAIN, {"PPU.OPERATION_MODE_CFG": 0x31}, "USE_CNT is stored as #1, is not modelled"),
    (PLAIN, {"PPU.OPERATION_MODE_CFG": 1 << 30 | 0x11}, "INDEX_EN is stored as #1"),
    (PLAIN, {"PPU.DATA_FORMAT": 0x202}, "PROC_PRECISION is stored as #2, is not modelled"),
    (PLAIN, {"PPU.DATA_FORMAT": 0x240}, "INDEX_ADD is 36, must be DST_SURF_STRIDE 32"),
    (PLAIN, {"PPU.DST_SURF_STRIDE": 0x1F0, "PPU.DATA_FORMAT": 0x1F0}, "must be a multiple of 64"),
    (PLAIN, {"PPU.DST_SURF_STRIDE": 0x1C0, "PPU.DATA_FORMAT": 0x1C0}, "must hold the rows of 480"),
    (PLAIN, {"PPU.POOLING_KERNEL_CFG": 0x0707}, r"kernel is \(8, 8\).*must be at most 7 and 7"),
    (PLAIN, {"PPU.POOLING_KERNEL_CFG": 0x770202}, r"stride \(8, 8\), must be at most 7 and 7"),
    (PLAIN, {"PPU.POOLING_PADDING_CFG": 0x1011}, "must be the 8 that the windows cover"),
    (PLAIN, {"PPU.DATA_CUBE_OUT_CHANNEL": 31}, "is 32, input has 16, must be equal"),
    (PLAIN, {"PPU.PADDING_VALUE_1_CFG": 1}, "is set, must be 0 for the largest"),
    (PLAIN, {"PPU.RECIP_KERNEL_WIDTH": 1}, r"are \(0, 1\), must be \(0, 0\)"),
    (PLAIN, {"PPU.MISC_CTRL": 7}, "BURST_LEN is 7, must be 3"),
    (PLAIN, {"PPU.MISC_CTRL": 0x103}, "MC_SURF_OUT is stored as #1"),
    (MEAN, {"PPU.RECIP_KERNEL_HEIGHT": 21846}, r"are \(21846, 21845\), must be \(21845, 21845\)"),
    (MEAN, {"PPU.PADDING_VALUE_1_CFG": 128}, "value is 128, must be -128 to 127"),
    (MEAN, {"PPU.PADDING_VALUE_2_CFG": 7}, "must be -128 to 127"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "changes", "text"), REFUSED, ids=str)
def test_what_is_refused(case: Pooling, changes: dict[str, int], text: str) -> None:
    broken = Pooling(**{**vars(case), "changes": changes})
    with pytest.raises(SimulatorFault) as caught:
        broken.run(features(broken))
    assert re.search(text, str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("kernel", "stride", "most"),
    [((2, 2), (2, 2), 128), ((2, 2), (1, 1), 64), ((3, 1), (1, 1), 32), ((5, 5), (1, 1), 16),
     ((7, 7), (7, 7), 128), ((1, 3), (1, 1), 128), ((5, 5), (3, 3), 64)],
)  # fmt: skip
def test_the_line_buffer(kernel: Pair, stride: Pair, most: int) -> None:
    def wide(columns: int) -> Pooling:
        return Pooling((kernel[0], (columns - 1) * stride[1] + kernel[1]), kernel, stride)

    wide(most).run(features(wide(most)))
    with pytest.raises(SimulatorFault, match=rf"is {most + 1}, must be at most {most} where"):
        wide(most + 1).run(features(wide(most + 1)))


def test_every_register_must_be_written() -> None:
    case = Pooling((4, 4), (2, 2))
    words = case.words()
    for number in range(len(words) - 2):
        memory, _ = case.memory(features(case))
        short = np.array([*words[:number], *words[number + 1 :]], "<u8")
        memory.map(2 * COMMANDS, short.view(np.uint8), "short")
        with pytest.raises(SimulatorFault, match="is not written, must be"):
            Machine(RK3588, memory).run_task(2 * COMMANDS, len(short))


@needs_shared
@pytest.mark.parametrize(("name", "kernel", "pad"), [("pmax2big", 2, 0), ("pmax2huge", 3, 1)])
def test_large_maps_of_the_vendor(name: str, kernel: int, pad: int) -> None:
    """Parts side by side, the third one by a short list; the vendor's simulator made no output."""
    network = vendor.network(name)
    bench = vendor.Bench(network)
    (source,), (result,) = network.inputs, network.outputs
    x = np.random.default_rng(0).integers(-128, 128, source.shape, np.int8)
    bench.store(source, x)
    core = vendor.Core()
    for step in vendor.steps(network, 1):
        for number in step.tasks:
            words = vendor.ends(bench.words, network.tasks[number].first)
            bench.task(core.complete(words), step, name)
    padded = np.pad(x[0], ((0, 0), (pad, 0), (pad, 0)), constant_values=-128)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
    wanted = view[:, ::2, ::2].max(axis=(3, 4))
    np.testing.assert_array_equal(bench.load(result), wanted)


def test_cost_and_interrupts() -> None:
    case = Pooling((5, 6), (3, 3), pads=(1, 1, 1, 1), surfaces=2)
    memory, target = case.memory(features(case))
    machine = Machine(RK3588, memory)
    count = len(case.words())
    work = machine.work(COMMANDS, count)
    assert (work.features, work.written, work.commands) == (960, 960, 8 * count)
    assert [(s.start, s.end) for s in work.writes] == [
        (TARGET, TARGET + 480), (TARGET + 512, TARGET + 992)
    ]  # fmt: skip
    assert machine.interrupts(COMMANDS, count) == 0xC00
    assert not machine.interrupts(COMMANDS, count) & uapi.WAITED
    assert (target == 77).all()
    assert REGISTERS.find(PPU.target, 0x6004) is PPU.S_POINTER
