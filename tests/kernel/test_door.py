"""The code that talks to the kernel, for real: nodes, requests and mappings of a fake kernel that
lives in another process (teflon board --serve), seen through a preload library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.samples import digits, models
from tests.kernel.helpers import NODE, ROCKET, Door, needs_shim
from tests.oracle import needs_oracle
from tests.paths import MODELS, ROOT, needs_shared

pytestmark = needs_shim


@pytest.fixture(scope="module")
def shared_door() -> Iterator[Door]:
    with Door(f"{ROCKET},other:i915") as made:
        yield made


@pytest.fixture
def door(shared_door: Door) -> Iterator[Door]:
    """The door of this module; every test leaves it as it found it."""
    shared_door.obey("faults", rules=[])
    yield shared_door
    assert shared_door.left() == []


RUN = """
import gc, sys
import numpy as np, teflon
model, given, spec, target = sys.argv[1:]
inputs = dict(np.load(given))
with teflon.load(model, spec) as loaded:
    first = loaded(inputs)
    again = loaded(inputs)
assert all((first[name] == again[name]).all() for name in first)
np.savez(target, **first)
gc.collect()
print(open("/proc/self/maps").read().count("memfd:teflon-bo"))
"""


def through(door: Door, model: Path, inputs: Path, spec: str) -> dict[str, np.ndarray]:
    """Run a model in a process that sees the nodes; nothing may stay mapped there."""
    target = inputs.with_name("through.npz")
    assert door.python(RUN, model, inputs, spec, target).split() == ["0"]
    return dict(np.load(target))


@pytest.mark.parametrize("spec", ["auto", "rocket", NODE])
def test_digits(door: Door, tmp_path: Path, spec: str) -> None:
    path = models.resolve("digits_uint8")
    image = digits.as_input(digits.held_out_set().images[:1], "uint8")
    np.savez(tmp_path / "in.npz", image=image)
    have = through(door, path, tmp_path / "in.npz", spec)
    with teflon.load(path, "sim:rk3588") as model:
        want = model(image=image)
    assert have.keys() == want.keys()
    assert all((have[name] == want[name]).all() for name in want)
    names = [name for name, _ in door.log()]
    assert names.count("CREATE_BO") == names.count("MMAP") == names.count("GEM_CLOSE") > 0
    assert names.count("OPEN") == 1
    assert names.count("SUBMIT") > 0


@needs_shared
def test_mobilenet(door: Door, tmp_path: Path) -> None:
    assert MODELS is not None
    path = MODELS / "mobilenet_v1_1.0_224_quant.tflite"
    image = np.random.default_rng(4).integers(0, 256, (1, 224, 224, 3), np.uint8)
    with teflon.load(path, "sim:rk3588") as model:
        name = model.inputs[0].name
        want = model({name: image})
    arrays: dict[str, Any] = {name: image}
    np.savez(tmp_path / "in.npz", **arrays)
    have = through(door, path, tmp_path / "in.npz", "rocket")
    assert all((have[name] == want[name]).all() for name in want)


def test_the_command_line(door: Door, tmp_path: Path) -> None:
    shown = door.teflon("devices", "--json")
    assert shown.returncode == 0
    nodes = {d["name"]: d["nodes"] for d in json.loads(shown.stdout)["drivers"]}
    assert [(n["path"], n["chip"]) for n in nodes["rocket"]] == [(NODE, "rk3588")]
    image = digits.as_input(digits.held_out_set().images[:1], "int8")
    np.save(tmp_path / "x.npy", image)
    words = ("run", "digits_int8", "--device", "auto", "--input", tmp_path / "x.npy")
    done = door.teflon(*words, "-o", tmp_path / "y.npz", TEFLON_DEBUG="ioctl")
    assert done.returncode == 0, done.stderr
    assert "rocket CREATE_BO(size=" in done.stderr
    with teflon.load(models.resolve("digits_int8"), "sim:rk3588") as model:
        want = model(image=image)
    assert (np.load(tmp_path / "y.npz")["probability"] == want["probability"]).all()


def test_many_buffers_need_no_descriptors(door: Door) -> None:
    """A mapping must not keep a descriptor open, nor the node."""
    counts = door.python("""
import os
from teflon_common.drm import DrmWinsys, call
from teflon_rocket.uapi import CREATE_BO, CreateBo, ROCKET
winsys = DrmWinsys("/dev/accel/accel0")
before = len(os.listdir("/proc/self/fd"))
views = []
for _ in range(100):
    made = call(winsys, ROCKET, CREATE_BO, CreateBo(size=5000))
    views.append(winsys.mmap(made.offset, 5000))
    views[-1][4999] = 7
print(len(os.listdir("/proc/self/fd")) - before, sum(view[4999] for view in views))
winsys.close()
print(views[3][4999])  # memory outlives the node
""").split()
    assert counts == ["0", "700", "7"]


def test_what_a_kernel_refuses(door: Door) -> None:
    """Bad arguments of every kind end with the errno of the real kernel, never with a crash."""
    printed = door.python("""
import ctypes, errno, fcntl, mmap, os, stat
from teflon_common.drm import DrmWinsys, Version, VERSION, version
from teflon_rocket.uapi import SUBMIT, CREATE_BO, Submit, CreateBo
winsys = DrmWinsys("/dev/accel/accel0")
def code(request, data):
    try:
        winsys.ioctl(request, bytearray(data))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "0"
