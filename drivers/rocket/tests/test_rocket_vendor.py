# Ref: docs/hardware/rocket_vendor.md §0 (findings 1, 12), §2 (task table)
"""The vendor's own command lists give the vendor's outputs on the simulated chip."""

from __future__ import annotations

import json

import numpy as np
import pytest

from teflon_rocket.registers import (
    CNA,
    DPU,
    DPU_RDMA,
    PREPARE_WORD,
    WRITE,
    command,
    enable_command,
)
from tests.paths import needs_shared
from tests.rocket import vendor
from tests.rocket.onnx_file import floats
from tests.rocket.vendor_rebuilt import packed


@needs_shared
@pytest.mark.parametrize("name", vendor.names())
def test_lists(name: str) -> None:
    """Within one step on one, two and three cores, or for the reason that the table gives."""
    assert vendor.reason(name) == vendor.expected().get(name, "")


@needs_shared
def test_table_names_networks_only() -> None:
    assert set(vendor.expected()) <= set(vendor.names())
    assert len(vendor.names()) > 190


@needs_shared
def test_two_readings_of_the_files_agree() -> None:
    """Command words and tables of tasks are those of the .json files, all tasks are operations'."""
    compared = 0
    for path in sorted(vendor.FOLDER.glob("*.rknn")):
        if path.stem == "emax" or not (vendor.FOLDER / f"{path.stem}_words.json").exists():
            continue
        compare(path.stem)
        compared += 1
        net = vendor.network(path.stem)
        for cores in vendor.CORES if len(net.words) else ():
            assert list(vendor.steps(net, cores))
    assert compared > 200


def compare(name: str) -> None:
    net = vendor.network(name)
    listed = json.loads((vendor.FOLDER / f"{name}_words.json").read_text())
    words = [int(word, 16) for part in listed for word in part["words"]]
    ours = [int(word) for word in net.words]
    common = min(len(ours), len(words))
    assert ours[:common] == words[:common]
    assert not any(ours[common:] + words[common:])
    tasks = vendor.FOLDER / f"{name}_tasks.json"
    if tasks.exists():
        for theirs, task in zip(json.loads(tasks.read_text()), net.tasks, strict=True):
            assert int(theirs["enable_mask"], 16) == task.mask
            assert int(theirs["regcmd_offset"], 16) == 8 * task.first
            assert theirs["regcfg_amount"] == task.amount


@needs_shared
@pytest.mark.parametrize(("name", "constant"), [("none", "y"), ("k1", "y"), ("conv_ch", "")])
def test_constants_are_rebuilt_as_the_vendor_made_them(name: str, constant: str) -> None:
    """From the .onnx file come the bytes of the .rknn file, but for the biases."""
    weights, operands = (f"{constant}_{k}".strip("_") for k in "wb")
    net, source = vendor.network(name), floats(vendor.FOLDER / f"{name}.onnx")
    data, made = packed(source[weights], net.inputs[0].zero)
    assert data == net.named[weights].data
    theirs = np.frombuffer(net.named[operands].data or b"", np.uint8).reshape(-1, 64)
    ours = np.frombuffer(made, np.uint8).reshape(-1, 64)
    assert np.array_equal(ours[:, 32:], theirs[:, 32:])


def test_a_short_list_keeps_what_its_own_group_holds() -> None:
    """Groups of registers alternate for each unit, only when the unit is started."""
    core = vendor.Core()

    def height(unit: type[DPU], rows: int) -> int:
        return command(unit.DATA_CUBE_HEIGHT(HEIGHT=rows))

    def run(mask: int, *words: int) -> list[int]:
        made = core.complete([*words, PREPARE_WORD, enable_command(mask)])
        assert made[-2:] == [PREPARE_WORD, enable_command(mask)]
        return made[:-2]

    width = command(DPU.DATA_CUBE_WIDTH(WIDTH=4))
    source = command(DPU_RDMA.RDMA_SRC_BASE_ADDR(SRC_BASE_ADDR=0x40))
    convolution = command(CNA.CONV_CON2(FEATURE_GRAINS=3))
    assert run(0x18, width, source, height(DPU, 1)) == [width, source, height(DPU, 1)]
    assert run(0x0D, height(DPU, 2), convolution) == [height(DPU, 2), convolution]
    assert run(0x18, height(DPU, 3)) == [width, height(DPU, 3)]
    assert run(0x18) == [height(DPU, 2), source]
    assert run(0x0D) == [width, height(DPU, 3)]
    assert run(0x01) == [convolution]


def test_the_words_of_one_task_end_with_the_start_word() -> None:
    other = (DPU.target + WRITE) << 48
    words = np.array([other, PREPARE_WORD, enable_command(0x18), other], "<u8")
    assert vendor.ends(words, 0) == [other, PREPARE_WORD, enable_command(0x18)]
    assert vendor.ends(words, 1) == [PREPARE_WORD, enable_command(0x18)]
