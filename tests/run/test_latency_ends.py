"""Stages of a context that is closed, or was opened by the parent of a forked process."""

from __future__ import annotations

import os

import numpy as np
import pytest

from teflon.errors import DeviceError, OptionError
from teflon.ir import Graph
from teflon.ir.builder import Builder
from teflon.run.multicore.context import MulticoreContext
from teflon.run.multicore.device import MulticoreDevice
from teflon_cpu.context import CpuContext
from teflon_cpu.device import CpuDevice

IMAGE = np.array([3, 200], np.uint8)


def network() -> Graph:
    b = Builder()
    x = b.input("x", "u8", (2,), scale=1.0)
    b.output(b.add(x, x, scale=2.0, zero_point=0))
    return b.build()


def opened() -> MulticoreContext:
    return MulticoreContext(MulticoreDevice(CpuDevice(), 1), [CpuContext()])


def test_a_closed_context_says_so() -> None:
    context = opened()
    executable = context.load(context.device.compile(network()))
    assert context.submit(executable, [IMAGE]).wait()[0].tolist() == [3, 200]
    context.close()
    context.close()
    with pytest.raises(DeviceError, match=r"^cpu: the device was closed, must be opened again$"):
        context.submit(executable, [IMAGE])


def test_inputs_are_counted() -> None:
    with opened() as context:
        executable = context.load(context.device.compile(network()))
        with pytest.raises(OptionError, match=r"^program: 2 inputs were given, must be 1$"):
            context.invoke(executable, [IMAGE, IMAGE])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_work_goes_on_in_a_forked_process() -> None:
    with opened() as context:
        executable = context.load(context.device.compile(network()))
        context.submit(executable, [IMAGE]).wait(10)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = int(context.submit(executable, [IMAGE]).wait(10)[0][0])
                context.close()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fence_of_the_parent_is_not_waited_for() -> None:
    with opened() as context:
        fence = context.submit(context.load(context.device.compile(network())), [IMAGE])
        child = os.fork()
        if child == 0:
            try:
                right = fence.wait()[0].tolist() == [3, 200]  # it may have ended before the fork
            except DeviceError as error:
                right = "must be waited for there" in str(error)
            os._exit(7 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert fence.wait(10)[0].tolist() == [3, 200]
