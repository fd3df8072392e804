"""libteflon.so in TFLite's runtimes: what it computes, and what it says."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.errors import DriverUnavailable, OptionError
from teflon.frontend.tflite import writer as tflite_writer
from teflon.ir.builder import Builder
from teflon.ir.types import Array
from teflon.samples import models
from tests.oracle import in_reference_kernels, needs_oracle
from tests.paths import MODELS, needs_shared

pytestmark = needs_oracle

SIMULATED = [d.spec for d in teflon.list_devices() if d.kind == "simulated"]
DIGITS = ("digits_int8", "digits_uint8")
PUBLIC = (
    "mobilenet_v1_1.0_224_quant",
    "ssdlite_mobiledet_coco_qat_postprocess",
    "yolox",
)
DELEGATED = "DELEGATE"


def litert() -> Any:
    return importlib.import_module("ai_edge_litert.interpreter")


def interpreter(model: Path | bytes, delegate: Any, *, allocate: bool = True) -> Any:
    """Return an interpreter whose remainder runs in the reference kernels."""
    runtime = litert()
    content = model if isinstance(model, bytes) else model.read_bytes()

    def opened(kernels: Any) -> Any:
        return runtime.Interpreter(
            model_content=content,
            num_threads=1,
            experimental_delegates=[delegate],
            experimental_op_resolver_type=kernels,
        )

    made = in_reference_kernels(runtime.OpResolverType, opened)
    if allocate:
        made.allocate_tensors()
    return made


def random_inputs(made: Any, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    found = []
    for port in made.get_input_details():
        info = np.iinfo(port["dtype"])
        found.append(rng.integers(info.min, info.max, port["shape"], port["dtype"], endpoint=True))
    return found


def run(made: Any, inputs: list[Array]) -> list[Array]:
    for port, array in zip(made.get_input_details(), inputs, strict=True):
        made.set_tensor(port["index"], array)
    made.invoke()
    return [made.get_tensor(port["index"]) for port in made.get_output_details()]


def delegated_nodes(made: Any) -> int:
    return sum(op["op_name"] == DELEGATED for op in made._get_ops_details())


def same(found: list[Array], wanted: list[Array]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def small(height: int = 8) -> bytes:
    """Return a model file with two convolutions and an addition after them."""
    b = Builder("small")
    rng = np.random.default_rng(1)
    x = b.input("x", "u8", (1, height, 8, 16), scale=0.5, zero_point=128)
    weights = rng.integers(0, 255, (16, 3, 3, 16), np.uint8)
    bias = rng.integers(-999, 999, 16, np.int32)
    made = [
        b.conv2d(x, weights, bias, name=name, padding="same", scale=4.0, zero_point=100,
                 weight_scale=0.02, weight_zero_point=127)
        for name in ("left", "right")
    ]  # fmt: skip
    b.output(b.add(*made, name="sum", scale=8.0, zero_point=120))
    return tflite_writer.write(b.build())


# Numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIGITS)
@pytest.mark.parametrize("device", [*SIMULATED, "cpu"])
def test_digits_equal_the_direct_call(name: str, device: str) -> None:
    path = models.resolve(name)
    made = interpreter(path, teflon.tflite_delegate("ai_edge_litert", device=device))
    assert delegated_nodes(made) > 0
    with teflon.load(path, device) as model:
        for seed in range(3):
            inputs = random_inputs(made, seed)
            assert same(run(made, inputs), model.run(*inputs))


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("device", SIMULATED)
def test_public_models_equal_the_direct_call(name: str, device: str) -> None:
    assert MODELS is not None
    path = MODELS / f"{name}.tflite"
    made = interpreter(path, teflon.tflite_delegate("ai_edge_litert", device=device))
    assert delegated_nodes(made) > 0
    inputs = random_inputs(made)
    with teflon.load(path, device) as model:
        assert same(run(made, inputs), model.run(*inputs))


def test_cpu_takes_whole_models() -> None:
    made = interpreter(models.resolve("digits_int8"), teflon.tflite_delegate(device="cpu"))
    assert delegated_nodes(made) == 1


# Life ------------------------------------------------------------------------------------------


def test_allocating_twice_changes_nothing() -> None:
    made = interpreter(models.resolve("digits_int8"), teflon.tflite_delegate(device="sim:rk3588"))
    inputs = random_inputs(made)
    first = run(made, inputs)
    made.allocate_tensors()
    made.allocate_tensors()
    assert same(run(made, inputs), first)


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588"])
def test_resize_compiles_again(device: str) -> None:
    made = interpreter(small(), teflon.tflite_delegate(device=device))
    plain = interpreter_without(small())
    for height in (8, 20, 3, 8):
        for one in (made, plain):
            one.resize_tensor_input(one.get_input_details()[0]["index"], (1, height, 8, 16))
            one.allocate_tensors()
        inputs = random_inputs(made, height)
        found, wanted = run(made, inputs)[0], run(plain, inputs)[0]
        assert found.shape == (1, height, 8, 16)
        difference = np.abs(found.astype(int) - wanted.astype(int)).max()
        assert difference <= (0 if device == "cpu" else 2)


def interpreter_without(content: bytes) -> Any:
    runtime = litert()
    made = runtime.Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
    )
    made.allocate_tensors()
    return made


def test_an_impossible_shape_is_an_error_and_the_next_shape_works() -> None:
    made = interpreter(models.resolve("digits_int8"), teflon.tflite_delegate(device="cpu"))
    port = made.get_input_details()[0]["index"]
    inputs = random_inputs(made)
    before = run(made, inputs)
    made.resize_tensor_input(port, (1, 5, 3, 1))
    with pytest.raises(RuntimeError, match=r"teflon: .*must") as caught:
        made.allocate_tensors()
    assert "internal error" not in str(caught.value)
    made.resize_tensor_input(port, (1, 8, 8, 1))
    made.allocate_tensors()
    assert same(run(made, inputs), before)


def test_two_interpreters_share_a_delegate() -> None:
    delegate = teflon.tflite_delegate(device="sim:rk3588")
    content = [models.resolve(name).read_bytes() for name in DIGITS]
    made = [interpreter(c, delegate) for c in content]
    alone = [interpreter(c, teflon.tflite_delegate(device="sim:rk3588")) for c in content]
    for one, other in zip(made, alone, strict=True):
        inputs = random_inputs(one)
        assert same(run(one, inputs), run(other, inputs))
    del made[0]
    inputs = random_inputs(made[0])
    assert same(run(made[0], inputs), run(alone[1], inputs))


def test_interpreters_in_threads() -> None:
    delegate = teflon.tflite_delegate(device="sim:rk3588")
    path = models.resolve("digits_int8")
    inputs = random_inputs(interpreter(path, delegate))
    wanted = run(interpreter(path, delegate), inputs)
    failed: list[BaseException | int] = []

    def work(number: int) -> None:
        try:
            made = interpreter(path, delegate)
            good = [same(run(made, inputs), wanted) for _ in range(5)]
            failed.extend([number] if not all(good) else [])
        except BaseException as error:  # shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_can_make_its_own() -> None:
    made = interpreter(models.resolve("digits_int8"), teflon.tflite_delegate(device="cpu"))
    inputs = random_inputs(made)
    wanted = run(made, inputs)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        try:
            made.invoke()
            there.send("no error")
        except RuntimeError as error:
            there.send(str(error))
        own = interpreter(models.resolve("digits_int8"), teflon.tflite_delegate(device="cpu"))
        there.send(same(run(own, inputs), wanted))

    process = context.Process(target=child)
    process.start()
    assert here.poll(60)
    assert "this process was forked after the delegate was made" in here.recv()
    assert here.poll(60)
    assert here.recv() is True
    process.join(60)
    assert process.exitcode == 0
    assert same(run(made, inputs), wanted)


# Messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "sim:rk3588", "stratgy": "mesa"}, ["'stratgy'", "strategy", "device", "debug"]),
        ({"device": "sim:rk3588", "strategy": "none"}, ["strategy", "mesa", "exact"]),
        ({"device": "sim:rk3589"}, ["sim:rk3589", "sim:rk3588"]),
        ({"device": "rk3588"}, ["can only compile", "sim:rk3588"]),
        ({"device": "cpu", "debug": "verbos"}, ["debug", "verbos", "partition"]),
    ],
)
def test_wrong_options_are_errors_that_list_the_known_ones(
    options: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ValueError, match="Failed to load delegate") as caught:
        litert().load_delegate(teflon.delegate_path(), options)
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(DriverUnavailable) as ours:
        teflon.tflite_delegate("ai_edge_litert", **options)
    assert str(ours.value) in str(caught.value)


def test_runtimes_by_name() -> None:
    with pytest.raises(OptionError, match="must be one of ai_edge_litert, tflite_runtime"):
        teflon.tflite_delegate("tflight")
    if importlib.util.find_spec("tflite_runtime") is None:
        with pytest.raises(DriverUnavailable, match="pip install tflite-runtime"):
            teflon.tflite_delegate("tflite_runtime", device="cpu")
