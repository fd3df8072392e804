"""Programs that share buffers and fences on a board; one that is killed while its job hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from teflon.board.board import source
from tests.kernel.helpers import Door, needs_shim

CLIENT = Path(__file__).with_name("files_client.py")
BOARD = "rk3588,a311d"
pytestmark = needs_shim

needs_files = pytest.mark.skipif(
    source().read_text().count("OP_FILE") < 2,
    reason="the shim does not pass on requests of files that are no nodes",
)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door(BOARD) as made:
        yield made


def start(door: Door, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CLIENT), what],
        env=os.environ | door.variables,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(door: Door, what: str) -> dict[str, Any]:
    program = start(door, what)
    out, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def idle(door: Door) -> bool:
    return all(not node["files"] and not node["handles"] for node in door.obey("status").values())


def descriptors(door: Door) -> int:
    return len(os.listdir(f"/proc/{door._server.pid}/fd"))


def test_buffers_between_files_nodes_and_processes(door: Door) -> None:
    until(lambda: idle(door))
    assert answer(door, "share") == {
        "memory": [42, 101],
        "size": 4096,
        "handles": [1, 1, 1, 1],
        "foreign": "EINVAL",
        "no dma_buf": "EINVAL",
        "closed": "EBADF",
        "unknown": "ENOENT",
        "client": True,
    }
    until(lambda: idle(door))


@needs_files
def test_fences_of_buffers(door: Door) -> None:
    door.obey("faults", rules=["JOB:1:+0.4"])
    found = answer(door, "fences")
    assert found == {
        "before": [[0, 1], []],
        "waited": True,
        "after": [True, [select.POLLIN]],
        "errors": ["ENOTTY", "EINVAL", "ENOENT"],
    }
    door.obey("faults", rules=[])


def test_a_program_is_killed_while_its_job_hangs(door: Door) -> None:
    answer(door, "share")  # the board has opened what it opens once
    until(lambda: idle(door))
    before = descriptors(door)
    door.obey("faults", rules=["JOB:1:HANG:3"])
    for _ in range(3):
        program = start(door, "hang")
        assert program.stdout is not None
        assert json.loads(program.stdout.readline()) == {"submitted": True}
        assert door.status()["handles"] == 2
        program.send_signal(signal.SIGKILL)
        program.communicate()
        until(lambda: idle(door))
    done = start(door, "hang")  # now no rule hits, and no core is lost
    assert done.communicate(timeout=20)[0].splitlines()[-1] == '{"waited": true}'
    until(lambda: idle(door) and descriptors(door) <= before)
