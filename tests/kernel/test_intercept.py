"""The interceptor: preloaded into programs on the kernel door, its recordings are what was sent."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.cli.intercept import library
from teflon.errors import RecordingError
from teflon.ir.types import Array
from teflon.samples import digits, models
from teflon_common import interception, recording
from teflon_rocket.dialect import RocketDialect
from tests.frontend.delegate.test_host import found as number_in
from tests.frontend.delegate.test_host import write_model
from tests.kernel.helpers import NODE, ROCKET, Door, needs_shim
from tests.oracle import needs_oracle
from tests.paths import ROOT

pytestmark = needs_shim

Capture = pytest.CaptureFixture[str]
Words = list[str | Path]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door(ROCKET) as made:
        yield made


def image(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, digits.as_input(digits.held_out_set().images[:1], "int8"))
    return path


TEFLON = [sys.executable, "-P", "-c", "import sys; from teflon.cli import main; sys.exit(main())"]


def intercepted(door: Door, target: Path, program: Words) -> subprocess.CompletedProcess[str]:
    """Run a program under `teflon intercept`, on the nodes of the door."""
    return door.run([*TEFLON, "intercept", "-o", target, "--", *program])


def content(found: recording.Recording) -> list[tuple[object, ...]]:
    """Return every request, and what every command list, weight and bias buffer held."""
    rows: list[tuple[object, ...]] = []
    for entry in found.log:
        if entry["ioctl"] in ("START", "MARK", "VERSION", "PREP_BO", "FINI_BO"):
            continue
        rows.append((entry["ioctl"], {k: v for k, v in entry.items() if k != "seq"}))
    for bo in found.meta["bos"]:
        if "output" not in bo["roles"]:
            submits = range(len(found.submits))
            rows.append((bo["handle"], *(found.normalised(bo["handle"], n) for n in submits)))
    return rows


def test_a_program_is_recorded_as_it_records_itself(door: Door, tmp_path: Path) -> None:
    """Both records of one run agree: the driver's own, and what was seen from outside."""
    own, seen = tmp_path / "own.npz", tmp_path / "seen.npz"
    words: Words = [
        "record",
        "digits_int8",
        "--device",
        NODE,
        "--input",
        image(tmp_path),
        "-o",
        own,
    ]
    done = intercepted(door, seen, [*TEFLON, *words])
    assert done.returncode == 0, done.stderr
    assert f"{seen}: " in done.stdout
    a, b = recording.read(own), recording.read(seen)
    assert a.submits
    assert content(a) == content(b)
    assert {tuple(r[:4]) for r in a.meta["relocs"]} <= {tuple(r[:4]) for r in b.meta["relocs"]}
    assert door.left() == []


