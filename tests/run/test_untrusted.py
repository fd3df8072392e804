"""Models of strangers: no maps, no runtimes, limits; files that are cut while they are used."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import limits
from teflon.errors import ModelError, OptionError, UnsupportedOperation
from teflon.files import contents
from teflon.frontend.tflite.writer import write
from teflon.ir.text import to_text
from teflon.samples import models
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import opaque_graph

MODEL = models.resolve("digits_int8")

CUT = """
import sys, numpy as np, teflon
path, how = sys.argv[1:]
options = {"mmap": dict(mmap=False), "trusted": dict(trusted=False), "": {}}[how]
with teflon.load(path, "cpu", cache="off", **options) as model:
    x = [np.ones(i.shape, i.dtype) for i in model.inputs]
    before = [a.tobytes() for a in model.run(*x)] if how else None
    open(path, "r+b").truncate(0)
    after = [a.tobytes() for a in model.run(*x)]
    sys.exit(before != after)
"""


@pytest.mark.parametrize(("how", "code"), [("mmap", 0), ("trusted", 0), ("", -signal.SIGBUS)])
def test_a_file_that_is_cut_while_it_is_used(tmp_path: Path, how: str, code: int) -> None:
    """A map ends the process, which is what docs/security.md says; a copy does not notice."""
    copy = tmp_path / "m.tflite"
    copy.write_bytes(MODEL.read_bytes())
    done = subprocess.run([sys.executable, "-P", "-c", CUT, copy, how], capture_output=True)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588"])
def test_no_file_of_a_stranger_is_mapped(device: str, tmp_path: Path) -> None:
    copy = tmp_path / "strange.tflite"
    copy.write_bytes(MODEL.read_bytes())
    with teflon.load(copy, device, trusted=False, cache="off") as model:
        assert "strange.tflite" not in Path("/proc/self/maps").read_text()
        assert model.run(np.zeros(model.inputs[0].shape, model.inputs[0].dtype))
    with teflon.load(copy, device, cache="off"):
        assert "strange.tflite" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("limit", "most", "what"),
    [
        ("file_bytes", 1000, r"has \d+ bytes, must have at most 1000"),
        ("tensor_bytes", 2000, r"has \d+ bytes of tensors, must have at most 2000"),
        ("operations", 2, r"has \d operations, must have at most 2"),
        ("macs", 10, r"has \d+ multiply-accumulates, must have at most 10"),
        ("seconds", 1e-9, r"reading and compiling took more than 1e-09 s, must take less"),
    ],
)
def test_limits(limit: str, most: float, what: str, tmp_path: Path) -> None:
    given = teflon.Limits(**{limit: most})  # type: ignore[arg-type]
    sources = (MODEL, MODEL.read_bytes())
    for source in sources:
        with pytest.raises(ModelError, match=what) as caught:
            teflon.load(source, "cpu", trusted=False, limits=given, cache=tmp_path)
        assert f"(limits=teflon.Limits({limit}=...) allows more)" in str(caught.value)
    with teflon.load(MODEL, "cpu", trusted=False, cache=tmp_path):
        pass
    if limit != "file_bytes":  # a known artefact is no way around
        with pytest.raises(ModelError, match=what):
            teflon.load(MODEL, "cpu", trusted=False, limits=given, cache=tmp_path)
    with teflon.load(MODEL, "cpu", cache=tmp_path):
        assert limits.current() is limits.TRUSTED


def test_a_small_file_with_large_tensors_is_refused() -> None:
    text = to_text(EXAMPLES["elu"].graph()).replace("[1,6,5,4]", "[65536,600,5,4]")
    with pytest.raises(ModelError, match="bytes of tensors, must have at most 1073741824"):
        teflon.load(text.encode(), "sim:rk3588", trusted=False)


def test_no_runtime_reads_the_file() -> None:
    model = write(opaque_graph())
    with pytest.raises(UnsupportedOperation):
        teflon.load(model, "cpu", trusted=False, cache="off")
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("tflite", {}),
        ("cpu", {"cpu": "tflite"}),
        ("rk3588", {"cpu": "tflite"}),
    )
    for device, options in cases:
        with pytest.raises(OptionError, match="must be left out for a model that is not trusted"):
            teflon.load(MODEL, device, trusted=False, cache="off", **options)


def test_arguments() -> None:
    with pytest.raises(OptionError, match="limits: are for models that are not trusted"):
        teflon.load(MODEL, "cpu", limits=teflon.Limits())
    for wrong in (0, -1, math.nan, "5", None, True):
        with pytest.raises(OptionError, match=r"^limit seconds: is .*, must be a number above 0$"):
            teflon.Limits(seconds=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.ir", "m.teflon", "m"])
def test_what_is_no_file_never_blocks(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is a FIFO, must be a readable file"):
        teflon.load(path, "cpu")
    with pytest.raises(OSError, match="is a device"):
        contents("/dev/zero")
    with pytest.raises(ModelError, match="is a folder, must be a readable file"):
        teflon.load(tmp_path, "cpu")


@pytest.mark.parametrize("suffix", [b".tflite", b".ir", b".teflon"])
def test_paths_that_are_no_utf8(tmp_path: Path, suffix: bytes) -> None:
    """They load, from the cache too, and stand in messages and reports."""
    source: bytes | Path = MODEL
    if suffix == b".ir":
        source = to_text(EXAMPLES["elu"].graph()).encode()
    elif suffix == b".teflon":
        from teflon.compile.cache import NONE
        from teflon.compile.planning import compile_graph
        from teflon.compile.source import read_graph
        from teflon.compile.teflon_file import pack
        from teflon.devices import open_device

        source = pack(compile_graph(read_graph(MODEL), open_device("cpu")[0], NONE))
    folder = os.path.join(os.fsencode(tmp_path), b"f\xff\xe9")
    os.mkdir(folder)
    path = os.fsdecode(os.path.join(folder, b"m\xff" + suffix))
    Path(path).write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    for _ in range(2):
        with teflon.load(path, "cpu", cache=os.fsdecode(folder)) as model:
            str(model.report()).encode("utf-8", "surrogateescape")
            model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))
    Path(path).write_bytes(b"no model")
    with (
        pytest.raises(ModelError, match="has no known format")
        if suffix == b".teflon"
        else (pytest.raises(ModelError))
    ):
        teflon.load(path, "cpu")
