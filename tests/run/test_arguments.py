"""Arguments of the public functions: whatever is given, it works or gets one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.errors import OptionError, TeflonError
from teflon.run.runner import Runner
from teflon.samples import models


class Hostile:
    """An object whose methods all fail."""

    def __fspath__(self) -> str:
        raise RuntimeError("no path")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no array")


class OfBytes:
    """A path of bytes."""

    def __fspath__(self) -> bytes:
        return b"/nothing/here"


VALUES: tuple[Any, ...] = (
    None, 0, 1, 5, -1, 2**80, -(2**70), 1.5, float("nan"), float("inf"), True, False, "", "x",
    "a" * 5000, "\ud800", "\0", b"", b"x", [], [1], (), {}, {1: 2}, object(), object, Hostile(),
    OfBytes(), len, np.zeros(3), np.float32(3), np.int64(3), 1j,
)  # fmt: skip
IDS = [str(number) for number in range(len(VALUES))]
MODEL = str(models.resolve("digits_int8"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let relative paths be in a folder of the test."""
    monkeypatch.chdir(tmp_path)


def attempt(call: Callable[[], object]) -> str:
    """Return the sentence that a call ends with, "" if it works."""
    text = ""
    try:
        call()
    except TeflonError as error:
        text = str(error)
    assert "\n" not in text
    return text


def load(path: Any = MODEL, device: Any = "cpu", **options: Any) -> None:
    with teflon.load(path, device, **{"cache": "off", **options}):
        pass


@pytest.mark.parametrize("value", VALUES, ids=IDS)
def test_load(value: Any) -> None:
    assert attempt(lambda: load(value))
    for name in ("device", "cores", "mode", "shapes", "mmap", "trusted", "limits", "cache", "cpu",
                 "threads", "strategy", "record", "pooling", "memory", "nothing"):  # fmt: skip
        attempt(lambda name=name: load(**{"device": "sim:rk3588", name: value}))  # type: ignore[misc]
    attempt(lambda: load(device="sim:a311d", record=value))
    attempt(lambda: load(device="cpu", shapes={"image": value}))
    attempt(lambda: models.resolve(value))
    for name in ("file_bytes", "mapped"):
        attempt(lambda name=name: teflon.Limits(**{name: value}))  # type: ignore[misc]
    assert set(os.listdir()) <= {"x"}, "only the recording whose name was given"


@pytest.mark.parametrize("value", VALUES, ids=IDS)
def test_the_delegate(value: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    assert attempt(lambda: teflon.tflite_delegate(value, device="no such")) != ""
    for name in ("record", "cache", "device", "strategy"):
        with contextlib.suppress(OptionError):
            from teflon.frontend.delegate.library import _option

            assert isinstance(_option(name, value), str)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": None}, "device: is None, must be a text such as 'auto' or 'sim:rk3588'"),
        ({"device": 5}, "device: is 5, must be a text such as 'auto' or 'sim:rk3588'"),
        ({"record": 5}, "option record: is 5, must be the path of a file"),
        ({"record": "a\0b"}, r"option record: is 'a\x00b', must be the path of a file (embedded"),
        ({"cores": True}, "option cores: is True, must be 1 to 3 or all"),
        ({"strategy": True}, "option strategy: is True, must be a text or a number"),
        ({"path": None}, "model: is of type NoneType, must be a path or the bytes of a file"),
        ({"mmap": 1}, "mmap: is 1, must be True or False"),
        ({"limits": teflon.Limits()}, "limits: are for models that are not trusted, must come"),
    ],
)
def test_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        load(**{"device": "sim:rk3588", **options})
    assert str(caught.value).startswith(sentence)
    assert not os.listdir()


def test_bytes_and_none_are_right() -> None:
    load(Path(MODEL).read_bytes(), "sim:rk3588", record=None, strategy=None, shapes=None)


@pytest.fixture(scope="module")
def model() -> Iterator[Runner]:
    with teflon.load(MODEL, "cpu", cache="off") as opened:
        yield opened


@pytest.mark.parametrize("value", VALUES, ids=IDS)
def test_calls(model: Runner, value: Any) -> None:
    right = np.zeros(model.inputs[0].shape, model.inputs[0].dtype)
    assert attempt(lambda: model(value))
    assert attempt(lambda: model.run(value))
    assert attempt(lambda: model.submit(value).result())
    assert attempt(lambda: asyncio.run(model.run_async(value)))
    attempt(lambda: model.reset_state(value))
    attempt(lambda: model.submit(right, stream=value).result())
    attempt(lambda: list(model.map(value)))
    assert attempt(lambda: list(model.map([value])))
    assert attempt(lambda: model(image=value))
    with contextlib.suppress(TypeError):  # a mapping cannot have it
        assert attempt(lambda named={value: right}: model(named))  # type: ignore[misc]
