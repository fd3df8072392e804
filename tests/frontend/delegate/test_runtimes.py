"""libteflon.so in tflite-runtime 2.14: an environment with an old numpy, and no package of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.cli.run import random_inputs
from teflon.ir.types import Array
from teflon.samples import models
from tests.frontend.delegate.helpers import environment, old_runtime
from tests.frontend.delegate.test_delegate import DELEGATED, DIGITS, PUBLIC, SIMULATED, same
from tests.kernel.helpers import ROCKET, Door, needs_shim
from tests.paths import MODELS, ROOT, needs_shared

pytestmark = pytest.mark.filterwarnings("default")


def through_the_runtime(
    device: str, paths: list[Path], folder: Path, door: Door | None = None
) -> tuple[str, dict[str, tuple[list[str], list[Array]]]]:
    """Return what the client printed; for each model the kinds of its nodes, and its outputs."""
    words = [teflon.delegate_path(), device, str(folder)]
    for path in paths:
        inputs = folder / f"{path.stem}.inputs.npz"
        with teflon.load(path, "cpu") as model:
            kinds = {str(i): v.type for i, v in enumerate(model.graph.inputs)}
        arrays: dict[str, Any] = random_inputs(kinds)
        np.savez(inputs, **arrays)
        words += [str(path), str(inputs)]
    python, client = old_runtime(), ROOT / "tests/frontend/delegate/client.py"
    done = subprocess.run(
        [str(python), str(client), *words],
        env=environment() | (door_variables(door) if door else {}),
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in paths:
        with np.load(folder / f"{path.stem}.npz") as data:
            outputs = [data[str(i)] for i in range(len(data.files) - 1)]
            found[path.stem] = (data["kinds"].tolist(), outputs)
    return done.stdout, found


def directly(path: Path, device: str, folder: Path) -> list[Array]:
    with np.load(folder / f"{path.stem}.inputs.npz") as inputs, teflon.load(path, device) as model:
        return model.run(*(inputs[str(i)] for i in range(len(inputs.files))))


@pytest.mark.parametrize("device", [*SIMULATED, "cpu"])
def test_digits_equal_the_direct_call(device: str, tmp_path: Path) -> None:
    paths = [models.resolve(name) for name in DIGITS]
    said, found = through_the_runtime(device, paths, tmp_path)
    assert "option 'nonsense'" in said
    for path in paths:
        kinds, outputs = found[path.stem]
        assert DELEGATED in kinds
        assert same(outputs, directly(path, device, tmp_path))


@needs_shared
@pytest.mark.parametrize("device", SIMULATED)
def test_public_models_equal_the_direct_call(device: str, tmp_path: Path) -> None:
    assert MODELS is not None
    paths = [MODELS / f"{name}.tflite" for name in PUBLIC]
    _, found = through_the_runtime(device, paths, tmp_path)
    for path in paths:
        kinds, outputs = found[path.stem]
        assert DELEGATED in kinds
        assert same(outputs, directly(path, device, tmp_path))


def door_variables(door: Door) -> dict[str, str]:
    """Return what a program needs beside its own variables to see the nodes of a door."""
    return {k: v for k, v in door.environment().items() if os.environ.get(k) != v}


@needs_shim
def test_digits_on_a_real_node(tmp_path: Path) -> None:
    """Through the kernel door: ioctls and mmap of a node that this process does not have."""
    path = models.resolve("digits_int8")
    with Door(ROCKET) as door:
        _, found = through_the_runtime("auto", [path], tmp_path, door)
        assert door.left() == []
    kinds, outputs = found[path.stem]
    assert DELEGATED in kinds
    assert same(outputs, directly(path, "sim:rk3588", tmp_path))
