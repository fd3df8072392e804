"""Programs that break rules of the hardware, or do what was never measured, are refused by name."""

import re

import numpy as np
import pytest

from teflon.errors import SimulatorFault
from teflon_rocket.registers import CNA, CORE, DPU, DPU_RDMA, PREPARE_WORD, enable_command
from teflon_rocket.simulator.policy import LENIENT, Breach, Policy
from tests.rocket.lists import COMMANDS, FEATURES, OUTPUT, WEIGHTS, Bench, Case, lists, write
from tests.rocket.refusals import refused

BROKEN = [
    # unmodelled bits and modes
    ({"CNA.CONV_CON1.CONV_MODE": 1}, r"CNA\.CONV_CON1: CONV_MODE 1 is not modelled$"),
    ({"CNA.CONV_CON1.IN_PRECISION": 2}, r"CNA\.CONV_CON1: IN_PRECISION is stored as #2, is not"),
    (
        {"CNA.CBUF_CON0.DATA_REUSE": 1},
        r"CNA\.CBUF_CON0: DATA_REUSE is stored as #1, is not modelled$",
    ),
    ({"CNA.CONV_CON1": 1 << 31}, r"CNA\.CONV_CON1: undocumented bits #80000000 are set, are not"),
    ({"CNA.CONV_CON2.KERNEL_GROUP": 3}, r"CNA\.CONV_CON2: KERNEL_GROUP is 3, must be 1 for 16 "),
    ({"CNA.CONV_CON2.CORES": 4}, r"CNA\.CONV_CON2: CORES is 4, must be at most 3, as the chip"),
    ({"CORE.UNKNOWN_3030": 1}, r"CORE\.UNKNOWN_3030: undocumented bits #00000001 are set"),
    ({"DPU.LUT_CFG.LUT_CAL_SEL": 1}, r"DPU\.LUT_CFG: LUT_CAL_SEL is stored as #1, is not modelled"),
    ({"DPU.EW_CFG.EW_LUT_BYPASS": 0}, r"DPU\.EW_CFG .*: with a table must be #302 or"),
    (
        {"DPU.FEATURE_MODE_CFG.FLYING_MODE": 1},
        r"DPU\.FEATURE_MODE_CFG FLYING_MODE=1 .*: must have FLYING_MODE=0",
    ),
    (
        {"DPU.FEATURE_MODE_CFG.OUTPUT_MODE": 1},
        r"DPU\.FEATURE_MODE_CFG .* must have FLYING_MODE=0, OUTPUT_MODE=2",
    ),
    ({"DPU.BS_CFG.BS_ALU_ALGO": 1}, r"DPU\.BS_ALU_ALGO is 1, must be 2 \(add\) or 4 \(subtract\)$"),
    ({"CNA.CVT_CON0.CVT_BYPASS": 0}, r"CNA\.CVT_CON0: CVT_BYPASS 0, DATA_SIGN 1 without ARGB_IN"),
    (
        {"CNA.CONV_CON1.NONALIGN_DMA": 1},
        r"CNA\.CONV_CON1: NONALIGN_DMA without ARGB_IN is not",
    ),
    ({"CNA.CONV_CON1.ARGB_IN": 3}, r"CNA\.CONV_CON1: ARGB_IN is 3, must be 0 or 8 to 11$"),
    (
        {"CNA.CONV_CON1.ARGB_IN": 8},
        r"CNA\.CONV_CON1: ARGB_IN needs NONALIGN_DMA and GROUP_LINE_OFF, must both",
    ),
    # the convolution buffer
    (
        {"CNA.CBUF_CON0.DATA_BANK": 7},
        r"CNA\.CBUF_CON0: DATA_BANK 7 and WEIGHT_BANK 6, must not be 0 and make at most 12$",
    ),
    ({"CNA.CBUF_CON0.DATA_BANK": 0}, r"CNA\.CBUF_CON0: DATA_BANK 0 and WEIGHT_BANK 6, must not be"),
    ({"CNA.CBUF_CON0.FC_DATA_BANK": 1}, r"CNA\.CBUF_CON0: FC_DATA_BANK is stored as #1, is not"),
    (
        {"CNA.CBUF_CON1.DATA_ENTRIES": 1},
        r"CNA\.CBUF_CON1: DATA_ENTRIES is 1, must be at least 2 \(width 6, 1 atoms\)$",
    ),
    (
        {"CNA.CBUF_CON1.DATA_ENTRIES": 800},
        r"CNA\.CBUF_CON0: 5 rows of 800 entries are 4000, must fit the 3072 of DATA_BANK 6$",
    ),
    (
        {"CNA.CBUF_CON0.WEIGHT_REUSE": 1},
        r"CNA\.CBUF_CON0: WEIGHT_REUSE of weights at #00200000, but the task before on this core"
        r" left none$",
    ),
    # sizes
    (
        {"CNA.DATA_SIZE0.DATAIN_HEIGHT": 0},
        r"CNA\.DATA_SIZE0: DATAIN_HEIGHT is 0, must be DMA_HEIGHT 5",
    ),
    (
        {"CNA.DATA_SIZE0.DATAIN_WIDTH": 7},
        r"CNA\.DATA_SIZE0: DATAIN_WIDTH is 7 with DMA_WIDTH 6, must",
    ),
    (
        {"CNA.DATA_SIZE1.DATAIN_CHANNEL": 8},
        r"CNA\.DATA_SIZE1: DATAIN_CHANNEL is 8, must be a multiple",
    ),
    (
        {"CNA.DATA_SIZE1.DATAIN_CHANNEL_REAL": 17},
        r"CNA\.DATA_SIZE1: DATAIN_CHANNEL_REAL is 17, must",
    ),
    (
        {"CNA.FC_DATA_SIZE1.DMA_CHANNEL": 32},
        r"CNA\.FC_DATA_SIZE1: DMA_CHANNEL is 32, must be DATAIN",
    ),
    ({"CNA.WEIGHT_SIZE2.WEIGHT_WIDTH": 0}, r"CNA\.WEIGHT_SIZE2 .*: no size may be 0$"),
    ({"CNA.WEIGHT_SIZE1.WEIGHT_BYTES_PER_KERNEL": 9}, r"CNA\.WEIGHT_SIZE1 .*: must be 144 for CNA"),
    ({"CNA.WEIGHT_SIZE0.WEIGHT_BYTES": 144}, r"CNA\.WEIGHT_SIZE0 .*: must be 2304 for CNA"),
    (
        {"CNA.CONV_CON3.CONV_X_STRIDE": 0},
        r"CNA\.CONV_CON3: CONV_X_STRIDE is 0, CONV_Y_STRIDE 1, must",
    ),
    (
        {"DPU.DATA_CUBE_CHANNEL.CHANNEL": 8},
        r"DPU\.DATA_CUBE_CHANNEL .*: CHANNEL must be a multiple",
    ),
    (
        {"DPU.DATA_CUBE_CHANNEL.CHANNEL": 8192},
        r"DPU\.DATA_CUBE_CHANNEL: size is 8192, must be at most 8176$",
    ),
    (
        {"DPU.DATA_CUBE_WIDTH.WIDTH": 8192},
        r"DPU\.DATA_CUBE_WIDTH: size is 8192, must be at most 2046$",
    ),
    (
        {"DPU.DATA_CUBE_HEIGHT.HEIGHT": 8192},
        r"DPU\.DATA_CUBE_HEIGHT: size is 8192, must be at most",
    ),
    (
        {"DPU.DATA_CUBE_HEIGHT.HEIGHT": 8192, "CNA.DATA_SIZE3.DATAOUT_ATOMICS": 0},
        r"DPU\.DATA_CUBE_HEIGHT HEIGHT=8192: CNA\.DATA_SIZE3 DATAOUT_ATOMICS is 0, must be at lea",
    ),
    ({"CNA.DATA_SIZE2.DATAOUT_WIDTH": 9}, r"CNA\.DATA_SIZE2: DATAOUT_WIDTH is 9, must be 4 as in"),
    (
        {"CORE.DATAOUT_SIZE_0.DATAOUT_HEIGHT": 9},
        r"CORE\.DATAOUT_SIZE_0: DATAOUT_HEIGHT is 9, must be 3",
    ),
    (
        {"DPU_RDMA.RDMA_DATA_CUBE_WIDTH.WIDTH": 1},
        r"DPU_RDMA\.RDMA_DATA_CUBE_WIDTH: WIDTH is 1, must",
    ),
    ({"DPU.WDMA_SIZE_1.HEIGHT_WDMA": 4}, r"DPU\.WDMA_SIZE_1: HEIGHT_WDMA is 4, must be 3 as in"),
    (
        {"DPU.DST_SURF_STRIDE.DST_SURF_STRIDE": 10, "DPU.SURFACE_ADD.SURF_ADD": 20},
        r"DPU\.DST_SURF_STRIDE: 160 bytes, must hold 3 rows of 4 pixels$",
    ),
    ({"DPU.BS_OW_CFG.SIZE_E_1": 1}, r"DPU\.BS_OW_CFG .*: SIZE_E_0, SIZE_E_1, SIZE_E_2 must be 2"),
    (
        {"DPU.DATA_CUBE_CHANNEL.ORIG_CHANNEL": 20},
        r"CNA\.WEIGHT_SIZE2: weights make 16 channels, must be at least ORIG_CHANNEL 20$",
    ),
    # units that disagree
    (
        {"CORE.MISC_CFG.DW_EN": 1},
        r"CORE\.MISC_CFG: DW_EN is True, must be False as in CNA\.CONV_CON1",
    ),
    (
        {"CORE.MISC_CFG.QD_EN": 0},
        r"CORE\.MISC_CFG: QD_EN is 0, must be 1 unless DPU\.BS_OW_CFG OD_BY",
    ),
    (
        {"DPU_RDMA.RDMA_BRDMA_CFG.BRDMA_DATA_USE": 0},
        r"DPU_RDMA\.RDMA_BRDMA_CFG: BRDMA_DATA_USE is 0",
    ),
    (
        {"DPU_RDMA.RDMA_BRDMA_CFG.BRDMA_DATA_USE": 9},
        r"DPU_RDMA\.RDMA_BRDMA_CFG: BRDMA_DATA_USE is 9, must be 0, 1 \(biases\), 4",
    ),
    (
        {"DPU_RDMA.RDMA_FEATURE_MODE_CFG.MRDMA_DISABLE": 0},
        r"DPU_RDMA\.RDMA_FEATURE_MODE_CFG: MRDMA_DISABLE is 0 .* \(the job never finishes\)$",
    ),
    (
        {"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DISABLE": 0},
        r"DPU_RDMA\.RDMA_FEATURE_MODE_CFG: COMB_USE is 0, MRDMA_DISABLE 1 with an element-wise",
    ),
    # addresses
    (
        {"CNA.FEATURE_DATA_ADDR": FEATURES + 8},
        r"CNA\.FEATURE_DATA_ADDR: #00100008, must be a multiple",
    ),
    ({"CNA.DCOMP_ADDR0": WEIGHTS + 1}, r"CNA\.DCOMP_ADDR0: #00200001, must be a multiple of 16$"),
    (
        {"DPU.DST_BASE_ADDR": OUTPUT + 4},
        r"DPU\.DST_BASE_ADDR: #00400004, must be a multiple of 16$",
    ),
    (
        {"CNA.FEATURE_DATA_ADDR": FEATURES + 16},
        r"CNA\.FEATURE_DATA_ADDR: 480 bytes at #00100010 end at",
    ),
    (
        {"CNA.DCOMP_ADDR0": 0x7000000},
        r"CNA\.DCOMP_ADDR0: #07000000 is in no buffer, must be in one",
    ),
    (
        {"DPU.DST_BASE_ADDR": OUTPUT + 16},
        r"DPU\.DST_BASE_ADDR: 192 bytes at #00400010 end at #004000d0",
    ),
    ({"DPU_RDMA.RDMA_BS_BASE_ADDR": 0x7000000}, r"DPU_RDMA\.RDMA_BS_BASE_ADDR: #07000000 is in no"),
    # arithmetic whose details are unknown
    ({"DPU.BS_CFG.BS_RELUX_EN": 1}, r"DPU: RELUX_EN with RELU_BYPASS is not modelled, must be 0$"),
    (
        {"DPU.OUT_CVT_SHIFT.OUT_CVT_SHIFT": 61},
        r"DPU\.OUT_CVT_SHIFT: OUT_CVT_SHIFT is 61, must be at most",
    ),
    (
        {
            "DPU.BS_CFG.BS_MUL_BYPASS": 0,
            "DPU.BS_MUL_CFG.BS_MUL_OPERAND": -1,
            "DPU.BS_MUL_CFG.BS_MUL_SHIFT_VALUE": 4,
        },
        r"DPU\.BS_MUL_OPERAND is -1 with the shifts 4 and 0 in .*, must not be negative \(which",
    ),
]


