"""Recordings of etnaviv: our own runs and Mesa's, shown, replayed, damaged."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import plugins
from teflon.compile.source import read_graph
from teflon.errors import OptionError, RecordingError
from teflon.ir import interpreter
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon.pipe import Recorder
from teflon.samples import models
from teflon_common import recording
from teflon_common.recording import Recording
from teflon_common.recording_tensors import seeded_inputs
from teflon_etnaviv import chips, replay, uapi
from teflon_etnaviv.dialect import EtnavivDialect
from tests.etnaviv.parity import CHIPS
from tests.kernel.helpers import Door, needs_shim
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, needs_shared
from tests.recorded import model_bytes, other_loader

DIALECT = EtnavivDialect()


def recorder() -> Recorder:
    return plugins.discover().recorders["etnaviv"]


def digits() -> Graph:
    return read_graph(models.resolve("digits_int8"))


def recorded(
    path: Path, chip: str, runs: int = 1, **options: Any
) -> tuple[list[Array], list[Array]]:
    """Record the digits classifier; return its inputs and outputs."""
    rng = np.random.default_rng(3)
    shape = digits().inputs[0].shape
    inputs: list[Array] = [rng.integers(-128, 128, shape).astype(np.int8) for _ in range(runs)]
    model, device = models.resolve("digits_int8"), f"sim:{chip}"
    with teflon.load(model, device=device, record=str(path), **options) as npu:
        return inputs, [next(iter(npu(x).values())) for x in inputs]


def softmax(logits: Array) -> Array:
    """The classifier's last operation, which runs on the CPU."""
    graph = digits()
    value = next(v for op in graph.ops for v in op.results if v.name == "logits")
    return interpreter.run(graph.subgraph([o for o in graph.ops if value in o.operands]), [logits])[
        0
    ]


@pytest.mark.parametrize(
    ("chip", "options"),
    [
        ("a311d", {}),
        ("imx8mp", {}),
        ("imx8mp", {"strategy": "mesa"}),
        ("s905d3", {"s905d3-huffman": "on"}),
    ],
)
def test_own_runs_replay_to_equal_outputs(
    tmp_path: Path, chip: str, options: dict[str, str]
) -> None:
    path = tmp_path / "run.npz"
    (first, second), outputs = recorded(path, chip, 2, **options)
    assert not np.array_equal(outputs[0], outputs[1])
    have = recorder().replay(str(path), {})
    whole = options.get("strategy") != "mesa"  # Mesa's driver leaves the mean to the CPU
    key = "logits" if whole else "expand"
    assert sorted(have) == (["logits"] if whole else ["expand", "logits"])
    assert np.array_equal(softmax(have["logits"]), outputs[1])
    rec = recording.read(path)
    assert rec.meta["device"] == chip
    name = next(p["name"] for p in rec.meta["ports"] if p["kind"] == "input")
    changed = recorder().replay(str(path), {name: first})[key]
    assert not np.array_equal(changed, have[key])
    same = recorder().replay(str(path), {name: second})[key]
    assert np.array_equal(same, have[key])
    with pytest.raises(RecordingError, match=r"input 'x' is not one of this recording, must be"):
        recorder().replay(str(path), {"x": first})
    with pytest.raises(RecordingError, match=r"is int8\[3\], must be int8\["):
        recorder().replay(str(path), {name: np.zeros(3, np.int8)})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^option record: .*x.npz: its folder must exist, does"):
        recorded(tmp_path / "none" / "x.npz", "a311d")


@needs_shared
@pytest.mark.parametrize("chip", ["a311d", "imx8mp"])
def test_own_runs_mean_the_same_to_another_loader(tmp_path: Path, chip: str) -> None:
    path = tmp_path / "run.npz"
    recorded(path, chip)
    ours, theirs = recording.read(path), other_loader().load(path)
    launches = theirs.jobs()
    assert [job["kind"] for job in launches] == ["NN"] * 8
    for job in launches:
        assert None not in job["refs"].values()
    for entry in ours.submits:
        number = entry["submit"]
        assert ours.normalised_stream(number) == theirs.normalised_stream(number)
    for bo in ours.meta["bos"]:
        assert ours.normalised(bo["handle"]) == theirs.normalised(bo["handle"])


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_pointers_are_the_recorded_relocations(chip: str) -> None:
    """What we know of commands finds every word that differed between two runs of Mesa."""
    assert GOLDEN is not None
    found = 0
    for path in sorted((GOLDEN / chip).glob("*.npz"))[::10]:
        rec = recording.read(path)
        ours = [row for entry in rec.submits for row in relocations(rec, entry["submit"])]
        assert sorted(ours) == sorted(map(tuple, rec.meta["relocs"])), path
        found += len(ours)
    assert found > 200


