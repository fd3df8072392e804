"""The CPU driver: runs what is not opaque; programs are kept and loaded, damaged ones refused."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from teflon.errors import (
    DeviceError,
    DriverUnavailable,
    OptionError,
    ProgramError,
    UnsupportedOperation,
)
from teflon.ir import Graph
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.pipe import Context, Device, Driver
from teflon.plugins import discover
from teflon_cpu.context import CpuContext
from teflon_cpu.device import CpuDevice
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import opaque_graph, random_inputs, sample


def driver() -> Driver:
    return discover().drivers["cpu"]


def test_it_is_found_like_a_strangers_driver() -> None:
    found = driver()
    assert found.chips == ("cpu",)
    (node,) = found.probe()
    assert (node.path, node.chip, node.usable) == ("cpu", "cpu", True)
    assert isinstance(found.device("cpu"), Device)
    with found.open(node) as context:
        assert isinstance(context, Context)


def test_wrong_chip_and_options() -> None:
    with pytest.raises(DriverUnavailable, match=r"^cpu: chip is 'i486', must be 'cpu'$"):
        driver().device("i486")
    with pytest.raises(OptionError, match=r"^cpu: there is no option 'turbo', it takes none$"):
        driver().device("cpu", {"turbo": "1"})


@pytest.mark.parametrize("name", EXAMPLES)
def test_programs_run_and_survive(name: str) -> None:
    graph = EXAMPLES[name].graph()
    inputs = random_inputs(graph)
    expected = run(graph, inputs)
    device = CpuDevice()
    program = device.compile(graph)
    again = device.load(program.to_bytes())
    assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
    assert again.statistics == program.statistics
    with CpuContext() as context:
        for one in (program, again):
            results = context.invoke(context.load(one), inputs)
            assert [r.tobytes() for r in results] == [e.tobytes() for e in expected]


def test_the_unknown_is_refused_with_its_reason() -> None:
    graph = opaque_graph()
    device = CpuDevice()
    assert [device.unsupported(op, graph) for op in graph.ops] == [
        [],
        ["GATHER_ND is not read"],
        [],
    ]
    with pytest.raises(UnsupportedOperation, match=r"^GATHER_ND 'gather_nd': GATHER_ND is not re"):
        device.compile(graph)


def test_statistics_and_description() -> None:
    program = CpuDevice().compile(sample("Conv2D"))
    assert program.statistics["tasks"] == 1
    assert program.statistics["macs"] == 3 * 5 * 8 * (3 * 2 * 4)
    assert program.statistics["coefficient_bytes"] == 8 * (3 * 2 * 4) + 8 * 4
    assert "conv2d(%x, %weights, %bias)" in CpuDevice().describe(program)


def tamper(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def test_damaged_programs_are_refused() -> None:
    device = CpuDevice()
    data = device.compile(sample("Add")).to_bytes()
    with pytest.raises(ProgramError, match=r"^program: begins with b'', must begin with "):
        device.load(b"")
    with pytest.raises(ProgramError, match=r"^program: checksum of its \d+ bytes is not the one"):
        device.load(tamper(data, b"add(", b"sub("))
    with pytest.raises(ProgramError, match=r"^program: checksum"):
        device.load(data[:-1])


def test_programs_of_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from teflon_cpu import device as module

    data = CpuDevice().compile(sample("Add")).to_bytes()
    monkeypatch.setattr(module, "VERSION", "2")
    message = r"^program: driver version is '1', must be '2' "
    with pytest.raises(ProgramError, match=message):
        CpuDevice().load(data)


def test_a_graph_that_cannot_be_read_is_a_program_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from teflon_cpu import device as module

    monkeypatch.setattr(module, "to_text", lambda graph: 'graph "g" { nonsense }')
    data = CpuDevice().compile(sample("Add")).to_bytes()
    expected = re.escape("program: its graph cannot be read: program:1:13: is nonsense, must be")
    with pytest.raises(ProgramError, match=f"^{expected}"):
        CpuDevice().load(data)


def identity() -> Graph:
    b = Builder("same")
    x = b.input("x", "u8", (2, 3), scale=0.5, zero_point=1)
    c = b.constant(np.arange(3, dtype=np.uint8), 0.5, 1)
    b.output(x, b.reshape(x, (3, 2)), c)
    return b.build()


def test_outputs_share_nothing_with_inputs_and_constants() -> None:
    graph = identity()
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    with CpuContext() as context:
        outputs = context.invoke(context.load(CpuDevice().compile(graph)), [x])
    for output in outputs:
        output += 1
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert graph.constants[0].data is not None
    assert graph.constants[0].data.tolist() == [0, 1, 2]


def test_closed_things_refuse() -> None:
    x = np.zeros((2, 3), np.uint8)
    context = CpuContext()
    executable = context.load(CpuDevice().compile(identity()))
    executable.close()
    executable.close()
    with pytest.raises(DeviceError, match=r"^cpu: is closed, must be open$"):
        context.invoke(executable, [x])
    other = context.load(CpuDevice().compile(identity()))
    context.close()
    context.close()
    with pytest.raises(DeviceError, match=r"^cpu: is closed, must be open$"):
        context.invoke(other, [x])


def test_fences_are_done_at_once() -> None:
    with CpuContext() as context:
        executable = context.load(CpuDevice().compile(identity()))
        fence = context.submit(executable, [np.zeros((2, 3), np.uint8)])
        assert fence.done()
        assert len(fence.wait(0)) == 3


def test_threads_do_not_meet() -> None:
    graph = sample("Conv2D")
    with CpuContext() as context, ThreadPoolExecutor(4) as pool:
        executable = context.load(CpuDevice().compile(graph))
        inputs = [random_inputs(graph, seed) for seed in range(24)]
        results = list(pool.map(lambda i: context.invoke(executable, i), inputs))
    for given, (result,) in zip(inputs, results, strict=True):
        assert result.tobytes() == run(graph, given)[0].tobytes()
