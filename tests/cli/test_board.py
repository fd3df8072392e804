"""The command `teflon board`: exit status, signals, recordings, faults, what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.samples import digits, models
from teflon_common import recording
from tests.kernel.helpers import Door, needs_shim

pytestmark = needs_shim

TEFLON = [sys.executable, "-P", "-m", "teflon"]
Capture = pytest.CaptureFixture[str]


def board(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*TEFLON, "board", *map(str, words)]
    environment = os.environ | variables
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def run_digits(folder: Path, *words: str) -> list[str]:
    """Return a command that classifies a digit on the board's NPU."""
    np.save(folder / "x.npy", digits.as_input(digits.held_out_set().images[:1], "int8"))
    given = ["--input", str(folder / "x.npy"), "-o", str(folder / "y.npz")]
    return [*TEFLON, "run", "digits_int8", "--device", "auto", *given, *words]


def test_the_exit_status_is_the_programs(tmp_path: Path) -> None:
    assert board("rk3588", "--", "sh", "-c", "exit 7").returncode == 7
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        done = board("rk3588", "--", "sh", "-c", f"kill -{number.value} $$")
        assert done.returncode == -number
        assert done.stderr == ""


def test_arguments_are_the_programs() -> None:
    """Also those that look like options of ours, and a second `--`."""
    done = board("rk3588", "--speed", "free", "--", "echo", "--log", "-h", "--", "-x")
    assert done.stdout == "--log -h -- -x\n"


def test_nothing_is_left_behind() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = board(
            "rk3588,a311d", "--", "sh", "-c", "ls -d $TMPDIR/*; ls /dev/dri", TMPDIR=folder
        )
        assert done.stdout.splitlines()[-1] == "renderD128", done
        assert os.listdir(folder) == []


