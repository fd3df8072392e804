"""The fake kernel, the context and the device on a simulated chip."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, SimulatorFault
from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_common.drm import GemClose, call
from teflon_common.fake_drm import FakeWinsys, refuse
from teflon_common.structs import Ioctl, pack_array
from teflon_etnaviv import chips, uapi
from teflon_etnaviv.buffers import AddressHeap, BufferObject
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.context import EtnavivContext, identities
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import EtnavivProgram
from teflon_etnaviv.simulator.files import EtnavivFile
from teflon_etnaviv.simulator.kernel import EtnavivKernel

A311D = chips.chip("a311d")
GPU = Identity(0x7000, 0x6204, 0, 0, 0)


def graph(first: int = 0) -> Graph:
    b = Builder("small")
    x = b.input("x", "u8", (1, 6, 6, 3), scale=0.02, zero_point=7)
    weights = (first + np.arange(8 * 27)).astype(np.uint8).reshape(8, 3, 3, 3)
    y = b.conv2d(x, weights, weight_scale=0.01, weight_zero_point=90, scale=0.5, zero_point=100)
    b.output(b.relu(y, scale=0.5, zero_point=100))
    return b.build()


class Failing(FakeWinsys):
    """Refuses the next requests of a kind."""

    def refuse(self, ioctl: Ioctl, code: int, count: int = 1) -> None:
        self.refused, self.code, self.count = ioctl.request, code, count

    count = 0

    def ioctl(self, request: int, argument: bytearray) -> int:
        if self.count and request == self.refused:
            self.count -= 1
            raise refuse(self.code)
        return super().ioctl(request, argument)


@pytest.fixture
def winsys() -> FakeWinsys:
    return FakeWinsys(EtnavivKernel(A311D, strict=True))


def _new(winsys: FakeWinsys, size: int = 4096) -> int:
    request = uapi.GemNew(size=size, flags=uapi.BO_WRITE_COMBINE)
    return call(winsys, uapi.ETNAVIV, uapi.GEM_NEW, request).handle


def _submit(winsys: FakeWinsys, bos: list[uapi.SubmitBo], **how: Any) -> None:
    listed = pack_array(bos)
    memory = (ctypes.c_char * max(len(listed), 1)).from_buffer(listed or bytearray(1))
    values = {"flags": uapi.SUBMIT_SOFTPIN, "nr_bos": len(bos), "bos": ctypes.addressof(memory)}
    call(winsys, uapi.ETNAVIV, uapi.GEM_SUBMIT, uapi.Submit(**{**values, **how}))


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"pipe": 1}, "ENXIO"),
        ({"pipe": 4}, "EINVAL"),
        ({"stream_size": 6}, "EINVAL"),
        ({"exec_state": 3}, "EINVAL"),
        ({"flags": 0x80}, "EINVAL"),
        ({"nr_relocs": 1}, "EFAULT"),
    ],
)
def test_bad_submits_are_refused(winsys: FakeWinsys, how: dict[str, int], code: str) -> None:
    bo = uapi.SubmitBo(flags=1, handle=_new(winsys), presumed=0x800000)
    with pytest.raises(DeviceError, match=code):
        _submit(winsys, [bo], **how)


def test_bad_buffer_lists_are_refused(winsys: FakeWinsys) -> None:
    first, second = _new(winsys), _new(winsys)

    def bo(handle: int, address: int, flags: int = 1) -> uapi.SubmitBo:
        return uapi.SubmitBo(flags=flags, handle=handle, presumed=address)

    for bos, code in (
        ([bo(first, 0x800000), bo(first, 0x800000)], "EALREADY"),
        ([bo(first, 0x3FF000)], "EINVAL"),
        ([bo(99, 0x800000)], "EINVAL"),
        ([bo(first, 0x800000, 4)], "EINVAL"),
        ([bo(first, 0x800000), bo(second, 0x800000)], "ENOSPC"),
    ):
        with pytest.raises(DeviceError, match=code):
            _submit(winsys, bos)


def test_cores_are_told_apart() -> None:
    kernel = EtnavivKernel(A311D, gpus=(GPU,))
    found = identities(FakeWinsys(kernel))
    assert found == [GPU, A311D.identities[0]]
    assert chips.npu_pipe(found) == (1, A311D)


def test_a_node_whose_npu_is_the_second_core_runs_models() -> None:
    device = EtnavivDevice("a311d")
    winsys = FakeWinsys(EtnavivKernel(A311D, gpus=(GPU,), strict=True))
    model = graph()
    with EtnavivContext(device, winsys, pipe=1) as context:
        _check(context, device, model, 0)


def _check(context: EtnavivContext, device: EtnavivDevice, model: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    loaded = context.load(device.compile(model))
    (have,) = context.invoke(loaded, [x])
    (want,) = interpreter.run(model, [x])
    assert np.abs(have.astype(int) - want.astype(int)).max() <= 1
    loaded.close()


def test_contexts_and_threads_side_by_side() -> None:
    kernel, device, model = EtnavivKernel(A311D, strict=True), EtnavivDevice("a311d"), graph()
    contexts = [EtnavivContext(device, FakeWinsys(kernel)) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(_check, contexts[n % 3], device, model, n) for n in range(18)]
    for job in jobs:
        job.result()
    for context in contexts:
        context.close()
        context.close()
    streams = [entry for entry in kernel.log if entry["ioctl"] == "GEM_SUBMIT"]
    assert len(streams) == 18 + 3, "one submit for each inference, one for each context"
    assert kernel.complaints == []


def test_fences_can_be_waited_for_later(winsys: FakeWinsys) -> None:
    device, model = EtnavivDevice("a311d"), graph()
    x = np.zeros((1, 6, 6, 3), np.uint8)
    with EtnavivContext(device, winsys) as context:
        loaded = context.load(device.compile(model))
        first, second = (context.submit(loaded, [x + n]) for n in range(2))
        assert (second.wait()[0] != first.wait(1.0)[0]).any()
        assert first.done()
        assert second.done()


def test_coefficients_are_decoded_once_and_again_when_they_change() -> None:
    device = EtnavivDevice("a311d")
    x = np.random.default_rng(3).integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    programs = [device.compile(graph(first)) for first in (0, 20)]
    winsys = FakeWinsys(EtnavivKernel(A311D, strict=True))
    assert isinstance(winsys.file, EtnavivFile)
    shared = winsys.file.shared
    with EtnavivContext(device, winsys) as context:
        loaded = [context.load(program) for program in programs]
        wanted = [context.invoke(one, [x])[0] for one in loaded]
        assert (wanted[0] != wanted[1]).any()
        decoded = (shared.nn.decoded, shared.tp.decoded)
        assert all(decoded)
        for _ in range(3):
            assert (context.invoke(loaded[0], [x])[0] == wanted[0]).all()
        assert (shared.nn.decoded, shared.tp.decoded) == decoded
        number = [b.role for b in programs[0].buffers].index("coefficients")
        data = programs[1].buffers[number].data
        assert data is not None
        winsys.file.lookup(loaded[0].buffers[number].handle).cpu[: len(data)] = data
        for _ in range(2):
            assert (context.invoke(loaded[0], [x])[0] == wanted[1]).all()
        assert (shared.nn.decoded, shared.tp.decoded) == (decoded[0] + 1, decoded[1])


def _broken(program: EtnavivProgram, role: str, offset: int, flip: int) -> EtnavivProgram:
    buffers = list(program.buffers)
    number = next(n for n, b in enumerate(buffers) if b.role == role)
    data = bytearray(buffers[number].data or b"")
    data[offset] ^= flip
    buffers[number] = dataclasses.replace(buffers[number], data=bytes(data))
    return dataclasses.replace(program, buffers=tuple(buffers))


@pytest.mark.parametrize(
    ("role", "offset", "flip", "text"),
    [
        ("nn_config", 8, 0x80, "brick_mode is 1, must be 0"),
        ("nn_config", 0, 0x02, "no_z_offset"),
        ("nn_config", 7, 0x80, "input"),
        ("nn_config", 88 + 3, 0x04, "unused11 is 1"),
        ("tp_config", 24, 0x01, "in_tile_sequence is 1, must be 0"),
        ("tp_config", 51, 0x40, "no_flush"),
        ("tp_config", 14, 0x00, ""),
        ("lut", 3, 0x01, "beyond 21 bits"),
        ("coefficients", 0, 0x01, "stream sizes"),
    ],
)
def test_what_is_not_understood_is_a_fault(
    winsys: FakeWinsys, role: str, offset: int, flip: int, text: str
) -> None:
    device = EtnavivDevice("a311d")
    program = _broken(device.compile(graph()), role, offset, flip)
    with EtnavivContext(device, winsys) as context:
        loaded = context.load(program)
        x = np.zeros((1, 6, 6, 3), np.uint8)
        if not flip:
            assert len(context.invoke(loaded, [x])) == 1
            return
        with pytest.raises(SimulatorFault, match=text):
            context.invoke(loaded, [x])


def test_a_buffer_that_is_not_listed_is_a_fault(winsys: FakeWinsys) -> None:
    device = EtnavivDevice("a311d")
    program = device.compile(graph())
    for change in ("dropped", "not written"):
        bos = program.bos[:-1] if change == "dropped" else tuple((n, 1) for n, _ in program.bos)
        with EtnavivContext(device, FakeWinsys(winsys.kernel)) as context:
            loaded = context.load(dataclasses.replace(program, bos=bos))
            fence = context.submit(loaded, [np.zeros((1, 6, 6, 3), np.uint8)])
            first = loaded.buffers[program.bos[0][0]]
            with pytest.raises(SimulatorFault, match=r"submit|in no buffer"):
                first.prepare(uapi.PREP_WRITE)
            assert fence.done()


def test_addresses_come_from_the_top() -> None:
    heap = AddressHeap()
    first, second, third = (heap.allocate(size) for size in (4096, 5000, 1))
    assert [hex(a) for a in (first, second, third)] == ["0xfffff000", "0xffffd000", "0xffffc000"]
    heap.free(second)
    assert heap.allocate(8192) == second
    with pytest.raises(DeviceError, match="no room"):
        heap.allocate(1 << 32)


def test_the_address_of_a_busy_buffer_stays_taken(winsys: FakeWinsys) -> None:
    """The kernel refuses to pin a buffer where a running job, or an open handle, has one."""
    heap = AddressHeap()
    first, second, third = (BufferObject(winsys, heap, 4096) for _ in range(3))
    first.close(busy=True)
    second.close()
    winsys.kernel.gem_close(winsys.file, GemClose(handle=third.handle))
    with pytest.raises(DeviceError, match="GEM_CLOSE"):
        third.close()
    assert BufferObject(winsys, heap, 4096).address == second.address
    assert heap.allocate(4096) == third.address - 4096


def test_a_program_that_is_closed_while_it_runs_keeps_its_addresses() -> None:
    """What is loaded afterwards lies elsewhere, and runs."""
    winsys = Failing(EtnavivKernel(A311D, strict=True))
    with EtnavivContext(EtnavivDevice("a311d"), winsys) as context:
        program = context.device.compile(graph())
        x = np.zeros((1, 6, 6, 3), np.uint8)
        loaded = context.load(program)
        taken = {bo.address for bo in loaded.buffers}
        context.submit(loaded, [x])
        winsys.refuse(uapi.GEM_CPU_PREP, errno.ETIMEDOUT)
        with pytest.raises(DeviceTimeout):
            loaded.close()
        again = context.load(program)
        assert {bo.address for bo in again.buffers}.isdisjoint(taken)
        assert len(context.invoke(again, [x])) == 1


def test_wrong_use_is_explained(winsys: FakeWinsys) -> None:
    device, other = EtnavivDevice("a311d"), EtnavivDevice("imx8mp")
    program = device.compile(graph())
    with pytest.raises(OptionError, match=r"did you mean exact\?"):
        EtnavivDevice("a311d", {"strategy": "exat"})
    with pytest.raises(ProgramError, match="chip is 'a311d', must be 'imx8mp'"):
        other.load(program.to_bytes())
    context = EtnavivContext(device, winsys)
    with pytest.raises(ProgramError, match="chip is 'imx8mp', must be 'a311d'"):
        context.load(other.compile(graph()))
    loaded = context.load(program)
    with pytest.raises(OptionError, match="input 0 is int8"):
        context.submit(loaded, [np.zeros((1, 6, 6, 3), np.int8)])
    context.close()
    with pytest.raises(DeviceError, match="was closed"):
        context.load(program)


@pytest.mark.parametrize("failing", [1, 2])
def test_the_next_inference_works_after_a_failed_submit(failing: int) -> None:
    """Whether the first submit, which sets the pipe up, fails once or twice."""
    winsys = Failing(EtnavivKernel(A311D, strict=True))
    with EtnavivContext(EtnavivDevice("a311d"), winsys) as context:
        model = graph()
        loaded = context.load(context.device.compile(model))
        x = np.arange(108, dtype=np.uint8).reshape(1, 6, 6, 3)
        winsys.refuse(uapi.GEM_SUBMIT, errno.ENOMEM, failing)
        for _ in range(failing):
            with pytest.raises(DeviceError, match="ENOMEM"):
                context.invoke(loaded, [x])
        (have,), (want,) = context.invoke(loaded, [x]), interpreter.run(model, [x])
        assert np.abs(have.astype(int) - want).max() <= 1


def test_a_program_of_another_context_is_refused() -> None:
    device = EtnavivDevice("a311d")
    winsys = [FakeWinsys(EtnavivKernel(A311D, strict=True)) for _ in range(2)]
    with EtnavivContext(device, winsys[0]) as one, EtnavivContext(device, winsys[1]) as other:
        loaded = one.load(device.compile(graph()))
        with pytest.raises(ProgramError, match="another context"):
            other.submit(loaded, [np.zeros((1, 6, 6, 3), np.uint8)])


def test_programs_read_as_text() -> None:
    device = EtnavivDevice("a311d")
    text = device.describe(device.compile(graph()))
    assert "NNInstruction kernel_xy_size=3" in text
    assert "PS.NN_INST_ADDR" in text
    assert "output u8 1x6x6x8: buffer" in text


def test_errno_of_an_unknown_parameter(winsys: FakeWinsys) -> None:
    with pytest.raises(DeviceError, match=errno.errorcode[errno.EINVAL]):
        call(winsys, uapi.ETNAVIV, uapi.GET_PARAM, uapi.GetParam(pipe=0, param=0x77))