def relocations(rec: Recording, submit: int) -> list[tuple[str, int, str, int, int]]:
    found = []
    stream = np.frombuffer(rec.stream(submit), np.uint8)
    todo = [(f"stream_{submit}", 0, stream, "stream")]
    for place, start, commands, role in todo:
        for pointer in DIALECT.pointers(commands, role):
            target = rec.find(pointer.address)
            assert target is not None
            handle, offset = target
            at = start + pointer.offset
            found.append((place, at, pointer.kind, handle, offset + pointer.low))
            if size := DIALECT.nested(pointer.role):
                data = np.frombuffer(rec.commands(submit, pointer.address, size), np.uint8)
                todo.append((f"bo_{handle}_{submit}", offset, data, pointer.role))
    return found


@needs_shared
@needs_oracle
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", ["conv2d", "mb-004", "add_i8_c32_u8_q1"])
def test_recordings_of_mesa_give_named_outputs(chip: str, name: str) -> None:
    assert GOLDEN is not None
    path = GOLDEN / chip / f"{name}.npz"
    rec = recording.read(path)
    have = recorder().replay(str(path), {})
    assert list(have) == [tensor["name"] for tensor in rec.meta["outputs"]]
    inputs = seeded_inputs(rec)
    want = Oracle(model_bytes(name)).run(list(inputs.values()))[0]
    ((key, got),) = have.items()
    assert int(np.abs(got.astype(int) - want.astype(int)).max()) <= 1
    again = recorder().replay(str(path), inputs)
    assert np.array_equal(again[key], got)


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_outputs_that_nobody_names_come_out_as_bytes(tmp_path: Path, chip: str) -> None:
    assert GOLDEN is not None
    path = GOLDEN / chip / "mb-004.npz"
    rec = recording.read(path)
    rec.meta["outputs"] = []
    rec.save(tmp_path / "x.npz")
    ((name, content),) = recorder().replay(str(tmp_path / "x.npz"), {}).items()
    handle = next(h for h, use, _ in rec.submits[1]["bos"] if use == 2)
    assert name == f"bo_{handle}_1"
    (named,) = recorder().replay(str(path), {}).values()
    assert content[: named.size].tobytes() == named.tobytes()


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_showing(chip: str) -> None:
    assert GOLDEN is not None
    path = str(GOLDEN / chip / "mb-004.npz")
    lines = recorder().show(path).splitlines()
    assert lines[0] == f"mb-004 on {chip}, by Mesa 26.2.6-1: ok"
    assert "submit 0: 56 bytes of commands, 0 NN and 0 TP jobs, 0 buffers" in lines
    whole = recorder().show(path, whole=True)
    assert re.search(r"^      NNInstruction .*kernel_xy_size=", whole, re.M)
    assert re.search(r"^        coefficients: bo \d+ \(coefficients\)$", whole, re.M)
    assert re.search(r"#10a0 .* -> bo \d+ \(nn_config\)$", whole, re.M)
    assert "GEM_SUBMIT submit=1" in whole


