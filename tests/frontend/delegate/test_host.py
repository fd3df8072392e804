"""libteflon.so in a C program without a Python interpreter: `tests/frontend/delegate/host.c`."""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.frontend.delegate.delegate import Delegate
from teflon.frontend.delegate.rows import NodeRow, TensorRow, decode_node, layout
from teflon.samples import models
from tests.frontend.delegate.test_delegate import interpreter, small
from tests.oracle import Oracle, needs_oracle
from tests.paths import ROOT

pytestmark = [
    needs_oracle,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)"),
]

CONSTANT, COMPUTED = 1, 2


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    target = tmp_path_factory.mktemp("host") / "host"
    source = ROOT / "tests/frontend/delegate/host.c"
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-o", str(target)]
    subprocess.run([*command, str(source), "-ldl", "-lpthread"], check=True)
    return target


def write_model(content: bytes, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a model for the host: the tensors and nodes of a runtime, and all results."""
    seen: list[bytes] = []
    oracle = Oracle(content, preserve=True)
    oracle.run(oracle.random_inputs(7))
    results = oracle.tensors()

    def choose(self: Delegate, tensors: Sequence[Any], nodes: Sequence[Any]) -> list[int]:
        rows = [TensorRow(*row) for row in tensors]
        seen.append(_ints(len(rows)))
        seen.extend(_tensor(row, results.get(number)) for number, row in enumerate(rows))
        seen.append(_ints(len(nodes)))
        seen.extend(_node(NodeRow(*row)) for row in nodes)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(Delegate, "choose", choose)
        interpreter(content, teflon.tflite_delegate(device="cpu"), allocate=False)
    path.write_bytes(b"".join(seen))
    return path


def _ints(*numbers: int) -> bytes:
    return struct.pack(f"{len(numbers)}i", *numbers)


def _tensor(row: TensorRow, result: Any) -> bytes:
    data = row.data.tobytes() if row.data is not None else np.asarray(result).tobytes()
    scales, zero_points = row.scales, row.zero_points
    return b"".join(
        [
            _ints(row.type, COMPUTED if row.data is None else CONSTANT),
            _ints(len(row.dims), *row.dims, len(scales)),
            struct.pack(f"{len(scales)}f", *scales),
            _ints(len(zero_points), *zero_points, row.axis, len(data)),
            data,
        ]
    )


def _node(row: NodeRow) -> bytes:
    size = struct.calcsize(layout(decode_node(row).name))
    options = ctypes.string_at(row.builtin_data, size) if row.builtin_data else bytes(size)
    wires = _ints(len(row.inputs), *row.inputs, len(row.outputs), *row.outputs)
    return _ints(row.builtin_code, row.version) + wires + _ints(len(options)) + options


def run(command: Sequence[str | Path], **variables: str) -> str:
    """Run a program without the variables of this environment; return its output."""
    done = subprocess.run(
        [str(word) for word in command],
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NO_HIDDEN_MEMORY = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
"""Each object is an allocation of its own, and a freed one is not kept as allocated."""


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588"])
def test_a_hundred_lives_leave_nothing_behind(
    host: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leak grows in every quarter; a cache that grows once does so in one of them."""
    model = write_model(small(), tmp_path / "model", monkeypatch)
    command: list[str | Path] = [host, teflon.delegate_path(), model, device, "100", "6"]
    text = run(command, **NO_HIDDEN_MEMORY)
    bytes_in_use = [found(text, f"cycle {cycle}") for cycle in (25, 50, 75, 100)]
    growth = min(after - before for before, after in pairwise(bytes_in_use))
    assert growth < 25 * 2048, text  # the weights alone are 4,608 bytes for each life


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_sees_no_invalid_access(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(small(), tmp_path / "model", monkeypatch)
    known = ROOT / "tests/frontend/delegate/valgrind.supp"
    valgrind = ["valgrind", "-q", "--error-exitcode=9", "--undef-value-errors=no"]
    command: list[str | Path] = [
        *valgrind,
        f"--suppressions={known}",
        host,
        teflon.delegate_path(),
        model,
        "cpu",
    ]
    text = run([*command, "100", "6"], PYTHONMALLOC="malloc")
    assert found(text, "largest difference") == 0


def found(text: str, name: str) -> int:
    match = re.search(rf"^{name}: (\d+)", text, re.M)
    assert match, text
    return int(match[1])


@pytest.mark.parametrize("name", ["digits_int8", "digits_uint8"])
def test_numbers_without_python(
    host: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = models.resolve(name).read_bytes()
    model = write_model(content, tmp_path / "model", monkeypatch)
    text = run([host, teflon.delegate_path(), model, "cpu", "2"])
    assert found(text, "partitions") == 1
    assert found(text, "largest difference") == 0
    assert "option 'nonsense'" in text
    assert "options of the delegate itself: device" in text
    text = run([host, teflon.delegate_path(), model, "sim:rk3588", "2"])
    assert found(text, "largest difference") <= 2


def test_resize_without_python(host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(small(), tmp_path / "model", monkeypatch)
    text = run([host, teflon.delegate_path(), model, "cpu", "2", "13"])
    assert found(text, "largest difference") == 0
