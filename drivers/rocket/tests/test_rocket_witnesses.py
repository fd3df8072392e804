# Ref: docs/hardware/rocket.md §1.2 (command words), docs/hardware/rocket_vendor.md §0
"""Values that nobody has recorded are found, listed with reasons, and can be refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import make_witnesses
from teflon.cli import main
from teflon.errors import OptionError, UnsupportedOperation
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket import witnesses
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import Job, RocketProgram, Task
from teflon_rocket.registers import CNA, DPU, PPU, PREPARE_WORD, command, enable_command
from teflon_rocket.witnesses import Fact, facts, parsed, table, text, unwitnessed, unwritten
from tests.paths import needs_shared
from tests.rocket import witnesses as hand

ONLY = {"witnessed": "only"}
SEEN = Fact(0x1D, "CNA.CONV_CON3", "CONV_X_STRIDE", "2")


def a_list(mask: int, *words: int) -> list[int]:
    return [*words, 0, PREPARE_WORD, enable_command(mask)]


def a_graph(units: int, activation: str = "none") -> Graph:
    """A convolution; with a clamp at a zero point in the middle it needs an unwitnessed one."""
    b = Builder("g")
    x = b.input("x", "u8", (1, 8, 8, 16), 0.05, 120)
    weights = (np.arange(units * 16).reshape(units, 1, 1, 16) * 37 % 251).astype(np.uint8)
    b.output(
        b.conv2d(
            x, weights, np.arange(units, dtype=np.int32), weight_scale=0.01,
            weight_zero_point=110, activation=activation, scale=0.04, zero_point=100, name="y",
        )
    )  # fmt: skip
    return b.build()


def test_classes_of_a_list() -> None:
    """Narrow fields by value, wide ones by zero or not, no addresses, bits without a name."""
    words = a_list(
        0x1D,
        command(CNA.CONV_CON3(CONV_X_STRIDE=2, CONV_Y_STRIDE=1)),
        command(DPU.DST_BASE_ADDR(DST_BASE_ADDR=0x40)),
        command(DPU.OUT_CVT_OFFSET(OUT_CVT_OFFSET=-3)),
        command(CNA.CONV_CON2.raw(0x0100_0010)),
    )
    found = {str(fact) for fact in facts(words)}
    assert "0x1d CNA.CONV_CON3.CONV_X_STRIDE=2" in found
    assert "0x1d CNA.CONV_CON3.DECONV_X_STRIDE=0" in found
    assert "0x1d DPU.OUT_CVT_OFFSET.OUT_CVT_OFFSET=*" in found
    assert "0x1d CNA.CONV_CON2.FEATURE_GRAINS=*" in found
    assert f"0x1d CNA.CONV_CON2.undocumented={0x0100_0000}" in found
    assert not any("ADDR" in fact for fact in found)
    assert facts(words[:-1]) == frozenset()
    assert {f.units for f in facts([*words[:-1], enable_command(0x18)])} == {0x18}
    assert {str(f) for f in facts(a_list(0x60, 0x0301 << 48 | 7 << 16 | 0x1014))} == {
        "0x60 0x0301.0x1014=*"
    }


@given(
    st.dictionaries(
        st.builds(
            Fact,
            st.sampled_from([0xD, 0x18, 0x1D, 0x60]),
            st.just("DPU.BS_CFG"),
            st.sampled_from(["BS_BYPASS", "BS_ALU_ALGO"]),
            st.sampled_from(["0", "1", "17", "*"]),
        ),
        st.sampled_from(["m", "v", "mv"]),
    )
)
def test_a_table_keeps_its_facts(known: dict[Fact, str]) -> None:
    """What is read has all that was written; besides that, zeros of registers in it only."""
    again = parsed("# head\n" + text(known))
    assert set(known) <= again
    registers = {(fact.units, fact.register) for fact in known}
    for fact in again - set(known):
        assert fact.value == "0"
        assert (fact.units, fact.register) in registers


def test_the_table_has_what_is_known() -> None:
    assert SEEN in table()
    for unit, register, field, value in (
        (0x18, "DPU.FEATURE_MODE_CFG", "FLYING_MODE", "1"),
        (0x60, "PPU_RDMA.RDMA_DATA_FORMAT", "IN_PRECISION", "1"),
        (0x1D, "CNA.CONV_CON1", "DECONV", "1"),
        (0x1D, "DPU_RDMA.RDMA_BRDMA_CFG", "BRDMA_DATA_USE", "7"),
    ):
        assert Fact(unit, register, field, value) in table()
    assert Fact(0x60, "PPU_RDMA.RDMA_DATA_FORMAT", "IN_PRECISION", "3") not in table()
    assert Fact(0x18, "CNA.CONV_CON1", "DECONV", "1") not in table()
    assert witnesses.TABLE.stat().st_size < 20_000


@needs_shared
def test_the_table_is_what_the_tool_makes() -> None:
    assert witnesses.TABLE.read_text() == make_witnesses.content()


@needs_shared
def test_all_complete_lists_write_the_same_registers() -> None:
    assert make_witnesses.short() == []


def test_a_register_that_others_write_is_missed() -> None:
    own = facts(a_list(0x60, command(PPU.DATA_CUBE_IN_WIDTH(CUBE_IN_WIDTH=3))))
    lacking = {str(fact) for fact in unwritten(own)}
    assert "0x60 PPU_RDMA.RDMA_DATA_FORMAT.register=unwritten" in lacking
    assert not any("CUBE_IN_WIDTH" in fact for fact in lacking if "RDMA" not in fact)
    assert unwritten(frozenset()) == frozenset()


def test_only_who_asks_loads_the_table() -> None:
    code = (
        "import sys; from teflon_rocket.device import RocketDevice; RocketDevice('rk3588');"
        "import teflon_rocket.exact.lower; print('teflon_rocket.witnesses' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@needs_shared
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of models that were made to break things
def test_all_programs_at_hand() -> None:
    """Each value without a witness has a reason in the table, and nothing else is in it."""
    found, lists = hand.found()
    assert set(found) == set(hand.reasons())
    assert all(len(reason) > 20 for reason in hand.reasons().values())
    assert lists > 700


def program(graph: Graph, options: dict[str, str]) -> RocketProgram:
    return RocketDevice("rk3588", options).compile(graph)


def test_operations_of_a_finding_are_named_once() -> None:
    good = program(a_graph(16), {})
    assert unwitnessed(good) == ()
    (buffer,) = {t.buffer for job in good.jobs for t in job.tasks}
    (task,) = good.jobs[0].tasks
    words = np.frombuffer(good.buffers[buffer].data or b"", "<u8", task.count, task.offset).copy()
    strange = command(CNA.CONV_CON3(CONV_X_STRIDE=1, CONV_Y_STRIDE=1, NN_MODE=5))
    words[words & np.uint64(0xFFFF) == CNA.CONV_CON3.offset] = strange
    buffers = list(good.buffers)
    buffers[buffer] = type(buffers[buffer])("regcmd", buffers[buffer].size, words.tobytes(), "")
    moved = Task(buffer, 0, task.count)
    job = Job((moved, moved), (), (), "job", (("y", 2),))
    bad = type(good)(**{**vars(good), "buffers": tuple(buffers), "jobs": (job,)})
    (found,) = unwitnessed(bad)
    assert str(found.fact) == "0x1d CNA.CONV_CON3.NN_MODE=5"
    assert found.operations == ("y",)


def test_the_option_refuses_what_nobody_recorded() -> None:
    """With a clamp that no list has, `exact` takes the operation, and `only` does not."""
    graph = a_graph(16, "relu6")
    device, strict = RocketDevice("rk3588"), RocketDevice("rk3588", ONLY)
    facts_found = [str(found.fact) for found in unwitnessed(device.compile(graph))]
    assert "0x1d DPU.BS_CFG.BS_RELUX_EN=1" in facts_found
    assert device.unsupported(graph.ops[0], graph) == []
    wanted = [f"no recording has {fact} (option witnessed=only)" for fact in facts_found]
    assert strict.unsupported(graph.ops[0], graph) == wanted
    assert dict(strict.veto(graph)) == {graph.ops[0]: wanted[0]}
    with pytest.raises(UnsupportedOperation, match=r"^CONV_2D 'y': no recording has 0x1d DPU"):
        strict.compile(graph)


def test_the_option_leaves_the_rest_alone() -> None:
    graph = a_graph(16)
    device, strict = RocketDevice("rk3588"), RocketDevice("rk3588", ONLY)
    assert strict.unsupported(graph.ops[0], graph) == []
    assert dict(strict.veto(graph)) == {}
    assert strict.compile(graph).to_bytes() == device.compile(graph).to_bytes()
    assert strict.signature() != device.signature()
    with pytest.raises(OptionError, match=r"^rocket: witnessed=only is for strategy exact"):
        RocketDevice("rk3588", {**ONLY, "strategy": "mesa"})


@needs_shared
def test_check_keeps_to_witnessed_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A network comes out as before, but for the operations with values that are in the table."""
    name = next(path for path in hand.models() if path.stem.startswith("deeplab"))
    shares = []
    for more in ([], ["--witnessed-only"]):
        assert main(["check", str(name), "--device", "rk3588", "--json", *more]) == 0
        shares.append(json.loads(capsys.readouterr().out))
    assert "witnessed=only" not in json.dumps(shares[0])
    assert "no recording has 0x1d " in json.dumps(shares[1])