print(version(winsys).name, os.path.exists("/dev/accel/accel1"), os.listdir("/dev/accel"))
found = os.stat("/dev/accel/accel0")
print(stat.S_ISCHR(found.st_mode), os.major(found.st_rdev), os.minor(found.st_rdev))
print(os.fstat(winsys._fd).st_rdev == found.st_rdev)
print(code(SUBMIT.request, Submit(jobs=8, job_count=3).pack()))  # a pointer into nowhere
print(code(VERSION.request, Version(name_len=4, name=16).pack()))
print(code(CREATE_BO.request, CreateBo(size=0).pack()))
print(code(0xC01064FF, bytes(16)), code(0xC0106740, bytes(16)))  # unknown number, unknown group
try:
    winsys.mmap(4096, 4096)
except OSError as error:
    print(errno.errorcode[error.errno])
""").split("\n")
    assert printed[:3] == ["rocket False ['accel0']", "True 261 0", "True"]
    assert printed[3:8] == ["EFAULT", "EFAULT", "ENOSPC", "EINVAL ENOTTY", "EINVAL"]
    complaints = door.status()["complaints"]
    assert [text.split()[:2] for text in complaints] == [["no", "handler"]] * 2
    door.obey("faults", rules=[])  # those were wanted


def test_descriptors_are_a_node_however_they_were_made(door: Door) -> None:
    """A copy, a forked child and another program that inherits it all reach the same file."""
    printed = door.python("""
import fcntl, os, subprocess, sys
node = os.open("/dev/accel/accel0", os.O_RDWR)
copy = fcntl.fcntl(os.dup(node), fcntl.F_DUPFD, 50)
code = '''
import fcntl, sys
from teflon_rocket.uapi import CREATE_BO, CreateBo
data = bytearray(CreateBo(size=1).pack())
fcntl.ioctl(int(sys.argv[1]), CREATE_BO.request, data)
print("handle", CreateBo.unpack(data).handle, flush=True)
'''
def create():
    exec(code, {})
sys.argv = ["", str(copy)]
create()
os.close(node)
if (child := os.fork()) == 0:
    create()
    os._exit(0)
os.waitpid(child, 0)
os.set_inheritable(copy, True)
subprocess.run([sys.executable, "-P", "-c", code, str(copy)], check=True, close_fds=False)
""").split("\n")
    assert printed[:3] == ["handle 1", "handle 2", "handle 3"]


DELEGATE = """
import sys
import numpy as np
import teflon
from ai_edge_litert.interpreter import Interpreter, load_delegate
model, given, device, target = sys.argv[1:]
delegate = load_delegate(teflon.delegate_path(), {"device": device})
made = Interpreter(model, num_threads=1, experimental_delegates=[delegate])
made.allocate_tensors()
(array,) = np.load(given).values()
made.set_tensor(made.get_input_details()[0]["index"], array)
made.invoke()
np.save(target, made.get_tensor(made.get_output_details()[0]["index"]))
"""


@needs_oracle
def test_the_delegate(door: Door, tmp_path: Path) -> None:
    """TFLite with libteflon.so, on a node."""
    path = models.resolve("digits_int8")
    image = digits.as_input(digits.held_out_set().images[:1], "int8")
    np.savez(tmp_path / "in.npz", image=image)
    target = tmp_path / "y.npy"
    door.python(DELEGATE, path, tmp_path / "in.npz", "auto", target)
    with teflon.load(path, "sim:rk3588") as model:
        want = model(image=image)
    assert (np.load(target) == want["probability"]).all()
    assert "SUBMIT" in [name for name, _ in door.log()]


@pytest.mark.parametrize("chip", ["a311d", "s905d3", "imx8mp"])
def test_etnaviv(tmp_path: Path, chip: str) -> None:
    node = "/dev/dri/renderD128"
    path = models.resolve("digits_int8")
    image = digits.as_input(digits.held_out_set().images[:1], "int8")
    np.savez(tmp_path / "in.npz", image=image)
    with Door(chip) as door:
        have = through(door, path, tmp_path / "in.npz", "auto")
        assert door.left(node) == []
    with teflon.load(path, f"sim:{chip}") as model:
        want = model(image=image)
    assert all((have[name] == want[name]).all() for name in want)


GRID = """
import importlib.util, sys
root = sys.argv[1]
sys.path.append(root)
import teflon_rocket
from teflon.pipe import Node
from tests.rocket.grid import check_block
spec = importlib.util.spec_from_file_location("grid", root + "/drivers/rocket/tests/test_grid.py")
grid = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grid)
driver = teflon_rocket.teflon_driver()
cases = (grid.direct, grid.depthwise, grid.matrix)
with driver.open(Node("/dev/accel/accel0", "rocket", "rk3588")) as context:
    for case in cases:
        check_block(context, case, 7001, 40)
print(40 * len(cases))
"""


@needs_oracle
def test_the_generated_grid(door: Door) -> None:
    """Operations of all shapes, made, loaded, run and freed on one open node, exact."""
    assert door.python(GRID, ROOT).split() == ["120"]
    assert [name for name, _ in door.log()].count("SUBMIT") == 240  # each case twice
