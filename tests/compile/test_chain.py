"""The chain of devices: NPU, reference, the file's own runtime; options, caches, compiled files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.compile import source
from teflon.compile.chain import Host, host_cache_options
from teflon.compile.planning import plan_model
from teflon.devices import devices, open_device
from teflon.errors import OptionError, ProgramError, TeflonError, UnsupportedOperation
from teflon.frontend.tflite.emit import table
from teflon.plugins import discover
from tests.frontend.tflite.helpers import code, operator, relu, tensor
from tests.frontend.tflite.structures import loop_with_variable
from tests.oracle import Oracle, needs_oracle

Capture = pytest.CaptureFixture[str]
pytestmark = needs_oracle

X = np.arange(-32, 32, dtype=np.int8).reshape(1, 1, 1, 64) * 4
CLAMPED = np.maximum(X, 0)


def mixed() -> bytes:
    """RELU of int8, then DEQUANTIZE, SIGN (that only TFLite knows) and QUANTIZE."""
    shape = (1, 1, 1, 64)
    return relu(
        tensors=[
            tensor("x", shape, "INT8"),
            tensor("clamped", shape, "INT8"),
            tensor("real", shape, "FLOAT32"),
            tensor("sign", shape, "FLOAT32"),
            tensor("y", shape, "INT8"),
        ],
        operators=[operator([n], [n + 1], n) for n in range(4)],
        codes=[code("RELU"), code("DEQUANTIZE", 2), code("SIGN"), code("QUANTIZE")],
        outputs=[1, 4],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mixed.tflite"
    file.write_bytes(mixed())
    return file


def places(model: Any) -> dict[str, str]:
    rows = model.report().as_dict()["operations"]
    return {row["kind"]: row["device"].split()[0] for row in rows}


def test_each_operation_goes_to_the_first_that_can(path: Path) -> None:
    wanted = Oracle(path).run([X])
    with teflon.load(path, "cpu", cache="off") as model:
        assert places(model) == {
            "RELU": "cpu", "DEQUANTIZE": "cpu", "SIGN": "tflite", "QUANTIZE": "cpu",
        }  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(model.run(X), wanted, strict=True))
    with teflon.load(path, "cpu", cpu="tflite", cache="off") as model:
        assert set(places(model).values()) == {"tflite"}
        assert all(np.array_equal(a, b) for a, b in zip(model.run(X), wanted, strict=True))
    with teflon.load(path, "sim:rk3588", cpu="tflite", threads=2, cache="off") as model:
        assert model.plan.devices == ("rocket rk3588", "tflite", "cpu")
        assert all(np.array_equal(a, b) for a, b in zip(model.run(X), wanted, strict=True))


def test_no_runtime_is_in_a_chain_that_needs_none() -> None:
    with teflon.load(relu(), "cpu", cache="off") as model:
        assert model.plan.devices == ("cpu",)


def test_without_a_runtime_the_error_names_operation_and_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teflon_tflite.device.found", lambda: "")
    with pytest.raises(UnsupportedOperation) as caught:
        teflon.load(path, "rk3588", cache="off")
    assert str(caught.value).startswith("SIGN 'sign': ")
    assert "no TFLite runtime is installed (pip install 'teflon-npu[tflite]')" in str(caught.value)


def test_a_warm_load_reads_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "cache"
    hosts: list[dict[str, Any]] = [{}, {"cpu": "tflite"}]
    for host in hosts:
        with teflon.load(path, "sim:rk3588", cache=store, **host) as model:
            cold, where = model.run(X), places(model)
        with monkeypatch.context() as without:
            without.setattr(source, "graph_of", None)
            with teflon.load(path, "sim:rk3588", cache=store, **host) as model:
                assert places(model) == where
                assert all(np.array_equal(a, b) for a, b in zip(model.run(X), cold, strict=True))


def test_a_compiled_file_has_the_runtimes_part(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed.teflon"
    assert main(["compile", str(path), "--device", "cpu", "-o", str(out)]) == 0
    wanted = Oracle(path).run([X])
    path.unlink()
    with teflon.load(out, "cpu") as model:
        assert places(model)["SIGN"] == "tflite"
        assert all(np.array_equal(a, b) for a, b in zip(model.run(X), wanted, strict=True))


def test_a_compiled_file_without_its_driver(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mixed.teflon"
    assert main(["compile", str(path), "--device", "cpu", "-o", str(out)]) == 0
    monkeypatch.delitem(discover().drivers, "tflite")
    with pytest.raises(ProgramError, match="driver tflite: is not installed"):
        teflon.load(out, "cpu")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cpu": "tflit"}, r"option cpu: is 'tflit', must be one of reference, .*mean tflite"),
        ({"threads": "2"}, "belongs to the runtime that cpu= names"),
        ({"cpu": "tflite", "threads": "0"}, "option threads: is '0', must be a number of at least"),
        ({"cpu": "tflite", "threads": "two"}, "option threads: is 'two'"),
        ({"cpu": 1.5}, "option cpu: is 1.5, must be a text or a number"),
    ],
)
def test_wrong_options_get_a_sentence(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        teflon.load(mixed(), "cpu", cache="off", **options)


def test_another_formats_runtime_is_refused(path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"device": "onnxruntime"},
        {"device": "sim:rk3588", "cpu": "onnxruntime"},
    ]
    for given in wrong:
        with pytest.raises(OptionError, match=r"its runtime reads files of the format onnx, "):
            teflon.load(path, cache="off", **given)


def test_host_options_are_not_the_drivers() -> None:
    given = {"cpu": "tflite", "threads": 3, "strategy": "x", "cache": "off"}
    spec, host, cache, rest = host_cache_options(given)
    assert (spec, host, rest) == ("", Host("tflite", "3"), {"strategy": "x"})
    assert cache.folder is None
    assert host_cache_options({"threads": 2}, "tflite")[3] == {"threads": 2}


def test_auto_never_means_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEFLON_DEVICE", raising=False)
    with pytest.raises(TeflonError, match="no NPU was found") as caught:
        open_device("auto")
    assert "tflite" not in str(caught.value)
    kinds = {row.kind for row in devices() if row.driver == "tflite"}
    assert kinds == {"node"}


def test_check_names_the_runtime(path: Path, capsys: Capture) -> None:
    assert main(["check", str(path), "--device", "rk3588"]) == 0
    out = capsys.readouterr().out
    assert "tflite: 1 of 4 operations" in out


def test_a_graph_without_a_file_has_no_runtime() -> None:
    graph = source.read_graph(mixed())
    from teflon.ir.text import parse, to_text

    alone = parse(to_text(graph), "text")
    assert plan_model(graph, open_device("cpu")[0]).unplaced == ()
    assert [p.op.kind_name for p in plan_model(alone, open_device("cpu")[0]).unplaced] == ["SIGN"]


def texts_model() -> bytes:
    """Return a model that picks the third and the first of three texts."""
    return relu(
        tensors=[
            tensor("x", (3,), "STRING"),
            tensor("y", (2,), "STRING"),
            tensor("places", (2,), "INT32", buffer=1),
        ],
        operators=[operator([0, 2], [1], builtin_options=table("GatherOptions"))],
        codes=[code("GATHER", 4)],
        constants=[np.array([2, 0], np.int32)],
    )


@pytest.mark.parametrize(
    "given",
    [["a", "bb", "é"], np.array(["a", "bb", "é"]), np.array(["a", "bb", "é"], object),
     np.array([b"a", b"bb", "é".encode()])],
)  # fmt: skip
def test_texts_go_through(given: Any) -> None:
    with teflon.load(texts_model(), "sim:rk3588", cache="off") as model:
        assert str(model.inputs[0]) == "object[3]"
        assert model(given)["y"].tolist() == ["é".encode(), b"a"]
        with pytest.raises(OptionError, match=r"input 'x': is uint8\[3\], must be object\[3\]"):
            model(np.zeros(3, np.uint8))


def test_texts_are_printed_and_stored(tmp_path: Path, capsys: Capture) -> None:
    file, out = tmp_path / "texts.tflite", tmp_path / "out.npz"
    file.write_bytes(texts_model())
    np.save(tmp_path / "x.npy", np.array([b"one", b"two", b"three"]))
    words = ["run", str(file), "--device", "cpu", "--input", str(tmp_path / "x.npy")]
    assert main([*words, "-o", str(out)]) == 0
    assert "y: texts[2], b'three', b'one'" in capsys.readouterr().out
    assert np.load(out)["y"].tolist() == [b"three", b"one"]


def test_the_cache_does_not_mix_up_files_whose_loops_differ(tmp_path: Path) -> None:
    """Operations, options and types are equal; what the subgraphs do is not."""
    short = loop_with_variable()
    limit = np.full((), 3, np.float32).tobytes()
    assert short.count(limit) == 1
    found = []
    for data in (short, short.replace(limit, np.full((), 300, np.float32).tobytes())):
        with teflon.load(data, "cpu", cache=str(tmp_path)) as model:
            found.append(model.run(np.float32(0))[0])
        assert found[-1] == Oracle(data).run([np.array(0, np.float32)])[0]
    assert found[0] != found[1]