def test_replayed_it_computes_what_the_device_did(
    door: Door, tmp_path: Path, capsys: Capture
) -> None:
    seen, outputs = tmp_path / "seen.npz", tmp_path / "y.npz"
    words: Words = ["run", "digits_int8", "--input", image(tmp_path), "-o", outputs]
    done = intercepted(door, seen, [*TEFLON, *words])
    assert done.returncode == 0, done.stderr
    assert main(["replay", str(seen), "-o", str(tmp_path / "again.npz")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all(line.endswith(", as recorded") for line in printed)
    kept, again = recording.read(seen).arrays, dict(np.load(tmp_path / "again.npz"))
    assert again
    assert all((kept[name] == array).all() for name, array in again.items())
    logits = last_output(door, tmp_path)
    assert any(logits.tobytes() in array.tobytes() for array in again.values())
    assert main(["replay", str(seen), "--text"]) == 0
    assert "CNA.CONV_CON1" in capsys.readouterr().out
    assert main(["dump", str(seen)]) == 0
    assert "CNA.CONV_CON1" in capsys.readouterr().out


def last_output(door: Door, folder: Path) -> Array:
    """Return what the NPU computes last for the image: the logits, less Mesa's bias of storage."""
    own = folder / "direct.npz"
    words = ["record", "digits_int8", "--device", "sim:rk3588", "--input", str(folder / "x.npy")]
    assert main([*words, "-o", str(own)]) == 0
    assert main(["replay", str(own), "-o", str(folder / "direct-out.npz")]) == 0
    found: Array = np.load(folder / "direct-out.npz")["logits"]
    return found


def test_the_kernel_refuses_a_bad_address(door: Door, tmp_path: Path) -> None:
    """As without the interceptor: also where there is nothing to write down."""
    code = f"""
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("{NODE}", os.O_RDWR)
for number in range(0x40, 0x44):
    request = ctypes.c_ulong(0xC0186400 | number)
    print(number, libc.ioctl(fd, request, ctypes.c_void_p(8)), errno.errorcode[ctypes.get_errno()])
"""
    program: Words = [sys.executable, "-P", "-c", code]
    alone, seen = door.run(program), intercepted(door, tmp_path / "seen.npz", program)
    assert alone.stdout.count("-1 EFAULT") == 4, alone.stderr
    assert alone.stdout in seen.stdout, seen.stderr


def test_processes_and_nodes_have_recordings_of_their_own(door: Door, tmp_path: Path) -> None:
    """One file open inside another's time, and a forked child."""
    code = f"""
import os, subprocess, sys
import numpy as np, teflon
from teflon.samples import models
def infer(model):
    model(np.zeros(model.inputs[0].shape, model.inputs[0].dtype))
def run():
    with teflon.load(models.resolve("digits_int8"), "{NODE}") as model:
        infer(model)
with teflon.load(models.resolve("digits_int8"), "{NODE}") as model:
    run()
    infer(model)
if (child := os.fork()) == 0:
    run()
    os._exit(0)
os.waitpid(child, 0)
"""
    done = intercepted(door, tmp_path / "r.npz", [sys.executable, "-P", "-c", code])
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["r-2.npz", "r-3.npz", "r.npz"]
    first, *others = [recording.read(tmp_path / name) for name in names]
    assert all(content(first) == content(other) for other in others)
    assert door.left() == []


def test_the_exit_code_is_the_programs(door: Door, tmp_path: Path) -> None:
    words: Words = ["run", "digits_int8", "--input", image(tmp_path), "-o", tmp_path / "y.npz"]
    code = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True); sys.exit(7)"
    done = intercepted(
        door, tmp_path / "r.npz", [sys.executable, "-P", "-c", code, *TEFLON, *words]
    )
    assert done.returncode == 7
    assert (tmp_path / "r.npz").exists()


def test_programs_that_use_no_node(tmp_path: Path, capsys: Capture) -> None:
    target = str(tmp_path / "r.npz")
    assert main(["intercept", "-o", target, "--", "true"]) == 1
    assert "true: opened no device node" in capsys.readouterr().err
    assert main(["intercept", "-o", target, "--", "/none/such"]) == 1
    assert "/none/such: cannot be run, No such file" in capsys.readouterr().err
    assert main(["intercept", "-o", target]) == 1
    assert "needs -o FILE.npz and, after --, a program" in capsys.readouterr().err
    assert main(["intercept", "-o", str(tmp_path / "r.txt"), "--", "true"]) == 1
    assert "must end in .npz" in capsys.readouterr().err
    assert main(["intercept", "--library"]) == 0
    assert capsys.readouterr().out.strip().endswith("libteflon-intercept.so")


def test_a_trace_without_python(door: Door, tmp_path: Path, capsys: Capture) -> None:
    """On the board only LD_PRELOAD; the recording is made elsewhere."""
    words: Words = ["run", "digits_int8", "--input", image(tmp_path), "-o", tmp_path / "y.npz"]
    with library() as path:
        done = door.run([*TEFLON, *words], path, TEFLON_INTERCEPT=str(tmp_path / "t"))
    assert done.returncode == 0, done.stderr
    (trace,) = tmp_path.glob("t.*.trace")
    target = tmp_path / "r.npz"
    assert main(["record", "--from-trace", str(trace), "-o", str(target)]) == 0
    assert main(["replay", str(target), "--show"]) == 0
    assert "by teflon intercept: ok" in capsys.readouterr().out
    assert main(["record", "-o", str(target)]) == 1
    assert "needs either a MODEL or --from-trace" in capsys.readouterr().err
    damaged(trace, tmp_path / "damaged.trace")


def damaged(good: Path, path: Path) -> None:
    """Cut anywhere, a trace says as much as it has; with other bytes it is refused, never more."""

    def read(data: bytes) -> int:
        path.write_bytes(data)
        return len(interception.recordings(path, lambda driver: RocketDialect()))

    data = good.read_bytes()
    with pytest.raises(
        RecordingError, match=r"is not a trace, must be written by `teflon intercept`"
    ):
        read(data[:8])
    with pytest.raises(RecordingError, match=r"has format 9, must be 1"):
        read(data[:8] + struct.pack("<I", 9) + data[12:])
    assert read(data[:40]) == 0
    assert read(data[:-1]) == 1
    random = np.random.default_rng(5)
    for _ in range(20):
        place = int(random.integers(16, 3000))
        bad = data[:place] + bytes(random.integers(0, 256, 4, np.uint8)) + data[place + 4 :]
        with contextlib.suppress(RecordingError):
            assert read(bad) <= 2


DELEGATE = """
import sys
import numpy as np, teflon
from ai_edge_litert.interpreter import Interpreter, load_delegate
model, given = sys.argv[1:]
delegate = load_delegate(teflon.delegate_path(), {"device": "auto"})
made = Interpreter(model, num_threads=1, experimental_delegates=[delegate])
made.allocate_tensors()
made.set_tensor(made.get_input_details()[0]["index"], np.load(given))
made.invoke()
"""


@needs_oracle
def test_the_delegate_sends_what_the_direct_call_sends(door: Door, tmp_path: Path) -> None:
    """TFLite with libteflon.so, seen from outside, beside the Python call's own recording."""
    own, seen = tmp_path / "own.npz", tmp_path / "seen.npz"
    path = models.resolve("digits_int8")
    given = image(tmp_path)
    program: Words = [sys.executable, "-P", "-c", DELEGATE, path, given]
    done = intercepted(door, seen, program)
    assert done.returncode == 0, done.stderr
    words = ["record", str(path), "--device", "sim:rk3588", "--input", str(given), "-o", str(own)]
    assert main(words) == 0
    a, b = recording.read(own), recording.read(seen)
    assert [lists(a, entry) for entry in a.submits] == [lists(b, entry) for entry in b.submits]
    assert main(["replay", str(seen)]) == 0


def lists(found: recording.Recording, entry: dict[str, Any]) -> list[bytes]:
    """Return the command lists of a submit, addresses taken out."""
    dialect = RocketDialect()
    return [
        words_without_addresses(found.commands(entry["submit"], address, size), dialect)
        for address, size in dialect.commands(entry)
    ]


def words_without_addresses(commands: bytes, dialect: RocketDialect) -> bytes:
    bare = bytearray(commands)
    for pointer in dialect.pointers(np.frombuffer(commands, np.uint8)):
        bare[pointer.offset + 2 : pointer.offset + 6] = bytes(4)
    return bytes(bare)


@needs_oracle
def test_a_program_without_python(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The C host of the delegate's tests on a node: right numbers, and what it sends is seen."""
    host, own, seen = tmp_path / "host", tmp_path / "own.npz", tmp_path / "seen.npz"
    command = [
        "cc",
        "-std=c11",
        "-O1",
        "-o",
        str(host),
        str(ROOT / "tests/frontend/delegate/host.c"),
    ]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    path = models.resolve("digits_int8")
    model = write_model(path.read_bytes(), tmp_path / "model", monkeypatch)
    done = intercepted(door, seen, [host, teflon.delegate_path(), model, NODE, "2"])
    assert done.returncode == 0, done.stderr
    assert number_in(done.stdout, "largest difference") <= 2
    assert door.left() == []
    given = str(image(tmp_path))
    words = ["record", str(path), "--device", "sim:rk3588", "--input", given, "-o", str(own)]
    assert main(words) == 0
    direct = recording.read(own)
    want = [lists(direct, entry) for entry in direct.submits]
    every = [recording.read(found) for found in sorted(tmp_path.glob("seen*.npz"))]
    assert every
    for found in every:  # one per life of the delegate; each runs whole inferences
        sent = [lists(found, entry) for entry in found.submits]
        assert sent == want * (len(sent) // len(want))
    capsys.readouterr()
    assert main(["replay", str(seen)]) == 0
    assert all(line.endswith(", as recorded") for line in capsys.readouterr().out.splitlines())
