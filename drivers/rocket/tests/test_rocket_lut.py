"""The DPU's tables: how they are loaded, and what a look-up gives, against sums of fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon_rocket.registers import DPU
from teflon_rocket.simulator.stages import Lut, Scale
from teflon_rocket.simulator.tables import ENTRIES, Tables
from tests.rocket.lists import Bench, Case, lists, nearest, write
from tests.rocket.pass_lists import COMMANDS, SOURCE, PassBench, PassCase, pass_list

LUT_ON = {
    "DPU__EW_CFG": 0x302,
    "DPU__LUT_CFG": 0x68,
    "DPU__LUT_INFO": 0x50500,
    "DPU__LUT_LE_START": 0xFFFFC000,
    "DPU__LUT_LO_END": 0x4000,
}
SLOPES = {"DPU__LUT_LO_SLOPE_SCALE": 0x40320000, "DPU__LUT_LO_SLOPE_SHIFT": 13 << 5}
BELOW = {"DPU__LUT_LE_SLOPE_SCALE": 0x5A43, "DPU__LUT_LE_SLOPE_SHIFT": 9}
LE, LO = 0, 1


def numbers(seed: int) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    low, high = rng.integers(-(1 << 15), 1 << 15, (2, ENTRIES)).tolist()
    return low, high


def port(config: int) -> int:
    return write(DPU.target, DPU.LUT_ACCESS_CFG.offset, config)


def entry(value: int) -> int:
    return write(DPU.target, DPU.LUT_ACCESS_DATA.offset, value & 0xFFFFFFFF)


def loading(tables: tuple[list[int], list[int]]) -> list[int]:
    """The words that write both tables, signs up to bit 31 as in the vendor's lists."""
    words = []
    for number, values in zip((LE, LO), tables, strict=True):
        words += [port(1 << 17 | number << 16), *map(entry, values)]
    return words


LOADER = PassCase((1, 1), 1).with_(DPU__DST_BASE_ADDR=SOURCE)
"""It copies a pixel to where it is."""


def load(bench: PassBench | Bench, tables: tuple[list[int], list[int]], core: int = 0) -> None:
    """Run a list that loads tables."""
    words = pass_list(LOADER, loading(tables))
    bench.memory.map(COMMANDS + 0x800000, np.array(words, "<u8").view(np.uint8), "loader")
    bench.machine.run_task(COMMANDS + 0x800000, len(words), core, "load")
    bench.memory.unmap(COMMANDS + 0x800000)


