"""What can run nowhere is refused by every command, in one sentence, before any inference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import teflon
from teflon.cli import main
from teflon.errors import UnsupportedOperation
from tests.frontend.tflite.helpers import code, operator, relu, tensor

Capture = pytest.CaptureFixture[str]
DEVICES = ("cpu", "rk3588", "sim:rk3588", "sim:a311d")


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A model with RELU, an operator that nobody knows, and RELU again."""
    data = relu(
        tensors=[tensor(name) for name in ("x", "a", "b", "y")],
        operators=[operator([0], [1]), operator([1], [2], 1), operator([2], [3])],
        codes=[code("RELU"), code("CUSTOM", custom_code="Unheard")],
        outputs=[3],
    )
    path = tmp_path / "strange.tflite"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("device", DEVICES)
def test_loading_refuses(strange: Path, device: str) -> None:
    with pytest.raises(UnsupportedOperation, match=r"^Unheard 'b': ") as caught:
        teflon.load(strange, device, cache="off")
    assert "no custom operation 'Unheard'" in str(caught.value)
    assert "cpu: " in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("check",),
        ("check", "--json"),
        ("compile", "-o", "OUT"),
        ("run",),
        ("bench",),
        ("compare",),
        ("estimate",),
        ("dump", "--stage", "programs"),
        ("record", "-o", "OUT.npz"),
    ],
    ids=" ".join,
)
def test_every_command_fails_with_one_sentence(
    strange: Path, tmp_path: Path, capsys: Capture, words: tuple[str, ...]
) -> None:
    verb, *rest = (word.replace("OUT", str(tmp_path / "out")) for word in words)
    assert main([verb, str(strange), "--device", "sim:rk3588", *rest]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("teflon: Unheard 'b': ")
    assert told.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["strange.tflite"], "nothing is left"


def test_check_shows_the_whole_table_first(strange: Path, capsys: Capture) -> None:
    assert main(["check", str(strange), "--device", "rk3588", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["operations"]
    assert [row["runs"] for row in rows] == [True, False, True]
    assert main(["check", str(strange), "--device", "rk3588"]) == 1
    assert "nowhere" in capsys.readouterr().out