def test_damaged_recordings(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    recorded(path, "a311d")
    rec = recording.read(path)
    without = {k: v for k, v in rec.arrays.items() if k != "stream_1"}
    first = rec.submits[1]["bos"][0][0]  # holds the first instruction
    for meta, arrays, message in (
        ({}, without, r"has no stream_1, must have one$"),
        ({"driver": "rocket"}, rec.arrays, r"driver is 'rocket', must be 'etnaviv'$"),
        ({"device": "a311e"}, rec.arrays, r"the etnaviv driver does not know it, must be one of"),
        ({"device": "etnaviv"}, rec.arrays, r"chip 'etnaviv': the etnaviv driver does not know"),
        ({"options": {"strategy": "x"}}, rec.arrays, r"strategy is 'x', must be one of"),
        ({"options": 5}, rec.arrays, r"options is 5, must be an object, each text"),
        ({"ports": [{}]}, rec.arrays, r"ports\[0\] has no handle, name, kind, port, must have"),
        ({"log": []}, rec.arrays, r"nothing was submitted, must have a GEM_SUBMIT"),
        ({"log": [e for e in rec.log if e["ioctl"] != "GEM_NEW"]}, rec.arrays,
         rf"GEM_SUBMIT, does not fit the rest \(KeyError: {first}\)$"),
        ({"log": [{**e, "bos": 3} if "bos" in e else e for e in rec.log]}, rec.arrays,
         r"log\[\d+\].bos is 3, must be a list"),
    ):  # fmt: skip
        Recording({**rec.meta, **meta}, arrays).save(tmp_path / "bad.npz")
        with pytest.raises(RecordingError, match=message):
            recorder().replay(str(tmp_path / "bad.npz"), {})
    Recording(rec.meta, without).save(tmp_path / "bad.npz")
    with pytest.raises(RecordingError, match=r"has no stream_1, must have one$"):
        recorder().show(str(tmp_path / "bad.npz"))
    gone = {k: v for k, v in rec.arrays.items() if k != f"bo_{first}_1"}
    Recording(rec.meta, gone).save(tmp_path / "bad.npz")
    with pytest.raises(
        RecordingError, match=r"of commands at 0x.*must have them in a buffer of the recording"
    ):
        recorder().show(str(tmp_path / "bad.npz"), whole=True)
    (tmp_path / "bad.npz").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"is not a recording"):
        recorder().show(str(tmp_path / "bad.npz"))


def test_the_chip_of_an_intercepted_program() -> None:
    identity = chips.chip("imx8mp").identities[0]
    values = (identity.model, identity.revision, identity.product, identity.customer, identity.eco)
    numbers = (uapi.PARAM_MODEL, uapi.PARAM_REVISION, uapi.PARAM_PRODUCT, uapi.PARAM_CUSTOMER,
               uapi.PARAM_ECO)  # fmt: skip
    log = [{"ioctl": "GET_PARAM", "pipe": 1, "param": number, "value": value}
           for number, value in zip(numbers, values, strict=True)]  # fmt: skip
    meta = {**recording.EMPTY, "driver": "etnaviv", "device": "etnaviv", "log": log}
    assert replay.chip_of(Recording(meta)).name == "imx8mp"


NODE = "/dev/dri/renderD128"
INTERCEPT = [
    sys.executable, "-P", "-c", "import sys; from teflon.cli import main; sys.exit(main())",
    "intercept", "-o",
]  # fmt: skip
PROGRAM = """
import numpy as np, sys, teflon
from teflon.samples import models
with teflon.load(models.resolve("digits_int8"), "/dev/dri/renderD128", record=sys.argv[1]) as npu:
    npu(np.load(sys.argv[2]))
"""


@needs_shim
@pytest.mark.parametrize("chip", ["a311d", "imx8mp"])
def test_an_intercepted_program(tmp_path: Path, chip: str) -> None:
    """Seen from outside it sent what its own recording has; replayed, it writes the same bytes."""
    own, seen, given = tmp_path / "own.npz", tmp_path / "seen.npz", tmp_path / "x.npy"
    shape = digits().inputs[0].shape
    np.save(given, np.random.default_rng(3).integers(-128, 128, shape).astype(np.int8))
    with Door(chip) as door:
        program: list[str | Path] = [sys.executable, "-P", "-c", PROGRAM, own, given]
        done = door.run([*INTERCEPT, seen, "--", *program])
    assert done.returncode == 0, done.stderr
    a, b = recording.read(own), recording.read(seen)
    assert [e | {"seq": 0} for e in a.submits] == [e | {"seq": 0} for e in b.submits]
    assert len(a.submits) == 2
    for number in range(2):
        assert a.normalised_stream(number) == b.normalised_stream(number)
    for bo in a.meta["bos"]:
        if "output" not in bo["roles"]:
            assert a.normalised(bo["handle"]) == b.normalised(bo["handle"])
    have = recorder().replay(str(seen), {})
    assert len(have) == 1
    assert all(np.array_equal(b.arrays[name], array) for name, array in have.items())
