"""Programs whose DPU is set up wrongly, or in a way that is not modelled, are refused by name."""

import pytest

from tests.rocket.lists import Bench, Case
from tests.rocket.refusals import refused

BROKEN = [
    (
        {"DPU.DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_0": 1},
        r"DPU\.DATA_CUBE_NOTCH_ADDR .*: NOTCH_ADDR_0 and NOTCH_ADDR_1 must be equal$",
    ),
    (
        {"DPU.DATA_CUBE_NOTCH_ADDR": 0x10001},
        r"DPU\.DATA_CUBE_NOTCH_ADDR .*: a convolution must write single pixels, CHANNEL_WDMA 256",
    ),
    (
        {"DPU.WDMA_SIZE_0.CHANNEL_WDMA": 256, "DPU.WDMA_SIZE_1.WIDTH_WDMA": 1},
        r"DPU\.WDMA_SIZE_0 .*: single pixels must be written by a depthwise convolution",
    ),
    ({"DPU.S_POINTER": 0xF}, r"DPU\.S_POINTER: POINTER is stored as #1, is not modelled$"),
    ({"DPU.S_POINTER": 0x36}, r"DPU\.S_POINTER: is #36, must be #e or #30"),
    ({"DPU_RDMA.RDMA_S_POINTER": 6}, r"DPU_RDMA\.RDMA_S_POINTER: is #6, must be #e or #30"),
    ({"DPU.LUT_CFG": 0x68}, r"DPU\.LUT_CFG: is #68 with EW_LUT_BYPASS, must be 0$"),
    (
        {"DPU.LUT_ACCESS_CFG": 0x20000},
        r"DPU\.LUT_ACCESS_DATA: 1 and 0 entries of the tables are written, must be 513 of each$",
    ),
    ({"DPU.LUT_ACCESS_DATA": 7}, r"DPU\.LUT_ACCESS_DATA: is #7, must be an entry .* behind a LUT"),
    (
        {"DPU_RDMA.RDMA_NRDMA_CFG.NRDMA_DATA_USE": 7},
        r"DPU_RDMA\.RDMA_NRDMA_CFG: NRDMA_DATA_USE is 7, must be 0, 1 \(numbers to add\) or 4",
    ),
    (
        {"DPU_RDMA.RDMA_NRDMA_CFG.NRDMA_DATA_USE": 4},
        r"DPU_RDMA\.RDMA_NRDMA_CFG: NRDMA_DATA_USE is 4, bit 4 must be set exactly when DPU\.BN_",
    ),
]


@pytest.mark.parametrize(("changes", "text"), BROKEN, ids=[", ".join(b[0]) for b in BROKEN])
def test_broken_set_ups_are_refused(changes: dict[str, int], text: str) -> None:
    case = Case()
    for name, value in changes.items():
        case = case.with_(**{name: value})
    refused(Bench(case), None, text)


ADDITION = [
    (
        {"DPU_RDMA.RDMA_EW_BASE_ADDR.EW_BASE_ADDR": 0x500100},
        r"DPU_RDMA\.RDMA_EW_SURF_STRIDE: is 12",
    ),
    (
        {"DPU_RDMA.RDMA_SURF_NOTCH.SURF_NOTCH_ADDR": 3},
        r"DPU_RDMA\.RDMA_SURF_NOTCH: is 3 pixels, must",
    ),
    (
        {"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DATA_SIZE": 2},
        r"DPU_RDMA\.RDMA_ERDMA_CFG .*: only 8-bit operands",
    ),
    (
        {"DPU.EW_CFG.EW_DATA_MODE": 0},
        r"DPU\.EW_CFG: EW_DATA_MODE is 0 behind a convolution, must be 1",
    ),
    ({"DPU.EW_CFG.EW_DATA_MODE": 2}, r"DPU\.EW_CFG .*: only 8-bit operands per pixel or channel"),
    (
        {"DPU.EW_CFG.EW_ALU_ALGO": 5},
        r"DPU\.EW_CFG: EW_ALU_ALGO 5 with EW_OP_TYPE 0 is not modelled$",
    ),
    (
        {"DPU.EW_CFG.EW_BYPASS": 1},
        r"DPU_RDMA\.RDMA_ERDMA_CFG: ERDMA_DISABLE must be 1 exactly when",
    ),
    (
        {"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DISABLE": 1},
        r"DPU_RDMA\.RDMA_FEATURE_MODE_CFG: COMB_USE is 5 with ERDMA_DISABLE, must be 0$",
    ),
]


@pytest.mark.parametrize(("changes", "text"), ADDITION, ids=[", ".join(b[0]) for b in ADDITION])
def test_broken_additions_are_refused(changes: dict[str, int], text: str) -> None:
    refused(Bench(Case(operand=True).with_(**changes)), None, text)


def test_surfaces_beyond_a_group_need_surface_add() -> None:
    case = Case(kernels=40).with_(**{"DPU.SURFACE_ADD.SURF_ADD": 12})
    refused(Bench(case), None, r"DPU\.SURFACE_ADD: is 12, must be 2 times DST_SURF_STRIDE 12$")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"BN_MUL_PRELU": 1, "shift": 3}, r"DPU\.BN_CFG: BN_MUL_PRELU with BN_MUL_SHIFT_VALUE 3"),
        ({"BN_MUL_PRELU": 1, "BN_ALU_BYPASS": 0}, r"DPU\.BN_CFG: .* and BN_ALU_BYPASS 0, must be"),
        ({"shift": 3, "BN_ALU_BYPASS": 0}, r"DPU\.BN_MUL_CFG: BN_MUL_SHIFT_VALUE is 3 .* an addit"),
        ({"shift": 3, "factor": -7}, r"DPU\.BN_MUL_OPERAND is -7 with the shifts 3 and 0 in"),
        (
            {"shift": 61, "factor": 7},
            r"DPU\.BN_MUL_CFG and DPU\.DATA_FORMAT is 61, must be at most",
        ),
    ],
)
def test_modes_of_the_second_stage(changes: dict[str, int], text: str) -> None:
    names = {
        "shift": "DPU.BN_MUL_CFG.BN_MUL_SHIFT_VALUE",
        "factor": "DPU.BN_MUL_CFG.BN_MUL_OPERAND",
    }
    stage = {"BN_BYPASS": 0, "BN_MUL_BYPASS": 0, "BN_ALU_ALGO": 2} | changes
    fields = {names.get(name, f"DPU.BN_CFG.{name}"): value for name, value in stage.items()}
    refused(Bench(Case().with_(**fields)), None, text)