def test_a_killed_board_is_swept_by_the_next_one() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [*TEFLON, "board", "rk3588", "--", "sleep", "100"]
        killed = subprocess.Popen(
            command, env=os.environ | {"TMPDIR": folder}, start_new_session=True
        )
        while not list(Path(folder).glob("*/control")):
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        (left,) = os.listdir(folder)
        other = subprocess.Popen(
            [*TEFLON, "board", "a311d", "--", "sh", "-c", "echo ready; read line"],
            env=os.environ | {"TMPDIR": folder}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        (kept,) = os.listdir(folder)
        assert kept != left
        assert board("rk3588", "--", "true", TMPDIR=folder).returncode == 0
        assert os.listdir(folder) == [kept], "a board that is served is no leftover"
        other.communicate(b"\n")
        assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_to_the_program(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 3' {number.value}; echo ready; while :; do sleep 0.05; done"
    child = subprocess.Popen(
        [*TEFLON, "board", "rk3588", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # also under nohup
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    assert child.communicate(timeout=20)[0] == "got\n"
    assert child.returncode == 3


def test_control_c_reaches_program_and_board_once() -> None:
    """As from a terminal: both get SIGINT, and the board waits for what the program makes of it."""
    script = "trap 'sleep 0.3; echo done; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    child = subprocess.Popen(
        [*TEFLON, "board", "rk3588", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    printed, errors = child.communicate(timeout=20)
    assert (printed, errors, child.returncode) == ("done\n", "", 4)


@pytest.mark.parametrize("chip", ["rk3588", "a311d"])
def test_a_recording_is_what_the_program_records_itself(tmp_path: Path, chip: str) -> None:
    own, seen = tmp_path / "own.npz", tmp_path / "seen.npz"
    command = run_digits(tmp_path, "--option", f"record={own}")
    done = board(chip, "--record", seen, "--", *command)
    assert done.returncode == 0, done.stderr
    assert f"{seen}: /dev/" in done.stderr
    a, b = recording.read(own), recording.read(seen)
    assert [e | {"seq": 0} for e in a.submits] == [e | {"seq": 0} for e in b.submits]
    for bo in a.meta["bos"]:
        if "output" not in bo["roles"]:
            for entry in a.submits:
                number = entry["submit"]
                assert a.normalised(bo["handle"], number) == b.normalised(bo["handle"], number)
    assert main(["replay", str(seen), "-o", str(tmp_path / "again.npz")]) == 0
    again = dict(np.load(tmp_path / "again.npz"))
    results = {name: b.arrays[name] for name in again if name.startswith("after_")}
    assert results
    assert all((again[name] == array).all() for name, array in results.items())


def test_each_open_file_has_a_recording(tmp_path: Path) -> None:
    command = run_digits(tmp_path)
    twice = f"import subprocess as s; [s.run({command!r}, check=True) for _ in range(2)]"
    done = board("rk3588", "--record", tmp_path / "r.npz", "--", sys.executable, "-c", twice)
    assert done.returncode == 0, done.stderr
    first, second = (recording.read(tmp_path / name) for name in ("r.npz", "r-2.npz"))
    assert len(first.submits) == len(second.submits) > 0
    assert not (tmp_path / "r-3.npz").exists()


def test_a_child_that_stays_behind_loses_the_node(tmp_path: Path) -> None:
    """It gets ENODEV; what it sent so far is recorded."""
    code = """
import os, sys, time
import teflon
from teflon.errors import TeflonError
from teflon.samples import models
import numpy as np
if os.fork() == 0:
    with teflon.load(models.resolve("digits_int8"), "auto") as model:
        given = np.zeros(model.inputs[0].shape, model.inputs[0].dtype)
        model(given)
        open(sys.argv[1], "w").close()
        try:
            while True:
                time.sleep(0.05)
                model(given)
        except TeflonError as error:
            print(error, flush=True)
            os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
"""
    target = tmp_path / "r.npz"
    done = board("rk3588", "--record", target, "--", sys.executable, "-c", code, tmp_path / "go")
    assert "ENODEV" in done.stdout, (done.stdout, done.stderr)
    assert "/dev/accel/accel0: is still open, its programs lose it now" in done.stderr
    assert recording.read(target).submits


def test_no_job_no_recording(tmp_path: Path) -> None:
    done = board("rk3588", "--record", tmp_path / "r.npz", "--", *TEFLON, "devices")
    assert "not written, no program submitted a job" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_faults(tmp_path: Path) -> None:
    command = run_digits(tmp_path)
    done = board("rk3588", "--faults", "SUBMIT:1:EIO", "--", *command)
    assert done.returncode == 1
    assert "EIO" in done.stderr
    done = board("rk3588", "--faults", "JOB:1:BREAK,CREATE_BO:1:+0.1", "--", *command)
    assert done.returncode == 1
    assert "was not written by the device" in done.stderr
    assert "teflon board: /dev/accel/accel0: the job stops half way" in done.stderr


def test_the_log(tmp_path: Path) -> None:
    done = board("a311d", "--log", "--", *run_digits(tmp_path))
    lines = [line.split(" ", 3) for line in done.stderr.splitlines()]
    assert {line[1] for line in lines} == {"/dev/dri/renderD128"}
    assert len({line[0] for line in lines}) == 1
    assert any(line[3].startswith("GEM_SUBMIT(fence=1, ") for line in lines)
    assert lines[0][2] == "OPEN"


def test_two_chips_at_once(tmp_path: Path) -> None:
    """A board may have several chips; each is what it is alone."""
    path = models.resolve("digits_int8")
    image = digits.as_input(digits.held_out_set().images[:1], "int8")
    command = run_digits(tmp_path, "--device", "/dev/dri/renderD129")
    done = board("a311d,imx8mp,rk3588", "--", *command)
    assert done.returncode == 0, done.stderr
    with teflon.load(path, "sim:imx8mp") as model:
        want = model(image=image)["probability"]
    assert (np.load(tmp_path / "y.npz")["probability"] == want).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rk3588"], "needs chips, and either -- PROGRAM or --serve FOLDER"),
        (["rk3588", "--serve", "x", "--", "true"], "needs chips, and either"),
        (["--", "true"], "needs chips"),
        (["rk3589", "--", "true"], "'rk3589': no driver has this chip (did you mean rk3588?)"),
        (["nobody:rk3588", "--", "true"], "there is no driver 'nobody'"),
        (["cpu", "--", "true"], "cpu: driver cpu has no kernel for a virtual board"),
        (["etnaviv:vivante", "--", "true"], "the etnaviv driver does not know it"),
        (["rk3588@renderD128", "--", "true"], "is a node /dev/accel/accelN"),
        (["rk3588@x", "--", "true"], "must be CHIP, DRIVER:CHIP or other:NAME"),
        (["rk3588@accel0,other:x@accel0", "--", "true"], "/dev/accel/accel0 twice"),
        (["rk3588,", "--", "true"], "must be CHIP, DRIVER:CHIP or other:NAME"),
        (["rk3588", "--", "/none/such"], "/none/such: cannot be run, No such file"),
        (["rk3588", "--faults", "SUBMIT", "--", "true"], "fault 'SUBMIT': must be NAME:CALL"),
        (["rk3588", "--faults", "SUBMIT:1:EFOO", "--", "true"], "EFOO is no errno"),
        (["rk3588", "--faults", "JOB:1:EIO", "--", "true"], "a job can HANG, BREAK off"),
        (["rk3588", "--record", "r.txt", "--", "true"], "--record r.txt: must end in .npz"),
        (["rk3588", "--record", "/none/r.npz", "--", "true"], "there is no folder /none"),
        (["rk3588", "--option", "strategy=best", "--", "true"], "must be one of exact, mesa"),
        (["rk3588", "--serve", "/none/such"], "/none/such: cannot be used, No such file"),
        (["rk3588", "--serve", "/proc"], "/proc: "),
    ],
)
def test_bad_words(words: list[str], text: str, capsys: Capture) -> None:
    assert main(["board", *words]) == 1
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_the_folder_of_serve_is_taken_once(tmp_path: Path, capsys: Capture) -> None:
    with Door("rk3588") as door:
        assert main(["board", "a311d", "--serve", str(door.root)]) == 1
        assert "another board is served there" in capsys.readouterr().err
    (tmp_path / "mine.txt").touch()
    assert main(["board", "a311d", "--serve", str(tmp_path)]) == 1
    assert "has mine.txt, must be an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_source_of_the_shim(capsys: Capture) -> None:
    assert main(["board", "--shim-source"]) == 0
    first, *recipe = capsys.readouterr().out.splitlines()
    assert Path(first).read_text("utf-8").startswith("/* The shim of a virtual board")
    assert any(re.search(r"aarch64-linux-gnu-gcc .*-shared", line) for line in recipe)
