"""Mesa's recorded programs on the simulator, against TFLite's reference kernels.

Every operation gets the tensors of the reference kernels as its inputs, so that errors do not add
up: each output may differ by one step of rounding. What is known to be wrong stands in
ci/rocket-rk3588-recordings-fails.txt with its cause; a listed operation that comes out right fails
too.
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import RK3588
from teflon_rocket.simulator.machine import Machine, Observation
from teflon_rocket.simulator.policy import LENIENT, Breach
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

Job = dict[str, Any]
_PAGE = 4096


@dataclass(frozen=True)
class Step:
    """One convolution, perhaps with an addition behind it, and the jobs that perform it."""

    conv: dict[str, Any]
    add: dict[str, Any] | None
    jobs: list[Job]


@dataclass(frozen=True)
class Result:
    """What one operation gave: both outputs, and what was tolerated or refused on the way."""

    step: Step
    have: NDArray[Any]
    want: NDArray[Any]
    observations: tuple[Observation, ...]
    fault: str

    @property
    def difference(self) -> NDArray[np.int64]:
        difference: NDArray[np.int64] = np.abs(self.have.astype(np.int64) - self.want)
        return difference

    @property
    def right(self) -> bool:
        """Within one step everywhere, without breaking a rule of the hardware."""
        return not self.fault and not self.observations and int(self.difference.max()) <= 1


class Replay:
    """One recording with its model."""

    def __init__(self, recording: Path, model: Path) -> None:
        with np.load(recording, allow_pickle=False) as arrays:
            self._arrays = dict(arrays)
        self.meta: dict[str, Any] = json.loads(bytes(self._arrays["meta"]).decode())
        content = model.read_bytes()
        self._oracle = Oracle(content, preserve=True)
        self._oracle.run(_inputs(self.meta["inputs"], content))
        self.memory = DeviceMemory()
        self._bos: dict[int, bytearray] = {}
        self._tensor_bos: set[int] = set()

    def tensor(self, index: int) -> NDArray[Any]:
        return self._oracle.tensor(index)

    @property
    def submits(self) -> list[dict[str, Any]]:
        return [e for e in self.meta["log"] if e["ioctl"] == "SUBMIT" and not e["errno"]]

    def run(self) -> Iterator[Result]:
        """Every operation of every submit, tolerating what Mesa is known to break."""
        self._map()
        machine = Machine(RK3588, self.memory, LENIENT)
        partitions = self.meta["teflon_partitions"]
        for submit, partition in zip(self.submits, partitions, strict=False):
            self._fill(submit["submit"])
            for step in _steps(partition, submit["jobs"], self._weights_of):
                yield self._step(machine, step)

    def _map(self) -> None:
        for entry in self.meta["log"]:
            if entry["ioctl"] == "CREATE_BO":
                data = bytearray(-(-entry["size"] // _PAGE) * _PAGE)  # whole pages are mapped
                self._bos[entry["handle"]] = data
                self.memory.map(entry["dma_address"], data, f"bo {entry['handle']}")

    def _fill(self, submit: int) -> None:
        """What each buffer held at a submit: the newest dump up to it."""
        newest: dict[int, int] = {}
        for key in self._arrays:
            if key.startswith("bo_"):
                handle, dumped = (int(n) for n in key.split("_")[1:])
                if dumped <= submit:
                    newest[handle] = max(dumped, newest.get(handle, 0))
        for handle, dumped in newest.items():
            data = self._arrays[f"bo_{handle}_{dumped}"].tobytes()
            memory = np.frombuffer(self._bos[handle], np.uint8)
            memory[: len(data)] = np.frombuffer(data, np.uint8)[: len(memory)]

    def _weights_of(self, job: Job) -> int:
        address, count = job["tasks"][0]
        words: list[int] = self.memory.view(address, 8 * count, "commands").view("<u8").tolist()
        return next(
            w >> 16 & 0xFFFFFFFF for w in words if w >> 48 == 0x201 and w & 0xFFFF == 0x1110
        )

    def _step(self, machine: Machine, step: Step) -> Result:
        machine.observations.clear()
        job = step.jobs[0]
        x = self.tensor(step.conv["inputs"][0])
        last = step.add or step.conv
        want = self.tensor(last["outputs"][0])[0]
        kernels = self.tensor(step.conv["outputs"][0]).shape[3]
        single = x.shape[3] == 1 and (kernels > 1 or step.add is not None)
        self._bos[job["in"][0]][:] = _upload(x[0], single, len(self._bos[job["in"][0]]))
        if step.add is not None:
            operand = self.tensor(step.add["inputs"][1])
            self._bos[job["in"][1]][:] = _upload(operand[0], False, len(self._bos[job["in"][1]]))
        fault = ""
        try:
            for number, one in enumerate(step.jobs):
                for task, (address, count) in enumerate(one["tasks"]):
                    machine.run_task(address, count, 0, f"job {number} task {task}")
        except SimulatorFault as error:
            fault = str(error)
        have = _download(self._bos[job["out"][0]], want.shape, want.dtype)
        return Result(step, have, want, tuple(machine.observations), fault)


def _inputs(details: list[dict[str, Any]], content: bytes) -> list[NDArray[Any]]:
    """The inputs of a recording: uniform over the type's range, seeded by the file's CRC-32."""
    rng = np.random.default_rng(zlib.crc32(content))
    out = []
    for detail in details:
        kind = np.dtype(detail["dtype"])
        if kind.kind in "iu":
            info = np.iinfo(kind)
            out.append(rng.integers(info.min, int(info.max) + 1, detail["shape"], dtype=kind))
        else:
            out.append(rng.uniform(-1, 1, detail["shape"]).astype(kind))
    return out


def _steps(
    partition: list[dict[str, Any]], jobs: list[Job], weights_of: Callable[[Job], int]
) -> Iterator[Step]:
    """Convolutions in order; jobs that share weights belong together."""
    groups: list[list[Job]] = []
    for job in jobs:
        if groups and weights_of(groups[-1][0]) == weights_of(job):
            groups[-1].append(job)
        else:
            groups.append([job])
    convs = [op for op in partition if op["op"] != "ADD"]
    hosts = {op["inputs"][0]: op for op in partition if op["op"] == "ADD"}
    for conv, group in zip(convs, groups, strict=True):
        yield Step(conv, hosts.get(conv["outputs"][0]), group)


def _upload(x: NDArray[Any], single: bool, size: int) -> bytes:
    """Mesa's conversion of an input; signed tensors go the way of unsigned ones."""
    raw = x.view(np.uint8)
    rows, columns, channels = raw.shape
    if single:
        out = np.zeros((rows, max(columns, 16)), np.uint8)
        out[:, :columns] = raw[..., 0]
        return out.tobytes().ljust(size, b"\0")[:size]
    surfaces = -(-channels // 16)
    padded = np.zeros((rows, columns, surfaces * 16), np.uint8)
    padded[..., :channels] = raw ^ 0x80
    moved = padded.reshape(rows, columns, surfaces, 16).transpose(2, 0, 1, 3)
    return moved.tobytes().ljust(size, b"\0")


def _download(data: bytearray, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    rows, columns, channels = shape
    surfaces = -(-channels // 16)
    raw = np.frombuffer(data, np.uint8, surfaces * rows * columns * 16)
    moved = raw.reshape(surfaces, rows, columns, 16).transpose(1, 2, 0, 3)
    return (moved.reshape(rows, columns, -1)[..., :channels] ^ 0x80).view(kind)


FAILS = Path(__file__).parents[1] / "ci" / "rocket-rk3588-recordings-fails.txt"
CASES = sorted((GOLDEN / "rocket").glob("*.npz")) if GOLDEN else []


def _expected() -> dict[str, str]:
    """Operation (recording@number) -> cause."""
    lines = [line.split("#")[0].split() for line in FAILS.read_text().splitlines()]
    return {line[0]: line[1] for line in lines if line}


EXPECTED = _expected()
SEEN: dict[str, str | None] = {}
"""What this run compared, and the cause where it is wrong."""


def _model(name: str) -> Path:
    assert GOLDEN is not None
    assert MODELS is not None
    own = GOLDEN / "models" / f"{name}.tflite"
    return own if own.exists() else MODELS / f"{name}.tflite"


def _unsaturated_is_right(replay: Replay, result: Result) -> bool:
    """Whether only those elements are wrong whose convolution TFLite clamps before the addition."""
    before = replay.tensor(result.step.conv["outputs"][0])[0]
    limits = np.iinfo(before.dtype)
    inside = (before > limits.min) & (before < limits.max)
    return result.step.add is not None and not (result.difference[inside] > 1).any()


def _explains(cause: str, replay: Replay, result: Result) -> bool:
    """Whether what is seen fits the cause that the list gives."""
    conv = result.step.conv
    x, y = replay.tensor(conv["inputs"][0]), replay.tensor(conv["outputs"][0])
    channels = {x.shape[3], y.shape[3]}
    seen = {
        "int8": x.dtype == np.int8,
        "one-to-one": channels == {1},
        "one-channel-add": x.shape[3] == 1,
        "non-square": x.shape[1] != x.shape[2],
        "addition-clamp": _unsaturated_is_right(replay, result),
        "pad-value": {o.deviation.breach for o in result.observations} == {Breach.PAD_BYTES},
    }
    return bool(seen[cause])


@needs_shared
@needs_oracle
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recording(path: Path) -> None:
    replay = Replay(path, _model(path.stem))
    if not replay.submits:
        assert not replay.meta["teflon_partitions"] or not replay.meta["status"]["ok"]
        pytest.skip("Mesa submitted nothing: it took no operation, or crashed before")
    for number, result in enumerate(replay.run()):
        name = f"{path.stem}@{number}"
        cause = EXPECTED.get(name)
        shown = f"{name}: largest difference {result.difference.max()}, {result.fault}"
        assert result.right == (cause is None), f"{shown}, listed cause: {cause}"
        assert cause is None or _explains(cause, replay, result), f"{shown} is not {cause}"
        SEEN[name] = cause


@needs_shared
@needs_oracle
def test_totals(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs last: every line of the list was needed (or only a part of the file was run)."""
    right = sum(cause is None for cause in SEEN.values())
    with capsys.disabled():
        sys.stdout.write(
            f"\nrocket recordings: {right} of {len(SEEN)} operations within one step,"
            f" {len(SEEN) - right} of {len(SEEN) - right} others explained\n"
        )
    recordings = {name.split("@")[0] for name in SEEN}
    assert {name for name in EXPECTED if name.split("@")[0] in recordings} <= set(SEEN)
