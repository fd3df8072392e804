"""What TEFLON_DEBUG shows of a context: requests, buffers, jobs one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teflon import debug
from teflon.errors import DeviceTimeout, SimulatorFault
from tests.rocket.board import Board, image, ioctls, program, right


@pytest.fixture
def board() -> Iterator[Board]:
    with Board(strict=True, coherent=False) as made:
        yield made


def test_debug_flags(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for module in ("drm", "fake_drm"):
        monkeypatch.setattr(f"teflon_common.{module}.enabled", lambda flag: flag == "ioctl")
    monkeypatch.setattr("teflon_rocket.context.enabled", lambda flag: flag == "ioctl")
    monkeypatch.setattr("teflon_rocket.bodump.enabled", lambda flag: flag == "bos")
    executable = board.context.load(program())
    board.context.invoke(executable, [image(1)])
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == (
        "rocket CREATE_BO(size=64, handle=1, dma_address=0x10000000, offset=0x100000000) = 0"
    )
    assert "  job in=[2] out=[3] tasks 0x10008000+3" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mesa-input-000-000.bin", "mesa-output-000-000.bin", "mesa-regcmd-000-000.bin",
        "mesa-regcmd-000-001.bin", "mesa-weights-000-000.bin",
    ]  # fmt: skip
    assert (tmp_path / "mesa-weights-000-000.bin").read_bytes()[:4] == bytes([3, 1, 4, 0])


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda names: monkeypatch.setattr(debug, "_on", frozenset(names.split(",")))


def test_sync_submits_jobs_one_by_one(board: Board, flags: Callable[[str], None]) -> None:
    executable = board.context.load(program())
    flags("sync")
    (output,) = board.context.invoke(executable, [image(1)])
    assert right(output, image(1))
    submits = [e for e in board.kernel.log if e["ioctl"] == "SUBMIT"]
    assert [[(job["in"], job["out"]) for job in e["jobs"]] for e in submits] == [
        [([2], [3])], [([3], [4])]
    ]  # fmt: skip
    assert ioctls(board)[-4:] == ["PREP_BO", "SUBMIT", "PREP_BO", "PREP_BO"]


def test_sync_names_the_job_that_hangs(flags: Callable[[str], None]) -> None:
    board = Board(seconds=0.05)
    executable = board.context.load(program())
    flags("sync")
    board.machine.go.clear()
    with pytest.raises(DeviceTimeout, match=r"^job 'first': rocket PREP_BO\(handle=3, "):
        board.context.submit(executable, [image(1)])
    board.machine.go.set()
    (output,) = board.context.invoke(executable, [image(2)])
    assert right(output, image(2))
    board.context.close()


def test_sync_names_the_job_with_a_fault(board: Board, flags: Callable[[str], None]) -> None:
    executable = board.context.load(program())
    flags("sync")
    board.machine.fault = "burnt"
    with pytest.raises(SimulatorFault, match=r"^job 'first': .*burnt"):
        board.context.submit(executable, [image(1)])
    board.machine.fault = ""
    (output,) = board.context.invoke(executable, [image(2)])
    assert right(output, image(2))


def test_ioctl_shows_every_request(
    board: Board, flags: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    flags("ioctl")
    executable = board.context.load(program())
    board.context.invoke(executable, [image(1)])
    shown = re.findall(r"^rocket (\w+)\(", capsys.readouterr().err, re.M)
    assert shown == ioctls(board)
