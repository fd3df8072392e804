"""Mutants of compiled programs of every driver; what loads is described, estimated and run.

python -m tests.fuzz.programs --count 10000 --seed 1 [--kind rk3588] [--state FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from teflon.devices import open_device
from teflon.errors import SimulatorFault, TeflonError
from teflon.ir.types import Array, DType, TensorType
from teflon.pipe import Context, Device, Program
from teflon.run.multicore.context import MulticoreContext
from teflon.run.multicore.device import MulticoreDevice
from tests.fuzz.container import Damage, mutate
from tests.fuzz.corpus import KNOWN, compiled, hosted, stages
from tests.fuzz.damages import CPU, ETNAVIV, ROCKET
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.stages import mutate_stages

LARGE = 64 << 20
"""Bytes of inputs and outputs from which a program is not run: the caller makes these arrays."""


# What is done with a mutant ------------------------------------------------------------------


def use(spec: str, options: Mapping[str, str], data: bytes, random: Random) -> str:
    """Load a program and do everything with it that users can."""
    device, context = open_device(spec, options)
    assert context is not None
    with context:
        return use_on(device, context, data, random)


def use_on(device: Device, context: Context, data: bytes, random: Random) -> str:
    """Load a program for a device and run it. Returns how that ended; raises for a defect."""
    try:
        program = device.load(data)
    except TeflonError:
        return "refused"
    show(device, program)
    with suppress(TeflonError):
        if device.load(program.to_bytes()).to_bytes() != program.to_bytes():
            raise AssertionError("a program has other bytes when it is loaded again")
    try:
        return run(context, program, random)
    except SimulatorFault as fault:
        cause: BaseException = fault
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if "the simulator itself failed" in str(fault):
            raise cause from None
        return "faulted"
    except TeflonError:
        return "stopped"


def use_stages(data: bytes, random: Random) -> str:
    """Load a program for several cores and do everything with it."""
    inner, first = open_device("sim:rk3588")
    assert first is not None
    device = MulticoreDevice(inner, 3)
    with MulticoreContext(device, [first, first.again(), first.again()]) as context:
        return use_on(device, context, data, random)


def show(device: Device, program: Program) -> None:
    """Ask for everything that people can see of a program."""
    texts: Sequence[Callable[[], object]] = (
        lambda: device.outline(program).encode(),
        lambda: device.describe(program).encode(),
        lambda: [(c.limit, c.utilisation, c.name.encode()) for c in device.estimate(program)],
        lambda: json.dumps({k: f"{v:,d}" for k, v in program.statistics.items()}),
        lambda: "\n".join(program.remarks).encode(),
    )
    for text in texts:
        with suppress(TeflonError):
            text()


def run(context: Context, program: Program, random: Random) -> str:
    """Load a program into a context and run it twice."""
    if sum(t.size_bytes for t in (*program.inputs, *program.outputs)) > LARGE:
        executable = context.load(program)
        executable.close()
        return "large"
    executable = context.load(program)
    try:
        for _ in range(2):
            found = context.submit(executable, [_input(t, random) for t in program.inputs]).wait()
            for array, kind in zip(found, program.outputs, strict=True):
                _check(array, kind)
    finally:
        executable.close()
    return "ran"


def _check(array: Array, kind: TensorType) -> None:
    if kind.dtype is not DType.OTHER and not kind.dynamic and array.shape != kind.shape:
        raise AssertionError(f"a result is {list(array.shape)}, must be {list(kind.shape)}")


def _input(kind: TensorType, random: Random) -> Array:
    raw = random.integers(0, 256, kind.size_bytes, np.uint8)
    with np.errstate(all="ignore"):
        return raw.view(kind.dtype.numpy).reshape(kind.shape)


def recorded(spec: str, options: Mapping[str, str], data: bytes, random: Random) -> str:
    """The same as `use`, sometimes with a recording."""
    if random.random() < 0.9:
        return use(spec, options, data, random)
    with tempfile.TemporaryDirectory(prefix="teflon-fuzz-") as folder:
        return use(spec, {**options, "record": str(Path(folder) / "r.npz")}, data, random)


# The kinds -----------------------------------------------------------------------------------


def _mutate(own: Mapping[str, Damage], random: Random, corpus: Sequence[bytes]) -> Mutant:
    return mutate(random, corpus, own)


def _kind(name: str, spec: str, own: Mapping[str, Damage], **options: str) -> Kind:
    records = own is ROCKET or own is ETNAVIV
    return Kind(
        name,
        partial(compiled, spec, options),
        partial(_mutate, own),
        partial(recorded if records else use, spec, options),
    )


KINDS = {
    kind.name: kind
    for kind in (
        _kind("rk3588", "sim:rk3588", ROCKET),
        _kind("rk3588-ppu", "sim:rk3588", ROCKET, pooling="ppu"),
        _kind("rk3588-mesa", "sim:rk3588", ROCKET, strategy="mesa"),
        _kind("a311d", "sim:a311d", ETNAVIV),
        _kind("a311d-mesa", "sim:a311d", ETNAVIV, strategy="mesa"),
        _kind("s905d3", "sim:s905d3", ETNAVIV),
        _kind("imx8mp", "sim:imx8mp", ETNAVIV),
        _kind("cpu", "cpu", CPU),
        Kind("tflite", hosted, partial(_mutate, {}), partial(use, "tflite", KNOWN)),
        Kind("stages", stages, mutate_stages, use_stages),
    )
}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