@pytest.mark.parametrize(("changes", "text"), BROKEN, ids=[", ".join(b[0]) for b in BROKEN])
def test_broken_programs_are_refused(changes: dict[str, int], text: str) -> None:
    case = Case()
    for name, value in changes.items():
        case = case.with_(**{name: value})
    refused(Bench(case), None, text)


INTERLEAVED = {
    "CNA.CONV_CON1.ARGB_IN": 8,
    "CNA.CONV_CON1.NONALIGN_DMA": 1,
    "CNA.CONV_CON1.GROUP_LINE_OFF": 1,
    "CNA.DATA_SIZE0.DATAIN_WIDTH": 16,
}
ONE_CHANNEL = [
    ({"CNA.CONV_CON1.NONALIGN_DMA": 0}, r"CNA\.CONV_CON1: ARGB_IN needs NONALIGN_DMA and GROUP_"),
    ({"CNA.CVT_CON0.DATA_SIGN": 0}, r"CNA\.CVT_CON0: CVT_BYPASS with DATA_SIGN 0: unsigned bytes"),
    ({"CNA.CVT_CON0.CVT_BYPASS": 0}, r"CNA\.CVT_CON5: PER_CHANNEL_CVT_EN is #0, must be #ffff"),
]


@pytest.mark.parametrize(("changes", "text"), ONE_CHANNEL)
def test_broken_interleaved_inputs_are_refused(changes: dict[str, int], text: str) -> None:
    refused(Bench(Case(channels=1).with_(**INTERLEAVED | changes)), None, text)
    many = Case(channels=20).with_(**INTERLEAVED)
    refused(Bench(many), None, r"CNA\.DATA_SIZE1: DATAIN_CHANNEL is 32 with ARGB_IN, must be 16")


