"""The driver as frontends see it: from a spec to results, recordings of our own runs."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.errors import DriverUnavailable, OptionError, RecordingError, SimulatorFault
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.interpreter import run
from teflon.ir.types import Array
from teflon.pipe import Driver, Node, Recorder
from teflon.plugins import discover
from teflon_common import recording
from teflon_rocket.dialect import RocketDialect
from tests.paths import GOLDEN, MODELS, needs_shared


@pytest.fixture
def driver() -> Driver:
    return discover().drivers["rocket"]


@pytest.fixture
def recorder() -> Recorder:
    return discover().recorders["rocket"]


def graph() -> Graph:
    """Return two convolutions, the first with ReLU and stride 2."""
    random = np.random.default_rng(1)
    b = Builder("two")
    x = b.input("x", "u8", (1, 12, 12, 20), scale=0.02, zero_point=120)
    y = x
    for name, shape, stride in (("first", (24, 3, 3, 20), 2), ("second", (7, 1, 1, 24), 1)):
        weights = b.constant(random.integers(0, 256, shape, np.uint8), 0.01, 127, name=f"{name}/w")
        bias = b.constant(random.integers(-500, 500, shape[0], np.int32), 0.0002, name=f"{name}/b")
        y = b.conv2d(
            y, weights, bias, stride=(stride, stride), padding="same", scale=0.05, zero_point=0,
            name=name,
        )  # fmt: skip
    b.output(y)
    return b.build()


def source(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (1, 12, 12, 20), np.uint8)


def close_to(ours: Array, theirs: Array) -> bool:
    """Whether outputs of two layers are near enough: each layer may be one step off, and a step of
    the first one is up to 1.28 steps of the second.
    """
    return bool(np.abs(ours.astype(int) - theirs.astype(int)).max() <= 3)


def test_importing_the_driver_is_cheap() -> None:
    """Describing the driver imports neither the compiler nor the simulator."""
    code = (
        "import sys; from teflon_rocket import teflon_driver; teflon_driver();"
        "print([m for m in sys.modules if m.startswith('teflon_rocket.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compile_and_simulate(driver: Driver) -> None:
    small = graph()
    with driver.simulate("rk3588") as context:
        executable = context.load(context.device.compile(small))
        for seed in range(3):
            (ours,) = context.invoke(executable, [source(seed)])
            assert close_to(ours, run(small, [source(seed)])[0])


def test_a_run_is_recorded_and_replayed(driver: Driver, recorder: Recorder, tmp_path: Path) -> None:
    small, path = graph(), tmp_path / "run.npz"
    with driver.simulate("rk3588", {"record": str(path)}) as context:
        executable = context.load(context.device.compile(small))
        outputs = [context.invoke(executable, [source(seed)])[0] for seed in range(2)]
    rec = recording.read(path)
    assert [bo["roles"] for bo in rec.meta["bos"] if "weights" in bo["roles"]] == [["weights"]]
    assert [entry["submit"] for entry in rec.submits] == [0, 1]
    shown = recorder.show(str(path))
    assert shown.startswith("no model on rocket, by teflon-npu: ok\n")
    assert "submit 1: 1 jobs, 2 command lists, 2080 bytes" in shown
    assert recorder.show(str(path), whole=True).count("CNA.FEATURE_DATA_ADDR") == 4
    (name,) = (port["name"] for port in rec.meta["ports"] if port["kind"] == "output")
    (entered,) = (port["name"] for port in rec.meta["ports"] if port["kind"] == "input")
    assert (recorder.replay(str(path), {})[name] == outputs[1]).all()
    other = recorder.replay(str(path), {entered: source(7)})[name]
    assert close_to(other, run(small, [source(7)])[0])
    with pytest.raises(RecordingError, match=rf"input 'z' is not one .* must be one of {entered}"):
        recorder.replay(str(path), {"z": source(7)})
    with pytest.raises(RecordingError, match=rf"input '{entered}' is uint8\[1\], must be uint8"):
        recorder.replay(str(path), {entered: np.zeros(1, np.uint8)})


def test_what_a_recording_holds_is_what_was_compiled(driver: Driver, tmp_path: Path) -> None:
    """Addresses taken out again, each buffer is the program's, and each reloc is found."""
    path = tmp_path / "run.npz"
    with driver.simulate("rk3588", {"record": str(path)}) as context:
        program = context.device.compile(graph())
        context.invoke(context.load(program), [source(0)])
    rec = recording.read(path)
    buffers, relocs = program.buffers, program.relocs  # type: ignore[attr-defined]
    kept = 0
    for handle, buffer in enumerate(buffers, 1):
        if buffer.data is not None:
            assert (rec.bo(handle) or b"")[len(buffer.data) :].strip(b"\0") == b""
            kept += 1
        if buffer.role in ("weights", "biases"):
            assert (rec.bo(handle) or b"")[: len(buffer.data)] == buffer.data
    assert kept == 3
    ours = sorted([f"bo_{r.buffer + 1}_0", r.offset, r.target + 1, r.addend] for r in relocs)
    assert sorted([k, o, h, a] for k, o, _, h, a in rec.meta["relocs"]) == ours


