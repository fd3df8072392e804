"""A third-party driver from its own wheel, in an environment of its own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.samples import models
from tests.paths import ROOT

EXAMPLE = ROOT / "examples" / "teflon-driver-minimal"
TWINS = sorted((ROOT / "tests" / "contract" / "plugins").glob("broken_*"))
PUBLIC = ("teflon.pipe", "teflon.plugins", "teflon.ir", "teflon.errors", "teflon_common")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter: ours by a .pth, the example and the twins by wheel."""
    folder = tmp_path_factory.mktemp("fresh")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quiet = ["-q", "--no-deps", "--no-index"]
    sources = [shutil.copytree(p, folder / p.name) for p in (EXAMPLE, *TWINS)]
    wheels = folder / "wheels"
    subprocess.run(
        [*pip, "wheel", *quiet, "--no-build-isolation", "-w", wheels, *sources], check=True
    )
    venv.create(folder / "venv", with_pip=False)
    interpreter = folder / "venv" / "bin" / "python"
    where = subprocess.check_output(
        [interpreter, "-c", "import site; print(site.getsitepackages()[0])"], text=True
    ).strip()
    ours = "".join(f"import site; site.addsitedir({p!r})\n" for p in site.getsitepackages())
    (Path(where) / "beside.pth").write_text(ours)
    subprocess.run(
        [*pip, "--python", interpreter, "install", *quiet, "--target", where,
         *sorted(wheels.glob("*.whl"))],
        check=True,
    )  # fmt: skip
    return interpreter


@pytest.fixture(scope="module")
def machine(python: Path) -> Iterator[Path]:
    """A folder that stands for `/`, with the device node of a chip in another process."""
    root = Path(tempfile.mkdtemp(prefix="abacus"))  # a socket's path must be short
    node = root / "dev" / "abacus0"
    node.parent.mkdir()
    chip = subprocess.Popen([python, "-P", "-m", "teflon_abacus.machine", node])
    for _ in range(600):
        if node.exists() or chip.poll() is not None:
            break
        time.sleep(0.05)
    yield root
    chip.terminate()
    chip.wait()
    shutil.rmtree(root)


def run(python: Path, machine: Path, program: str, **more: str) -> str:
    """Run a Python program there and return what it printed."""
    names = ("TEFLON_DEVICE", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [python, "-P", "-c", program], capture_output=True, text=True, cwd=machine,
        env={**environment, "ABACUS_ROOT": str(machine), "TEFLON_CACHE": "off", **more},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(name: str) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int8]], list[int]]:
    with teflon.load(models.resolve(name), device="cpu") as model:
        (info,) = model.inputs
        x = np.random.default_rng(1).integers(-128, 128, info.shape, np.int8)
        return x, model.run(x)[0].ravel().tolist()


LOAD = """
import json, numpy, teflon
from teflon.samples import models
x = numpy.random.default_rng(1).integers(-128, 128, {shape}, numpy.int8)
with teflon.load(models.resolve("digits_int8"), {options}) as model:
    print(json.dumps([model.plan.devices[0], model.run(x)[0].ravel().tolist()]))
"""


@pytest.mark.parametrize(
    ("options", "variable", "title"),
    [
        ("", "", "abacus abacus1"),
        ("'auto'", "", "abacus abacus1"),
        ("'abacus'", "sim:rk3588", "abacus abacus1"),
        ("", "sim:rk3588", "rocket rk3588"),
        ("'sim:abacus1'", "", "abacus abacus1"),
    ],
)
def test_it_is_chosen_and_runs(
    python: Path, machine: Path, options: str, variable: str, title: str
) -> None:
    x, want = expected("digits_int8")
    program = LOAD.format(shape=x.shape, options=options)
    device, have = json.loads(run(python, machine, program, TEFLON_DEVICE=variable))
    assert device.replace(":", " ") == title
    assert np.abs(np.array(have) - np.array(want)).max() <= 1


def test_devices_lists_it_and_the_broken_twins(python: Path, machine: Path) -> None:
    program = "from teflon.cli import main; main(['devices', '--json'])"
    found = json.loads(run(python, machine, program))
    (abacus,) = [d for d in found["drivers"] if d["name"] == "abacus"]
    (node,) = abacus["nodes"]
    assert (node["path"], node["usable"]) == (str(machine / "dev/abacus0"), True)
    assert len(found["broken"]) == len(TWINS) - 1  # one is whole until it probes


DELEGATE = """
import json, numpy, teflon
from ai_edge_litert.interpreter import Interpreter, load_delegate
from teflon.samples import models
delegate = load_delegate(teflon.delegate_path())
interpreter = Interpreter(str(models.resolve("digits_int8")), experimental_delegates=[delegate])
interpreter.allocate_tensors()
port, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
x = numpy.random.default_rng(1).integers(-128, 128, {shape}, numpy.int8)
interpreter.set_tensor(port["index"], x.reshape(port["shape"]))
interpreter.invoke()
print(json.dumps(interpreter.get_tensor(result["index"]).ravel().tolist()))
"""


def test_it_runs_through_the_delegate(python: Path, machine: Path) -> None:
    """No device is named: the delegate finds the node as the Python interface does."""
    x, want = expected("digits_int8")
    have = json.loads(run(python, machine, DELEGATE.format(shape=x.shape)).splitlines()[-1])
    assert np.abs(np.array(have) - np.array(want)).max() <= 1


def test_a_node_of_another_kind_is_refused(python: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "abacus3").write_text("no socket")
    program = (
        "import teflon, sys\n"
        "from teflon import models\n"
        "from teflon.errors import DriverUnavailable\n"
        "try:\n    teflon.load(models.resolve('digits_int8'), 'abacus')\n"
        "except DriverUnavailable as error:\n    print(error)\n"
    )
    said = run(python, tmp_path, program)
    assert "dev/abacus3: is no ABACUS (unload what made it); sim:abacus1 simulates it" in said


def test_it_uses_the_public_interface_only() -> None:
    for file in EXAMPLE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("teflon"):
                assert node.module
                assert node.module.startswith((*PUBLIC, "teflon_abacus")), node.module
