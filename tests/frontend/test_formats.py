"""Formats of model files come through entry points; who recognises a file reads it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import plugins
from teflon.cli import main
from teflon.compile.source import open_model, read_graph
from teflon.errors import ModelError, OptionError
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.text import to_text
from teflon.pipe import Frontend, ModelFile, Source
from teflon.plugins import formats, hookimpl
from teflon.samples import models

Install = Callable[..., None]
KNOWN = (
    "must be one of .onnx (ONNX), .ir (the text form of a graph), .tflite (TensorFlow Lite),"
    " .teflon (written by teflon compile)"
)


class WordsFile(ModelFile):
    """A model whose file says how many elements are doubled: `WORDS 3`."""

    def __init__(self, content: bytes) -> None:
        self.name, self.content = "words", content

    def graph(self) -> Graph:
        b = Builder("words")
        x = b.input("x", "u8", (int(bytes(self.content).split()[1]),), scale=0.5, zero_point=3)
        b.output(b.add(x, x, scale=1.0, zero_point=3))
        return b.build()


@dataclass(frozen=True)
class Words(Frontend):
    """A third-party frontend; `made` is returned by `read` if it is given."""

    made: object = None
    sniffs: Callable[[bytes], Any] = field(default=lambda head: head.startswith(b"WORDS"))

    def sniff(self, head: bytes) -> bool:
        return self.sniffs(head)  # type: ignore[no-any-return]

    def read(self, source: Source) -> ModelFile:
        if isinstance(self.made, Exception):
            raise self.made
        if self.made is not None:
            return self.made  # type: ignore[return-value]
        return WordsFile(source if isinstance(source, bytes) else Path(source).read_bytes())


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Add frontends to our own."""
    points = list(entry_points(group=plugins.FRONTENDS))

    def put(frontend: object, name: str = "words") -> None:
        module = ModuleType(f"fake_{name}")
        hook = hookimpl(lambda: frontend)
        vars(module)["teflon_frontend"] = hook
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points.append(EntryPoint(name, module.__name__, plugins.FRONTENDS))
        formats.cache_clear()

    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group: points if group == plugins.FRONTENDS else entry_points(group=group),
    )
    yield put
    formats.cache_clear()


def words(**fields: Any) -> Words:
    return Words("words", "models of words", (".words",), **fields)


def described(**fields: object) -> WordsFile:
    """Return a model file with other fields."""
    file = WordsFile(b"WORDS 3")
    vars(file).update(fields)
    return file


CONTENT = "the content of its ModelFile is of type"


def test_our_frontends_are_ordinary_plugins() -> None:
    formats.cache_clear()
    assert list(formats().frontends) == ["onnx", "text", "tflite"]
    assert formats().broken == {}


def test_a_third_party_format_runs_like_ours(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(words())
    path = tmp_path / "m.words"
    path.write_bytes(b"WORDS 3")
    for source in (path, str(path), b"WORDS 3"):
        with teflon.load(source, "cpu") as model:
            (result,) = model(np.array([3, 4, 5], np.uint8)).values()
        assert result.tolist() == [3, 4, 5]
    assert main(["check", str(path), "--device", "rk3588"]) == 0
    assert "ADD" in capsys.readouterr().out


def test_content_counts_before_the_suffix(install: Install, tmp_path: Path) -> None:
    install(words())
    path = tmp_path / "m.tflite"
    path.write_bytes(b"WORDS 3")
    assert read_graph(path).name == "words"
    path.write_bytes(b"words 3")  # no frontend recognises it, so the suffix decides
    with pytest.raises(ModelError, match=r"^m\.tflite: identifier: is b's 3', must be b'TFL3'"):
        read_graph(path)


def test_a_frontend_s_version_is_part_of_the_cache_s_key(install: Install, tmp_path: Path) -> None:
    install(words())
    (tmp_path / "m").write_bytes(b"WORDS 2")
    options = {"device": "rk3588", "cache": tmp_path / "c"}
    with teflon.load(tmp_path / "m", **options) as first:  # type: ignore[arg-type]
        want = first.report().as_dict()
    with teflon.load(tmp_path / "m", **options) as second:  # type: ignore[arg-type]
        assert second.report().as_dict() == want


@pytest.mark.parametrize("name", ["m.bin", "m", "m.txt"])
def test_the_error_for_an_unknown_format_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01nothing that we know")
    with pytest.raises(ModelError) as caught:
        teflon.load(tmp_path / name, "cpu")
    assert str(caught.value) == f"{tmp_path / name}: has no known format, {KNOWN}"
    with pytest.raises(ModelError) as caught:
        teflon.load(b"\x00\x01nothing", "cpu")
    assert str(caught.value) == f"9 bytes: has no known format, {KNOWN}"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04....", "is a ZIP archive: unpack it first"),
        (b"<html>", "is text in angle brackets, perhaps a web page that was saved instead"),
    ],
)
def test_files_that_are_often_mistaken_for_models(
    tmp_path: Path, content: bytes, what: str
) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_graph(tmp_path / "m")
    assert str(caught.value).startswith(f"{tmp_path / 'm'}: {what}")


