"""Every request of a rocket program fails in every way: what is told, what stays open, what works
afterwards. The faults happen in the kernel's process, behind a real node (see kernel_door.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon_rocket.device import RocketDevice
from tests.kernel_door import ROCKET, Door, needs_shim
from tests.paths import ROOT

pytestmark = needs_shim

ERRNOS = ("EINTR", "EAGAIN", "ENOMEM", "ENOSPC", "EINVAL", "EACCES", "ENODEV", "EIO", "EFAULT",
          "ETIMEDOUT", "EBUSY")  # fmt: skip
RESTARTED = ("EINTR", "EAGAIN")
LATE = ("ETIMEDOUT", "EBUSY")
NAMES = ("OPEN", "VERSION", "CREATE_BO", "MMAP", "PREP_BO", "FINI_BO", "SUBMIT", "GEM_CLOSE")
LETTERS = {"": ".", "DriverUnavailable": "unavailable", "DeviceError": "error",
           "DeviceTimeout": "timeout"}  # fmt: skip


class Client:
    """The process that the faults happen to: it is told a cell and answers what became of it."""

    def __init__(self, door: Door, folder: Path) -> None:
        program, inputs = folder / "program.bin", folder / "in.npz"
        compiled(program, inputs)
        words = [str(ROOT / "tests/fault_client.py"), str(door.root / "control"), str(program)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *words, str(inputs)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=door.environment(), text=True,
        )  # fmt: skip
        self.clean: list[str] = self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def cell(self, rules: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(rules + "\n")
        self.process.stdin.flush()
        answer = self._line()
        assert answer is not None, f"the program died of {rules}"
        return dict(answer)

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


def compiled(program: Path, inputs: Path) -> None:
    """Write a program of two convolutions, and an input."""
    random = np.random.default_rng(3)
    b = Builder("two")
    y = b.input("x", "u8", (1, 8, 8, 16), 0.02, 128)
    for name in ("first", "second"):
        weights = random.integers(0, 256, (16, 1, 1, 16), np.uint8)
        y = b.conv2d(
            y, weights, weight_scale=0.01, weight_zero_point=128, scale=0.03, zero_point=128,
            name=name,
        )  # fmt: skip
    b.output(y)
    program.write_bytes(RocketDevice("rk3588").compile(b.build()).to_bytes())
    np.savez(inputs, x=random.integers(0, 256, (1, 8, 8, 16), np.uint8))


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door(ROCKET) as made:
        made.facade()
        yield made


@pytest.fixture(scope="module")
def client(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(door, tmp_path_factory.mktemp("client"))
    yield made
    made.close()


def expected(name: str, code: str) -> str:
    """Return the class of error that a request's errno must become, "" where nobody notices."""
    if name == "OPEN":  # Python itself opens again after EINTR
        return "" if code == "EINTR" else "DriverUnavailable"
    if name != "MMAP" and code in RESTARTED:
        return ""
    if name == "VERSION":
        return "DriverUnavailable"
    return "DeviceTimeout" if code in LATE and name != "MMAP" else "DeviceError"


def calls(client: Client, name: str) -> list[int]:
    """Return the first, a middle and the last call of a request in a clean run."""
    count = client.clean.count(name)
    return sorted({1, (count + 1) // 2, count})


def wrong(name: str, code: str, cell: dict[str, Any]) -> list[str]:
    """Return what is wrong with the outcome of a cell."""
    want = expected(name, code)
    found = []
    if cell["error"] != want:
        found.append(f"is {cell['error'] or 'no error'}, must be {want or 'none'}: {cell['text']}")
    if want and code not in cell["text"] and want != "DriverUnavailable":
        found.append(f"does not name {code}: {cell['text']}")
    if cell["left"]:
        found.append(f"leaves {', '.join(cell['left'])}")
    if not cell["works"]:
        found.append("the next inference is wrong or fails")
    return [f"{cell['rules']}: {text}" for text in found]


def outcome(cell: dict[str, Any]) -> str:
    if not cell["error"]:
        return "."
    return f"{cell['stage'].replace('inference ', 'run')} {LETTERS[cell['error']]}"


def as_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def test_every_request_fails_in_every_way(
    client: Client, record_property: Callable[[str, object], None]
) -> None:
    rows, problems, count = [["request", "call", *ERRNOS]], [], 0
    for name in NAMES:
        total = client.clean.count(name)
        assert total, f"a clean run has no {name}"
        for call in calls(client, name):
            cells = [(code, client.cell(f"{name}:{call}:{code}")) for code in ERRNOS]
            rows.append([name, f"{call} of {total}", *(outcome(cell) for _, cell in cells)])
            problems += [text for code, cell in cells for text in wrong(name, code, cell)]
            count += len(cells)
    title = f"summary: kernel faults: {count} cells, {len(problems)} wrong; nothing leaked"
    record_property(title if not problems else title.split(";")[0], as_table(rows))
    assert problems == []


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("code", RESTARTED)
def test_requests_that_are_interrupted_many_times(client: Client, name: str, code: str) -> None:
    if name == "MMAP":
        return  # mmap(2) is never restarted: it is in the matrix
    cell = client.cell(f"{name}:1:{code}:20")
    assert (cell["error"], cell["left"], cell["works"]) == ("", [], True)


@pytest.mark.parametrize("name", NAMES)
def test_requests_that_are_slow(client: Client, name: str) -> None:
    cell = client.cell(f"{name}:1:+0.15")
    assert (cell["error"], cell["left"], cell["works"]) == ("", [], True)
    assert cell["seconds"] >= 0.15


@pytest.mark.parametrize(
    "rules",
    ["SUBMIT:1:EIO:99,GEM_CLOSE:1:EIO:99", "CREATE_BO:3:ENOMEM,GEM_CLOSE:1:EINVAL",
     "MMAP:2:ENOMEM,GEM_CLOSE:1:EIO:2", "PREP_BO:1:EIO:99,FINI_BO:1:EIO:99",
     "FINI_BO:1:ENODEV:99,SUBMIT:1:ENODEV:99,GEM_CLOSE:1:ENODEV:99"],
)  # fmt: skip
def test_several_faults_at_once(client: Client, rules: str) -> None:
    """The first error is told, and what follows from it neither hides it nor leaks."""
    cell = client.cell(rules)
    first = rules.split(",")[0].split(":")
    assert cell["error"] == "DeviceError"
    assert first[0].lower() in cell["text"].lower()
    assert first[2] in cell["text"]
    assert (cell["left"], cell["works"]) == ([], True)


def test_a_job_that_hangs(client: Client, door: Door) -> None:
    """The wait ends by itself; what is closed then is freed when the job has ended."""
    door.obey("slow", seconds=0.6)
    try:
        cell = client.cell("NOTHING:1:EIO")
    finally:
        door.obey("slow", seconds=0)
    assert cell["error"] == "DeviceTimeout"
    assert "PREP_BO" in cell["text"]
    assert cell["seconds"] < 3
    assert client.cell("NOTHING:1:EIO")["works"]


def test_an_oracle_that_can_fail() -> None:
    """The check of a cell sees what it should see."""
    good = {"rules": "", "error": "DeviceError", "text": "x EIO", "left": [], "works": True}
    assert wrong("SUBMIT", "EIO", good) == []
    for change in ({"error": ""}, {"text": "x"}, {"left": ["1 handles"]}, {"works": False}):
        assert len(wrong("SUBMIT", "EIO", {**good, **change})) == 1