def looked_up(
    t: int, tables: tuple[list[int], list[int]], below: Fraction, above: Fraction, floor: bool
) -> int:
    """Entries are 32 apart; between them a line, beyond them the slopes, each part rounded."""
    table, place = (tables[LO], t) if t >= 0 else (tables[LE], t + 16384)
    place = min(max(place, 0), 16384)
    index = min(place // 32, 511)
    step = table[index + 1] - table[index]
    value = table[index] + nearest(Fraction(step * (place - 32 * index), 32), False)
    if t < -16384:
        value += nearest((t + 16384) * below, False)
    if t > 16384:
        value += nearest((t - 16384) * above, False)
    return max(value, 0) if floor else value


@given(st.lists(st.integers(-60000, 60000) | st.sampled_from([-16384, -1, 0, 16384, 16385])))
def test_look_up(ts: list[int]) -> None:
    tables = numbers(5)
    content = Tables(*(np.array(t, "<i2").tobytes() for t in tables))
    for floor in (False, True):
        lut = Lut(Scale(0x5A43, 22), Scale(0x4032, 13), floor)
        have = content.look_up(np.array(ts, np.int64), lut).tolist()
        slopes = Fraction(0x5A43, 1 << 22), Fraction(0x4032, 1 << 13)
        assert have == [looked_up(t, tables, *slopes, floor) for t in ts]


def test_a_pass_looks_up_all_bytes() -> None:
    """t = (a * 23456 + 90000) >> 6 reaches beyond both ends."""
    case = PassCase((16, 16), 1).with_(
        **LUT_ON, **SLOPES, DPU__BN_CFG=0x20040, DPU__BN_ALU_CFG=90000,
        DPU__BN_MUL_CFG=23456 << 16 | 6 << 8, DPU__DATA_FORMAT=6 << 10,
        DPU__OUT_CVT_SCALE=20000, DPU__OUT_CVT_SHIFT=23,
    )  # fmt: skip
    bench, tables = PassBench(case), numbers(6)
    bench.bytes[0x100000][:4096] = np.repeat(np.arange(-128, 128, dtype=np.int8), 16)
    load(bench, tables)
    have = bench.run()[..., 0].reshape(-1).tolist()
    for a, y in zip(range(-128, 128), have, strict=True):
        t = nearest(Fraction(a * 23456 + 90000, 64), False)
        value = looked_up(t, tables, Fraction(0), Fraction(0x4032, 1 << 13), False)
        assert y == min(max(nearest(Fraction(value * 20000, 1 << 23), False), -128), 127)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("floor", [False, True])
def test_a_convolution_looks_up_its_sums(depthwise: bool, floor: bool) -> None:
    case = Case(channels=20, kernels=20, depthwise=depthwise, shift=20).with_(
        **LUT_ON | BELOW | {"DPU__EW_CFG": 0x300 if floor else 0x302},
        DPU__S_POINTER=0x30, DPU_RDMA__RDMA_S_POINTER=0x30,
    )  # fmt: skip
    bench, tables = Bench(case), numbers(7)
    load(bench, tables)
    slopes = Fraction(0x5A43, 1 << 9), Fraction(0)
    values = bench.values()
    found = [looked_up(int(t), tables, *slopes, floor) for t in values.reshape(-1)]
    assert min(values.min(), -values.max()) < -16384
    want = bench.converted(np.array(found).reshape(values.shape))
    np.testing.assert_array_equal(bench.run(), want)


def test_each_load_counts() -> None:
    """Results follow the tables of the core that runs the pass."""
    case = PassCase((1, 4), 1).with_(**LUT_ON, DPU__OUT_CVT_SHIFT=8)
    bench = PassBench(case)
    for core, seed in ((0, 1), (1, 2), (0, 3)):
        tables = numbers(seed)
        load(bench, tables, core)
        want = [
            nearest(
                Fraction(looked_up(int(a), tables, Fraction(0), Fraction(0), False), 256), False
            )
            for a in bench.x.reshape(-1)
        ]
        assert bench.run(core=core).reshape(-1).tolist() == np.clip(want, -128, 127).tolist()
    with pytest.raises(SimulatorFault, match=r"no list on this core has loaded the tables"):
        bench.run(core=2)


def test_a_use_without_tables_is_refused() -> None:
    text = r"^task.*: DPU\.EW_CFG: EW_LUT_BYPASS is 0, but no list on this core has loaded"
    with pytest.raises(SimulatorFault, match=text):
        Bench(Case().with_(**LUT_ON)).run()
    with pytest.raises(SimulatorFault, match=text):
        PassBench(PassCase().with_(**LUT_ON)).run()


def test_a_value_beyond_32_bits_is_refused() -> None:
    steep = LUT_ON | {"DPU__LUT_LE_SLOPE_SCALE": 0x7FFF}
    bench = Bench(Case(compensation=500).with_(**steep))
    load(bench, numbers(1))
    with pytest.raises(SimulatorFault, match=r"^task: DPU: values between the stages reach \d+"):
        bench.run()


ON = {name.replace("__", "."): value for name, value in LUT_ON.items()}
WRONG = [
    ({"DPU.EW_CFG": 0x102}, r"DPU\.EW_CFG .*: with a table must be #302 or"),
    ({"DPU.EW_CFG": 0x303}, r"DPU\.EW_CFG .*: with a table must be #302 or"),
    ({"DPU.EW_CFG": 0x10300}, r"DPU\.EW_CFG .*: with a table must be #302 or"),
    ({"DPU.LUT_CFG": 0x28}, r"DPU\.LUT_CFG: is #28, must be #68"),
    ({"DPU.LUT_INFO": 0x60500}, r"DPU\.LUT_INFO: is #60500, must be #50500"),
    ({"DPU.LUT_LO_END": 0x2000}, r"DPU\.LUT_LO_END: is #2000, must be #4000"),
    ({"DPU.LUT_LE_START": 0}, r"DPU\.LUT_LE_START: is #0, must be #ffffc000"),
    ({"DPU.LUT_LO_SLOPE_SCALE": 0x80000000}, r"DPU: the slope of a table is #8000, must be below"),
    ({"DPU.LUT_LO_SLOPE_SCALE": 1}, r"DPU\.LUT_LO_SLOPE_SCALE: LUT_LO_SLOPE_UFLOW_SCALE is stored"),
]


@pytest.mark.parametrize(("changes", "text"), WRONG, ids=[str(w[0]) for w in WRONG])
def test_other_set_ups_are_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(SimulatorFault, match=f"^task 7: {text}"):
        PassBench(PassCase().with_(**ON | changes)).run()


LOW, HIGH = numbers(9)
BAD_LOADS = [
    ([port(0x20000), *map(entry, LOW)], r"DPU\.LUT_ACCESS_DATA: 513 and 0 entries of the tables"),
    (
        [port(0x20000), *map(entry, LOW[:-1]), port(0x30000), *map(entry, HIGH)],
        r"DPU\.LUT_ACCESS_DATA: 512 and 513 entries of the tables are written, must be 513 of each",
    ),
    ([*loading((LOW, HIGH)), entry(0)], r"DPU\.LUT_ACCESS_DATA: 513 and 514 entries"),
    ([port(0x20001), entry(1)], r"DPU\.LUT_ACCESS_CFG: is #20001, must write a table from entry 0"),
    ([port(0x10000), entry(1)], r"DPU\.LUT_ACCESS_CFG: is #10000, must write a table"),
    (
        [port(0x20000), port(0x20000)],
        r"DPU\.LUT_ACCESS_CFG: is #20000, must write a table from entry 0 on, each table once",
    ),
    ([port(0x20000), entry(0x18000)], r"DPU\.LUT_ACCESS_DATA: is #18000, must be an entry of 16"),
    ([entry(5)], r"DPU\.LUT_ACCESS_DATA: is #5, must be an entry of 16 bits behind a LUT_ACCESS"),
]


@pytest.mark.parametrize(("words", "text"), BAD_LOADS, ids=[text[:60] for _, text in BAD_LOADS])
def test_tables_are_loaded_whole(words: list[int], text: str) -> None:
    with pytest.raises(SimulatorFault, match=f"^task 7: {text}"):
        PassBench(LOADER).run(pass_list(LOADER, words))


def test_who_may_load() -> None:
    case = Case()
    words = lists(case)
    with pytest.raises(SimulatorFault, match=r"DPU\.LUT_ACCESS_CFG: a convolution loads tables"):
        Bench(case).run([*words[:-4], *loading(numbers(1)), *words[-4:]])
    with pytest.raises(SimulatorFault, match=r"DPU\.LUT_ACCESS_CFG: a pass loads tables and uses"):
        PassBench(LOADER).run(pass_list(LOADER.with_(**LUT_ON), loading(numbers(1))))