def test_every_register_must_be_written() -> None:
    words = lists(Case())
    for index, word in enumerate(words[:-4]):
        bench = Bench(Case())
        rest = words[:index] + words[index + 1 :]
        offset = word & 0xFFFF
        if offset in range(CNA.DCOMP_AMOUNT0.offset, CNA.DCOMP_AMOUNT15.offset + 4):
            bench.run(rest)  # decompression amounts matter only with DCOMP_REGNUM
        else:
            refused(bench, rest, r"\w+\.\w+: is not written, must be \(a task carries its full")


def test_unknown_registers_and_words() -> None:
    words = lists(Case())
    stray = write(CNA.target, 0x1FFC, 1)
    refused(Bench(Case()), [stray, *words], r"word 0: target #0201 has no register #1ffc")
    refused(Bench(Case()), [0x1234 << 48, *words], r"word 0: target #1234 has no register #0000")


def test_enable_word_and_what_stands_before_it() -> None:
    words = lists(Case())
    refused(Bench(Case()), words[:-1], r"PC\.OPERATION_ENABLE: is not in the list, must end it")
    unprepared = [w for w in words if w != PREPARE_WORD]
    refused(Bench(Case()), unprepared, r"PC\.OPERATION_ENABLE: word \d+ enables blocks behind #0+,")
    behind = [*words, write(CORE.target, CORE.UNKNOWN_3030.offset, 0)]
    refused(Bench(Case()), behind, r"PC\.OPERATION_ENABLE: words follow the enable word \d+, must")
    for mask in (0x78, 0x19, 0x0D):
        other = [*words[:-1], enable_command(mask)]
        refused(Bench(Case()), other, rf"PC\.OPERATION_ENABLE: mask is #{mask:x}, must be #1d")


