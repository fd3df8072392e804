"""TEFLON_DEBUG=verbose: Mesa's tables, column for column."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import teflon
from teflon import debug
from teflon.compile.source import read_graph
from teflon.inspect import verbose
from teflon.ir.builder import Builder
from teflon.ir.listing import ListedNode, ListedTensor, Listing
from teflon.ir.types import DType, TensorType
from teflon.run.load import load
from tests.contract.helpers import chain
from tests.oracle import needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

MOBILENET = "mobilenet_v1_1.0_224_quant"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    assert "verbose" in debug.FLAGS
    monkeypatch.setattr(debug, "enabled", lambda flag: flag == "verbose")
    monkeypatch.setattr(debug, "log", lambda text: lines.extend(text.split("\n")))
    return lines


def upstream(chip: str) -> list[str]:
    """Return what Mesa 26.2.6 printed for MobileNetV1 on a chip, without its loader's lines."""
    with np.load(recorded(chip)) as file:
        text = file["text"].tobytes().decode()
    lines = text.rstrip("\n").split("\n")
    return [timeless(line) for line in lines if not line.startswith("MESA-LOADER")]


def recorded(chip: str) -> Path:
    assert GOLDEN is not None
    return GOLDEN / chip / f"{MOBILENET}.npz"


def model() -> Path:
    assert MODELS is not None
    return MODELS / f"{MOBILENET}.tflite"


def timeless(line: str) -> str:
    return re.sub(r"took \d+ ms", "took N ms", line)


@needs_shared
@pytest.mark.parametrize("chip", ["rocket", "a311d", "s905d3", "imx8mp"])
def test_the_tables_equal_those_of_upstream(chip: str, log: list[str]) -> None:
    """The same verdicts and partitions, printed by us: the same text to the last blank."""
    with np.load(recorded(chip)) as file:
        meta = json.loads(file["meta"].tobytes())
    listing = read_graph(model()).listing
    assert listing is not None
    verbose.show_driver(meta["driver"])
    supported = {n["node"] for n in meta["teflon_nodes"] if n["supported"]}
    log += verbose.support_table(listing, supported)
    makers = {node.outputs: node for node in listing.nodes}
    for part in meta["teflon_partitions"]:
        nodes = [makers[tuple(op["outputs"])] for op in part]
        log += verbose.partition_tables(listing, nodes)
        verbose.show_compile_time(0.5)
    for _ in meta["teflon_partitions"]:
        verbose.show_invoke_time(0.5)
    assert [timeless(line) for line in log] == upstream(chip)


@needs_shared
@pytest.mark.parametrize(
    ("chip", "device"),
    [
        ("rocket", "sim:rk3588"),
        ("a311d", "sim:a311d"),
        ("s905d3", "sim:s905d3"),
        ("imx8mp", "sim:imx8mp"),
    ],
)
def test_a_run_prints_what_upstream_prints(chip: str, device: str, log: list[str]) -> None:
    """Our own verdicts, partitions and numbers under strategy mesa."""
    with teflon.load(model(), device, strategy="mesa") as loaded:
        loaded(np.zeros((1, 224, 224, 3), np.uint8))
    assert [timeless(line) for line in log] == upstream(chip)


