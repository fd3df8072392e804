"""Mutants of compiled programs of every driver; what loads is described, estimated and run.

python -m tests.fuzz.programs --count 10000 --seed 1 [--kind rk3588] [--state FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from teflon.compile.cache import Cache
from teflon.compile.planning import compile_plan, plan_model
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import SimulatorFault, TeflonError
from teflon.ir.graph import Graph
from teflon.ir.types import Array, DType, TensorType
from teflon.samples.models import resolve
from teflon.pipe import Context, Device, Program
from teflon_common.conformance.grid import cases
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_rocket.registers import REGISTERS, WRITE
from tests.fuzz.container import Container, Damage, change_bytes, change_rows, mutate
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.values import INTEGERS, number, pick

LARGE = 64 << 20
"""Bytes of inputs and outputs from which a program is not run: the caller makes these arrays."""

_SEED_BYTES = 60_000


# Seeds ---------------------------------------------------------------------------------------


def _graphs() -> Iterator[Graph]:
    """Yield small networks: one for each operation and way of quantising, then a whole network."""
    yield read_graph(resolve("digits_int8"))
    seen: dict[tuple[str, str], int] = {}
    for case in cases():
        kind = (case.op, case.form)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] == 1 or (case.op == "wirings" and seen[kind] in (4, 9)):
            yield case.graph()


def seeds(spec: str, options: Mapping[str, str]) -> list[bytes]:
    """Return programs of a device, one for each kind of operation that it runs."""
    device, _ = open_device(spec, options)
    found: list[bytes] = []
    for graph in _graphs():
        with suppress(TeflonError):
            artefact = compile_plan(plan_model(graph, device), Cache(None))
            own = [
                program for part, program in zip(artefact.plan.partitions, artefact.programs,
                                                 strict=True) if part.device == 0
            ]  # fmt: skip
            found += [d for p in own[:1] if len(d := p.to_bytes()) <= _SEED_BYTES]
    return found


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
        own = isinstance(fault.__cause__, TeflonError | None)
        return "faulted" if own or "itself" not in str(fault) else "faulted inside"
    except TeflonError:
        return "stopped"


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


# What is damaged, by driver ------------------------------------------------------------------


def _commands(random: Random, it: Container) -> str:
    """Change a command of a register list: its register's value, or the whole word."""
    words = it.section(pick(random, it.buffers("regcmd")), "<u8")
    at = int(random.integers(len(words)))
    word = int(words[at])
    value = word >> 16 & 0xFFFFFFFF
    found = REGISTERS.find((word >> 48) - WRITE, word & 0xFFFF)
    way = random.random()
    if way < 0.35:
        value ^= 1 << int(random.integers(32))
    elif way < 0.6 and found is not None and found.fields:
        field = pick(random, found.fields)
        value = value & ~field.mask | _bits(random, field.width) << field.lo
    elif way < 0.8:
        value = number(random, value) & 0xFFFFFFFF
    elif way < 0.9:
        value = int(words[random.integers(len(words))]) >> 16 & 0xFFFFFFFF
    else:
        word = int(random.integers(1 << 63)) if way < 0.93 else word ^ 1 << int(random.integers(64))
        value = word >> 16 & 0xFFFFFFFF
    words[at] = word & 0xFFFF_0000_0000_FFFF | value << 16
    return "regcmd"


def _bits(random: Random, width: int) -> int:
    return pick(random, [0, 1, (1 << width) - 1, int(random.integers(1 << width))]) & (
        (1 << width) - 1
    )


ROCKET: Mapping[str, Damage] = {
    **change_rows("relocs", ("buffer", "offset", "target", "addend")),
    **change_rows("tasks", ("buffer", "offset", "count")),
    **{f"regcmd {n}": lambda random, it: _commands(random, it) and None for n in range(8)},
    **change_bytes(lambda it: [n for n in it.header["sections"] if "buffer" in n], "content"),
}


def _instruction(kind: type[NNInstruction | TPInstruction], role: str, name: str) -> Damage:
    """Return what changes a field of an instruction."""
    (field,) = (f for f in kind.fields if f.name == name)

    def damage(random: Random, it: Container) -> None:
        names = it.buffers(role)
        if not names:
            return
        words = it.section(pick(random, names), "<u4")
        starts = range(0, max(len(words) - kind.words + 1, 1), 16)
        at = pick(random, starts) + field.word
        if at < len(words):
            word = int(words[at])
            bits = pick(random, [_bits(random, field.width), word >> field.lo ^ 1])
            words[at] = (word & ~field.mask | bits << field.lo) & 0xFFFFFFFF

    return damage


def _stream(random: Random, it: Container) -> None:
    words = it.section("stream", "<u4")
    if len(words):
        at = int(random.integers(len(words)))
        old = int(words[at])
        new = old ^ 1 << int(random.integers(32)) if random.random() < 0.5 else number(random, old)
        words[at] = new & 0xFFFFFFFF


ETNAVIV: Mapping[str, Damage] = {
    **change_rows("relocs", ("buffer", "offset", "kind", "target", "addend")),
    **{f"stream {n}": _stream for n in range(4)},
    **{f"nn.{f.name}": _instruction(NNInstruction, "nn_config", f.name)
       for f in NNInstruction.fields},
    **{f"tp.{f.name}": _instruction(TPInstruction, "tp_config", f.name)
       for f in TPInstruction.fields},
    **change_bytes(lambda it: [n for n in it.header["sections"] if "buffer" in n], "content"),
}  # fmt: skip


def _graph_text(random: Random, it: Container) -> None:
    """Change a word, a number or a line of a graph's text."""
    at, dtype, shape = it.header["sections"]["text"]
    text = bytes(it.body[at : at + shape[0]])
    lines = text.split(b"\n")
    row = int(random.integers(len(lines)))
    way = random.random()
    if way < 0.1:
        lines[row : row + 1] = pick(random, [[], [lines[row]] * 2, lines[row : row + 1] * 50])
    elif way < 0.9:
        words = lines[row].split(b" ")
        word = int(random.integers(len(words)))
        words[word] = _word(random, words[word])
        lines[row] = b" ".join(words)
    else:
        lines[row] = lines[row][: int(random.integers(len(lines[row]) + 1))]
    new = b"\n".join(lines)
    it.body[at : at + shape[0]] = new
    it.header["sections"]["text"] = [at, dtype, [len(new)]]


def _word(random: Random, word: bytes) -> bytes:
    digits = [n for n, byte in enumerate(word) if byte in b"0123456789"]
    if digits and random.random() < 0.8:
        at = pick(random, digits)
        return word[:at] + str(pick(random, INTEGERS)).encode() + word[at + 1 :]
    return pick(random, [b"nan", b"inf", b"1e999", b"u8", b"f32[1,2]", b"\xff", b"(", b"", b"%0"])


CPU: Mapping[str, Damage] = {f"text {n}": _graph_text for n in range(8)}

HOSTED: Mapping[str, Damage] = {}
"""The model itself is not damaged: the runtime that reads it is not ours."""


def _mutate(own: Mapping[str, Damage], random: Random, corpus: Sequence[bytes]) -> Mutant:
    return mutate(random, pick(random, corpus), own)


def _kind(name: str, spec: str, own: Mapping[str, Damage], **options: str) -> Kind:
    records = own is ROCKET or own is ETNAVIV
    return Kind(
        name,
        partial(seeds, spec, options),
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
    )
}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