def test_empty_list_and_list_outside_of_memory() -> None:
    bench = Bench(Case())
    with pytest.raises(SimulatorFault, match=r"^task: regcmd_count is 0, must be at least 1$"):
        bench.machine.run_task(COMMANDS, 0)
    with pytest.raises(SimulatorFault, match=r"^task: PC\.BASE_ADDRESS: #09000000 is in no buffer"):
        bench.machine.run_task(0x9000000, 130)


def test_reuse_of_other_weights() -> None:
    bench = Bench(Case())
    bench.memory.map(0x900000, bytearray(4096), "other weights")
    bench.run()
    other = Case().with_(**{"CNA.CBUF_CON0.WEIGHT_REUSE": 1, "CNA.DCOMP_ADDR0": 0x900000})
    refused(
        bench,
        lists(other),
        r"CNA\.CBUF_CON0: WEIGHT_REUSE of weights at #00900000, but the task before on this core"
        r" left 2304 bytes from #00200000$",
    )


def test_weights_on_another_core_are_not_there() -> None:
    bench = Bench(Case())
    bench.run()
    bench.load(lists(Case().with_(**{"CNA.CBUF_CON0.WEIGHT_REUSE": 1})))
    with pytest.raises(SimulatorFault, match=r"left none$"):
        bench.machine.run_task(COMMANDS, bench.count, 1)