@pytest.mark.parametrize("source", [None, 5, 1.5, ["m"], object(), bytearray(10_000)])
def test_sources_that_are_neither_path_nor_bytes(source: Any) -> None:
    message = r"^model: is of type \w+, must be a path or the bytes of a file$"
    with pytest.raises(OptionError, match=message):
        teflon.load(source, "cpu")


def test_bytes_of_every_format_of_ours(tmp_path: Path) -> None:
    path = models.resolve("digits_int8")
    wanted = to_text(read_graph(path))
    assert to_text(read_graph(path.read_bytes())).partition("\n")[2] == wanted.partition("\n")[2]
    assert to_text(read_graph(wanted.encode())) == wanted
    assert main(["compile", str(path), "--device", "rk3588", "-o", str(tmp_path / "m")]) == 0
    with teflon.load((tmp_path / "m").read_bytes(), "sim:rk3588") as model:
        assert model.plan.devices[0] == "rocket rk3588"


def raising(error: Exception) -> Callable[[bytes], Any]:
    def sniff(_: bytes) -> Any:
        raise error

    return sniff


def test_a_sniff_that_raises_does_not_affect_other_frontends(install: Install) -> None:
    install(words(sniffs=raising(ValueError("oh"))))
    assert read_graph(models.resolve("digits_int8")).ops


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (ZeroDivisionError("division"), "ZeroDivisionError: division"),
        (5, "it returned 5, must be a ModelFile"),
        (described(name=None), "the name of its ModelFile is None, must be a text"),
        (described(content=None), f"{CONTENT} NoneType, must be bytes or a memoryview"),
        (described(content="WORDS 3"), f"{CONTENT} str, must be bytes or a memoryview"),
    ],
)
def test_a_frontend_that_fails_is_named(
    install: Install, tmp_path: Path, made: object, why: str
) -> None:
    install(words(made=made))
    (tmp_path / "m").write_bytes(b"WORDS 3")
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path / "m")
    what = f"frontend words failed, {why} (please report it to its authors)"
    assert str(caught.value) == f"{tmp_path / 'm'}: {what}"


def test_a_suffix_may_have_several_dots(install: Install, tmp_path: Path) -> None:
    made = described()
    install(Words("words", "models of words", (".words.v2",), made=made, sniffs=lambda _: False))
    (tmp_path / "M.WORDS.V2").write_bytes(b"3")
    assert open_model(tmp_path / "M.WORDS.V2") is made


class Failing(WordsFile):
    """A reader that raises, or returns something else than a graph."""

    def __init__(self, made: object) -> None:
        super().__init__(b"WORDS 3")
        self.made = made

    def graph(self) -> Graph:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (KeyError("word"), "KeyError: 'word'"),
        ([], r"it returned \[\], must be a Graph"),
    ],
)
def test_a_reader_that_fails_is_named(
    install: Install, tmp_path: Path, made: object, why: str
) -> None:
    install(words(made=Failing(made)))
    message = rf"^words: reader .*\.Failing failed, {why} \(please report it to its authors\)$"
    for use in (read_graph, lambda source: teflon.load(source, "cpu", cache=tmp_path)):
        with pytest.raises(ModelError, match=message):
            use(b"WORDS 3")


def test_devices_lists_broken_frontends(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(7)
    assert main(["devices"]) == 0
    assert "frontend words: broken plugin" in capsys.readouterr().out


def test_a_reader_s_own_message_stays(install: Install) -> None:
    install(words(made=ModelError("m: too many words")))
    with pytest.raises(ModelError, match=r"^m: too many words$"):
        open_model(b"WORDS 3")


@pytest.mark.parametrize(
    ("frontend", "reason"),
    [
        (None, "TypeError: teflon_frontend of words must return one Frontend, is []"),
        (7, "TypeError: teflon_frontend of words must return one Frontend, is [7]"),
        (Words("tflite", "another", (".x",)), "the frontend name 'tflite' is taken by"),
        (Words("a b", "another", (".x",)), "the frontend name 'a b' cannot be used"),
        (Words("words", "another", ("X",)), "suffixes is ('X',), must be endings in lower case"),
        (Words("words", "another", ".x"), "suffixes is '.x', must be endings in lower case"),  # type: ignore[arg-type]
        (
            Words("words", "another", (".x",), (9, 1)),
            "is written for interface 9.1, must be 1.0 to 1.4",
        ),
    ],
)
def test_a_broken_plugin_is_listed_and_the_others_work(
    install: Install, tmp_path: Path, frontend: object, reason: str
) -> None:
    install(frontend)
    assert formats().broken["words"].startswith(reason)
    assert read_graph(models.resolve("digits_int8")).ops
    (tmp_path / "m").write_bytes(b"WORDS 3")
    with pytest.raises(ModelError, match=r"; frontend words is broken: "):
        open_model(tmp_path / "m")
