"""Several programs at once on one board, child processes, and programs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.samples import digits, models
from tests.kernel.helpers import Door, needs_shim

pytestmark = needs_shim

ROCKET, ETNAVIV = "/dev/accel/accel0", "/dev/dri/renderD128"
MODEL = "digits_int8"


@pytest.fixture(scope="module")
def shared() -> Iterator[Door]:
    with Door("rk3588,a311d") as made:
        yield made


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    """The board of this module; each test leaves it as it found it."""
    shared.obey("faults", rules=[])
    yield shared
    assert shared.left(ROCKET) == []
    assert shared.left(ETNAVIV) == []


def started(door: Door, code: str, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", code, *map(str, words)]
    return subprocess.Popen(
        command, env=door.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


INFER = """
import sys, numpy as np, teflon
model, given, node, count, target = sys.argv[1:]
image = np.load(given)
with teflon.load(model, node) as loaded:
    for _ in range(int(count)):
        (have,) = loaded(image=image).values()
np.save(target, have)
"""


class Digits:
    """A model, an input, and its results on each node."""

    def __init__(self, folder: Path) -> None:
        self.model, self.given = models.resolve(MODEL), folder / "in.npy"
        image = digits.as_input(digits.held_out_set().images[:1], "int8")
        np.save(self.given, image)
        self._folder, self._programs = folder, 0
        self.want = {}
        for node, chip in ((ROCKET, "rk3588"), (ETNAVIV, "a311d")):
            with teflon.load(self.model, f"sim:{chip}") as model:
                (self.want[node],) = model(image=image).values()

    def start(self, door: Door, node: str, count: int) -> tuple[subprocess.Popen[str], Path]:
        self._programs += 1
        target = self._folder / f"{self._programs}.npy"
        words = (self.model, self.given, node, str(count), target)
        return started(door, INFER, *words), target

    def check(self, door: Door, *nodes: str) -> None:
        """Run a program on each node at once; all results must be right."""
        for node, (program, target) in [(n, self.start(door, n, 10)) for n in nodes]:
            program.communicate(timeout=100)
            assert program.returncode == 0
            assert np.array_equal(np.load(target), self.want[node])


def test_three_programs_at_once(door: Door, tmp_path: Path) -> None:
    """Two share a chip, the third has the other one."""
    Digits(tmp_path).check(door, ROCKET, ROCKET, ETNAVIV)


@pytest.mark.parametrize("node", [ROCKET, ETNAVIV])
def test_killed_in_the_middle_of_a_job(door: Door, tmp_path: Path, node: str) -> None:
    """SIGKILL while the chip works: nothing leaks, and the next programs are right."""
    sample = Digits(tmp_path)
    door.obey("faults", rules=["JOB:1:+1"])
    program, target = sample.start(door, node, 1)
    end = time.monotonic() + 60
    while not any("SUBMIT" in name for name, _ in door.log()) and time.monotonic() < end:
        time.sleep(0.01)
    assert door.status(node)["handles"] > 0
    program.kill()
    program.communicate(timeout=20)
    assert program.returncode == -signal.SIGKILL
    assert not target.exists()
    sample.check(door, node, node)


CHILDREN = """
import fcntl, os, sys
from teflon_rocket.uapi import CREATE_BO, CreateBo
def create(node):
    data = bytearray(CreateBo(size=4096).pack())
    fcntl.ioctl(node, CREATE_BO.request, data)
if len(sys.argv) > 2:
    create(int(sys.argv[2]))
    print(os.getpid(), flush=True)
    sys.stdin.read()
    sys.exit()
node = os.open(sys.argv[1], os.O_RDWR)
create(node)
if os.fork():
    os._exit(0)
create(node)
os.set_inheritable(node, True)
code = sys.orig_argv[sys.orig_argv.index("-c") + 1]
os.execv(sys.executable, [sys.executable, "-P", "-c", code, "", str(node)])
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_lives_in_the_last_process_that_has_it(door: Door, killed: bool) -> None:
    """Opened, then in a child whose parent has ended, then in the program that the child became."""
    program = started(door, CHILDREN, ROCKET)
    assert program.stdout
    last = int(program.stdout.readline())
    assert program.wait(20) == 0  # the parent, long ago
    status = door.status(ROCKET)
    assert (status["files"], status["handles"]) == (1, 3)
    if killed:
        os.kill(last, signal.SIGKILL)
    program.communicate("", timeout=20)