def test_reused_weights_must_fit_their_banks() -> None:
    case = Case(size=(1, 2), kernel=(1, 1), channels=1024, kernels=256)
    bench = Bench(case)
    bench.run()
    reuse = case.with_(**{"CNA.CBUF_CON0.WEIGHT_REUSE": 1})
    refused(bench, lists(reuse), r"CNA\.CBUF_CON0: WEIGHT_REUSE of 262144 bytes, must fit 6 banks")


def test_depthwise_pad_bytes_matter_only_where_padding_is() -> None:
    changes = {"CNA.PAD_CON1.PAD_VALUE": 0x0004}
    Bench(Case(depthwise=True).with_(**changes)).run()
    text = r"CNA\.PAD_CON1: PAD_VALUE has the bytes 4 and 0, must be equal in depthwise mode"
    for pad in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        refused(Bench(Case(depthwise=True, pad=pad).with_(**changes)), None, text)


def test_width_one_needs_a_free_end_of_the_last_bank() -> None:
    def case(rows: int) -> Case:
        return Case(size=(rows, 1), kernel=(1, 1)).with_(
            **{"CNA.CBUF_CON0.DATA_BANK": 1, "CNA.CBUF_CON1.DATA_ENTRIES": 2}
        )

    Bench(case(240)).run()
    refused(
        Bench(case(250)), None, r"CNA\.CBUF_CON0: width 1 and 500 of 512 entries used, must leave"
    )


def test_accumulators_that_may_leave_32_bits() -> None:
    case = Case(size=(1, 2), kernel=(1, 1), channels=8176, compensation=32767)
    refused(Bench(case), None, r"CORE: accumulators may reach \d+, saturation of 32 bits is not")
    large = Bench(Case())
    large.memory.view(0x300000, 64, "test").view("<i4")[:] = (1 << 31) - 1
    refused(
        large,
        None,
        r"DPU: values between the stages reach \d+, must fit 32 bits \(their saturation",
    )


def test_a_policy_tolerates_what_it_names() -> None:
    changes = {"CNA.CBUF_CON1.DATA_ENTRIES": 1}
    case = Case(channels=48).with_(**changes)
    bench = Bench(case, Policy(frozenset({Breach.DATA_ENTRIES})))
    np.testing.assert_array_equal(bench.run(where="job 3"), bench.converted(bench.values()))
    (seen,) = bench.machine.observations
    assert (seen.where, seen.deviation.breach) == ("job 3", Breach.DATA_ENTRIES)
    assert re.fullmatch(r"CNA\.CBUF_CON1: DATA_ENTRIES is 1, must .*", seen.deviation.text)
    with pytest.raises(SimulatorFault, match=r"^task: CNA\.CBUF_CON1: DATA_ENTRIES is 1"):
        Bench(case, Policy(frozenset({Breach.PAD_BYTES}))).run()


def test_an_empty_task_writes_nothing() -> None:
    case = Case().with_(
        **{"DPU.DATA_CUBE_HEIGHT.HEIGHT": 8192, "CNA.DATA_SIZE3.DATAOUT_ATOMICS": 0}
    )
    bench = Bench(case, LENIENT)
    bench.run()
    assert (bench.out == 77).all()
    assert [o.deviation.breach for o in bench.machine.observations] == [Breach.EMPTY_TASK]


def test_blocks_are_all_checked() -> None:
    for block in (CNA, CORE, DPU, DPU_RDMA):
        for register in block.registers:
            free = 0xFFFFFFFF & ~register.covered
            if free == 0:
                continue
            bit = free & -free
            bench = Bench(Case())
            words = [write(block.target, register.offset, bit), *lists(Case())]
            kept = [w for w in words[1:] if w & 0xFFFF != register.offset or w >> 48 > 0xF000]
            refused(bench, [words[0], *kept[:-1], words[-1]], re.escape(register.title()))