@needs_shared
def test_the_other_loader_reads_our_recordings(driver: Driver, tmp_path: Path) -> None:
    assert GOLDEN is not None
    path = tmp_path / "run.npz"
    with driver.simulate("rk3588", {"record": str(path)}) as context:
        context.invoke(context.load(context.device.compile(graph())), [source(0)])
    done = subprocess.run(
        [sys.executable, str(GOLDEN / "recording.py"), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    spec = importlib.util.spec_from_file_location("golden_recording", GOLDEN / "recording.py")
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    jobs = list(other.load(path).jobs())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(" on rocket Mesa  ok\n")
    assert [job["count"] for job in jobs] == [130, 130]
    assert [sorted(job["refs"]) for job in jobs] == [["biases", "input", "output", "weights"]] * 2
    ours = recording.read(path)
    assert set(json.loads(json.dumps(other.load(path).meta))) == set(ours.meta)


@needs_shared
def test_mesa_recordings_replay_by_name(recorder: Recorder) -> None:
    assert GOLDEN is not None
    path = str(GOLDEN / "rocket/mb-004.npz")
    (output,) = recorder.replay(path, {}).values()
    name = "MobilenetV1/MobilenetV1/Conv2d_2_depthwise/Relu6"
    zero = recorder.replay(path, {name: np.zeros((1, 56, 56, 64), np.uint8)})
    assert list(zero) == ["MobilenetV1/MobilenetV1/Conv2d_2_pointwise/Relu6"]
    (still,) = zero.values()
    assert output.shape == still.shape == (1, 56, 56, 128)
    assert (output != still).any()
    assert (still == still[:, :1, :1]).all()  # the same everywhere, as its input is


@needs_shared
def test_all_recordings_of_mesa_replay(recorder: Recorder) -> None:
    """Every recorded program runs, but for those that break the rules of the hardware: one channel
    to one channel (the width that Mesa programs), or nothing was submitted.
    """
    assert GOLDEN is not None
    ran, said = 0, {}
    paths = sorted((GOLDEN / "rocket").glob("*.npz"))[::6]
    for path in paths:
        try:
            ran += bool(recorder.replay(str(path), {}))
        except (RecordingError, SimulatorFault) as error:
            said[path] = str(error)
    for path, text in said.items():
        if recording.read(path).submits:
            assert "c1_" in path.stem
            assert "DATAIN_WIDTH" in text
        else:
            assert "nothing was submitted, must have a SUBMIT" in text
    assert ran + len(said) == len(paths)
    assert ran > 40


def test_a_damaged_log(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    jobs = [{"tasks": [[0, 1]], "in": [3], "out": []}]
    log = [{"ioctl": "SUBMIT", "submit": 0, "jobs": jobs}]
    recording.Recording({**recording.EMPTY, "driver": "rocket", "log": log}).save(path)
    with pytest.raises(
        RecordingError,
        match=r"damaged.npz: log\[0\], SUBMIT, does not fit the rest \(KeyError: 3\)$",
    ):
        recorder.replay(str(path), {})


def test_a_context_that_nobody_closes(driver: Driver, tmp_path: Path) -> None:
    """Its buffers and its recording are not lost when it goes away, or when Python ends."""
    path = tmp_path / "run.npz"
    context = driver.simulate("rk3588", {"record": str(path)})
    context.invoke(context.load(context.device.compile(graph())), [source(0)])
    del context
    gc.collect()
    assert len(recording.read(path).submits) == 1


@needs_shared
def test_a_whole_network_of_mesa(recorder: Recorder) -> None:
    assert GOLDEN is not None
    outputs = recorder.replay(str(GOLDEN / "rocket/mobilenet_v1_1.0_224_quant.npz"), {})
    shapes = {name: array.shape for name, array in outputs.items()}
    assert shapes == {"tensor 31": (1, 7, 7, 1024), "tensor 1": (1, 1, 1, 1001)}


def test_bad_requests(driver: Driver, recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(DriverUnavailable, match="rk1"):
        driver.simulate("rk1")
    with pytest.raises(OptionError, match="strategy"):
        driver.simulate("rk3588", {"strategy": "guess"})
    with pytest.raises(OptionError, match=r"^option record: .*x.npz: its folder must exist, does"):
        driver.simulate("rk3588", {"record": str(tmp_path / "none/x.npz")})
    with pytest.raises(OptionError, match=r"^option record: .*: is a folder, must be a file"):
        driver.simulate("rk3588", {"record": str(tmp_path)})
    with pytest.raises(DriverUnavailable, match=r"^/dev/accel/none: cannot be opened: No such"):
        driver.open(Node("/dev/accel/none", "rocket", "rk3588"))
    with pytest.raises(DriverUnavailable, match=r"^/x: is broken \(mend it\)$"):
        driver.open(Node("/x", "rocket", problem="is broken", cure="mend it"))
    (tmp_path / "node").touch()
    with pytest.raises(DriverUnavailable, match=r"node: cannot be opened: Inappropriate ioctl"):
        driver.open(Node(str(tmp_path / "node"), "rocket"))
    path = tmp_path / "etnaviv.npz"
    recording.Recording({**recording.EMPTY, "driver": "etnaviv"}).save(path)
    with pytest.raises(RecordingError, match=r"driver is 'etnaviv', must be 'rocket'$"):
        recorder.replay(str(path), {})


def test_jobs_that_mesa_loses_are_faults_here(driver: Driver) -> None:
    """ADD(conv(x), x): Mesa lists x twice, and the kernel drops the job."""
    random = np.random.default_rng(1)
    b = Builder("residual")
    x = b.input("x", "u8", (1, 8, 8, 16), scale=0.02, zero_point=128)
    weights = b.constant(random.integers(0, 256, (16, 1, 1, 16), np.uint8), 0.01, 128)
    bias = b.constant(np.zeros(16, np.int32), 0.0002)
    y = b.conv2d(x, weights, bias, scale=0.03, zero_point=128, name="conv")
    b.output(b.add(y, x, scale=0.04, zero_point=128, name="sum"))
    residual = b.build()
    value = random.integers(0, 256, (1, 8, 8, 16), np.uint8)
    with driver.simulate("rk3588") as context:
        executable = context.load(context.device.compile(residual))
        assert close_to(context.invoke(executable, [value])[0], run(residual, [value])[0])
    with driver.simulate("rk3588", {"strategy": "mesa"}) as context:
        executable = context.load(context.device.compile(residual))
        with pytest.raises(SimulatorFault, match="dropped with EALREADY"):
            context.invoke(executable, [value])


@needs_shared
def test_mobilenet(tmp_path: Path) -> None:
    assert MODELS is not None
    model = MODELS / "mobilenet_v1_1.0_224_quant.tflite"
    picture = np.random.default_rng(3).integers(0, 256, (1, 224, 224, 3), np.uint8)
    path = tmp_path / "mobilenet.npz"
    with teflon.load(model, device="sim:rk3588", record=str(path)) as npu:
        (ours,) = npu(picture).values()
    with teflon.load(model, device="cpu") as cpu:
        (theirs,) = cpu(picture).values()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 8
    assert ours.argmax() == theirs.argmax()
    rec = recording.read(path)
    assert len(list(RocketDialect().commands(rec.submits[0]))) > 27
    assert len(rec.submits) == 1