@needs_shared
@needs_oracle
@pytest.mark.parametrize(("chip", "device"), [("rocket", "sim:rk3588"), ("a311d", "sim:a311d")])
def test_mesas_sample_session(chip: str, device: str) -> None:
    """The command of Mesa's documentation, with the delegate: its lines, then the top five."""
    photo = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    assert MODELS is not None
    labels = MODELS / "labels_mobilenet_quant_v1_224.txt"
    command = ["classify", "-i", str(photo), "-m", str(model()), "-l", str(labels)]
    command += ["-e", "libteflon.so", "-o", f"device: {device}; strategy: mesa"]
    script = "import sys; from teflon.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *command],
        env=os.environ | {"TEFLON_DEBUG": "verbose"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    out = done.stdout.splitlines()
    assert out[0] == (
        "Loading external delegate from libteflon.so with args:"
        f" {{'device': '{device}', 'strategy': 'mesa'}}"
    )
    assert re.fullmatch(r"0\.\d{6}: military uniform", out[1])
    assert all(re.fullmatch(r"0\.\d{6}: .+", line) for line in out[1:6])
    assert re.fullmatch(r"time: \d+\.\d{3}ms", out[6])
    shown = [timeless(line) for line in done.stderr.rstrip("\n").split("\n")]
    shown = [line for line in shown if not line.startswith("INFO:")]  # the runtime's own
    invoked = "teflon: invoked graph, took N ms"
    assert [line for line in shown if line != invoked] == [
        line for line in upstream(chip) if line != invoked
    ]
    assert shown[-10:] == 10 * [invoked]  # two partitions; one run to warm up, four timed


@needs_shared
def test_tensors_of_passes_come_after_those_of_the_file(log: list[str]) -> None:
    with teflon.load(model(), "sim:rk3588"):
        tables = [n for n, line in enumerate(log) if line.startswith("teflon: compiling graph")]
    assert log[tables[0]].startswith("teflon: compiling graph: ")
    rows = log[tables[0] + 3 : log.index("", tables[0])]
    assert [int(row[:3]) for row in rows] == list(range(len(rows)))
    assert len(rows) >= 89


def test_an_operand_that_is_absent() -> None:
    kind = TensorType(DType.INT8, (1, 4))
    node = ListedNode(0, "FULLY_CONNECTED", 4, (0, 1, -1), (2,))
    tensors = tuple(ListedTensor(kind, n == 1) for n in range(3))
    table = verbose.support_table(Listing(tensors, (node,)), {0})
    assert table[-1] == "  0 FC              v4  supported   in: 0(i8) 1(i8) -1(no) out: 2(i8)"
    tables = verbose.partition_tables(Listing(tensors, (node,)), [node])
    assert "  0 FCON            0,1,-1               2                   " in tables


def test_tables(log: list[str]) -> None:
    b = Builder("g")
    x = b.input("x", "i8", (1, 5, 5, 2), scale=0.5, zero_point=-1)
    weights = b.constant(np.ones((4, 2, 2, 2), np.int8), 0.25)
    y = b.conv2d(x, weights, dilation=(2, 1), activation="relu6", scale=0.125, zero_point=-128)
    b.output(b.logistic(y))
    with load(b.build(), "cpu") as model:
        model(np.zeros((1, 5, 5, 2), np.int8))
    times = [line for line in log if "took" in line]
    assert [line.rpartition(" took ")[0] for line in times] == [
        "teflon: compiled graph,",
        "teflon: invoked graph,",
    ]
    assert [line for line in log if "took" not in line] == [
        "Teflon delegate: loaded cpu driver",
        "idx type            ver support     inputs",
        "=" * 96,
        "  0 CONV            v-  supported   in: 0(i8) 1(i8) -1(no) out: 2(i8) ReLU6 dil: 1x2",
        "  1 LOG             v-  supported   in: 2(i8) out: 3(i8)",
        "",
        "teflon: compiling graph: 4 tensors 2 operations",
        "idx scale     zp has_data size        ",
        "=" * 39,
        "  0 0.500000 ffffffff no       1x5x5x2",
        "  1 0.250000   0 yes      4x2x2x2",
        "  2 0.125000 ffffff80 no       1x5x5x4",
        "  3 0.003906 ffffff80 no       1x5x5x4",
        "",
        "idx type            inputs               outputs             ",
        "=" * 74,
        "  0 CONV            0,1,-1               2                   ",
        "  1 LOG             2                    3                   ",
        "",
    ]


def test_operations_that_mesa_has_no_name_for(log: list[str]) -> None:
    with load(chain("n"), "cpu"):
        assert "  0 unknown         v-  supported   in: 0(u8) out: 1(u8)" in log


def test_nothing_is_printed_without_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with load(chain("n"), "cpu") as model:
        model(np.zeros(4, np.uint8))
    assert capsys.readouterr() == ("", "")
