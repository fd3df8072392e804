"""The compile cache: keys, whole models, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import debug
from teflon.cli import main
from teflon.compile import cache, programs
from teflon.compile.cache import Cache, cache_for
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import OptionError
from teflon.frontend.tflite import reader
from teflon.ir import Graph
from teflon.pipe import Device
from teflon.samples import models
from tests.compile.helpers import files, run
from tests.contract.helpers import FakeDevice, chain

pytestmark = pytest.mark.usefixtures("forget_warnings")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Count what the rocket compiler is asked to compile."""
    from teflon_rocket.device import RocketDevice

    seen: list[Graph] = []
    inner = RocketDevice.compile

    def compile_(self: RocketDevice, subgraph: Graph) -> Any:
        seen.append(subgraph)
        return inner(self, subgraph)

    monkeypatch.setattr(RocketDevice, "compile", compile_)
    return seen


def rocket(**options: str) -> Device:
    return open_device("rk3588", options)[0]


DIGITS = ("digits_int8", "digits_uint8")


def parts() -> list[Graph]:
    """What the NPU runs of each of two models."""
    from teflon.compile.planning import plan_model

    plans = [plan_model(read_graph(models.resolve(name)), rocket()) for name in DIGITS]
    return [part.graph for plan in plans for part in plan.partitions if part.device == 0]


# Keys


def test_the_key_covers_everything_that_decides(store: Cache) -> None:
    one, other = parts()
    exact, mesa = programs.identity(rocket()), programs.identity(rocket(strategy="mesa"))
    assert exact
    assert mesa
    keys = {programs.program_key(i, g) for i in (exact, mesa) for g in (one, other)}
    assert len(keys) == 4
    assert programs.program_key(exact, one) == programs.program_key(exact, parts()[0])


def test_an_edit_of_the_compiler_changes_the_key(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import teflon_x;"
        "from teflon.compile import programs; print(programs.source_hash('teflon_x'))"
    )

    def stamp() -> str:
        command = [sys.executable, "-P", "-c", script, str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    package = tmp_path / "teflon_x" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "pack.py").write_text("x = 1\n")
    first = stamp()
    assert stamp() == first
    (package / "pack.py").write_text("x = 2\n")
    os.utime(package / "pack.py", (1, 1))
    assert stamp() != first


def test_a_damaged_program_is_compiled_again(store: Cache, compiled: list[Graph]) -> None:
    """Any byte of it: the program's own checksum guards it."""
    device, graph = rocket(), parts()[1]
    want = programs.compile_program(device, graph, store).to_bytes()
    (file,) = files(store)
    whole = file.read_bytes()
    places = range(16, len(whole), 97)
    for at in places:
        broken = bytearray(whole)
        broken[at] ^= 64
        file.write_bytes(broken)
        assert programs.compile_program(device, graph, store).to_bytes() == want
        assert file.read_bytes() == whole
    assert len(compiled) == 1 + len(places)


def test_a_device_without_signature_is_not_cached(store: Cache) -> None:
    device, graph = FakeDevice(), chain("n")
    for _ in range(2):
        programs.compile_program(device, graph, store)
    assert len(device.compiled) == 2
    assert files(store) == []


def test_the_second_time_nothing_is_compiled(store: Cache, compiled: list[Graph]) -> None:
    graph = parts()[0]
    first = programs.compile_program(rocket(), graph, store)
    second = programs.compile_program(rocket(), graph, store)
    assert len(compiled) == 1
    assert second.to_bytes() == first.to_bytes()


def test_an_entry_that_the_driver_refuses(store: Cache, compiled: list[Graph]) -> None:
    device, graph = rocket(), parts()[0]
    made_by = programs.identity(device)
    assert made_by
    store.put(programs.program_key(made_by, graph), b"TEFLONPR of another time")
    assert programs.compile_program(device, graph, store).statistics
    assert programs.compile_program(device, graph, store).statistics
    assert len(compiled) == 1


# Whole models


@pytest.mark.parametrize("name", ["digits_int8", "digits_uint8"])
def test_a_warm_load_is_the_same_model(
    name: str, store: Cache, compiled: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.resolve(name)
    cold = teflon.load(path, "sim:rk3588", cache=store.folder)
    count = len(compiled)
    assert count > 0

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(reader, "read", never)
    warm = teflon.load(path, "sim:rk3588", cache=store.folder)
    assert len(compiled) == count
    assert str(warm.report()) == str(cold.report())
    assert warm.report().as_dict() == cold.report().as_dict()
    assert warm.inputs == cold.inputs
    inputs = {i.name: np.full(i.shape, 9, i.dtype) for i in cold.inputs}
    for name_, array in cold(inputs).items():
        assert np.array_equal(warm(inputs)[name_], array)
    for mine, theirs in zip(warm.graph.constants, cold.graph.constants, strict=True):
        assert mine.data is not None
        assert np.array_equal(mine.data, theirs.data)  # type: ignore[arg-type]
        assert not mine.data.flags.writeable
    cold.close()
    warm.close()


def test_a_model_with_one_other_byte_is_compiled_again(
    store: Cache, tmp_path: Path, compiled: list[Graph]
) -> None:
    data = bytearray(models.resolve("digits_int8").read_bytes())
    graph = read_graph(models.resolve("digits_int8"))
    weights = max((v for v in graph.constants), key=lambda v: v.type.size_bytes)
    assert weights.data is not None
    at = data.index(weights.data.tobytes())
    run(models.resolve("digits_int8"), cache=store.folder)
    count = len(compiled)
    data[at] ^= 1
    (tmp_path / "changed.tflite").write_bytes(data)
    run(tmp_path / "changed.tflite", cache=store.folder)
    assert len(compiled) > count


def test_the_same_model_under_another_name_is_not_compiled_again(
    store: Cache, tmp_path: Path, compiled: list[Graph]
) -> None:
    first = run(models.resolve("digits_int8"), cache=store.folder)
    count = len(compiled)
    (tmp_path / "copy.tflite").write_bytes(models.resolve("digits_int8").read_bytes())
    second = run(tmp_path / "copy.tflite", cache=store.folder)
    assert len(compiled) == count
    for name in first:
        assert np.array_equal(first[name], second[name])


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff.tflite"), "two\nlines.tflite"])
def test_a_file_name_may_be_any_bytes(
    store: Cache, tmp_path: Path, compiled: list[Graph], name: str
) -> None:
    (tmp_path / name).write_bytes(models.resolve("digits_int8").read_bytes())
    run(tmp_path / name, cache=store.folder)
    count = len(compiled)
    run(tmp_path / name, cache=store.folder)
    assert len(compiled) == count


def test_any_lost_or_damaged_entry_is_made_again(store: Cache) -> None:
    path = models.resolve("digits_int8")
    want = run(path, cache=store.folder)
    whole = files(store)
    for file in whole:
        for damage in (b"", file.read_bytes()[:-7], b"x" * 99):
            file.write_bytes(damage)
            got = run(path, cache=store.folder)
            assert all(np.array_equal(got[name], want[name]) for name in want)
            assert files(store) == whole
        file.unlink()
        run(path, cache=store.folder)
        assert files(store) == whole


def test_a_malformed_plan_is_made_again(store: Cache) -> None:
    path = models.resolve("digits_int8")
    run(path, cache=store.folder)
    for file in files(store):
        payload = file.read_bytes()[cache._HEAD.size :]
        if payload.startswith(b"{"):
            plain = json.loads(payload)
            plain["plan"]["partitions"] = plain["plan"]["partitions"][:-1]
            assert store.put(bytes.fromhex(file.stem), json.dumps(plain).encode())
            break
    else:
        pytest.fail("no plan was kept")
    assert run(path, cache=store.folder)


# Settings


def test_off_and_nocache_store_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[Graph]
) -> None:
    monkeypatch.setenv("TEFLON_CACHE", str(tmp_path / "c"))
    run(models.resolve("digits_int8"), cache="off")
    assert not (tmp_path / "c").exists()
    enabled = debug.enabled
    monkeypatch.setattr(debug, "enabled", lambda flag: flag == "nocache" or enabled(flag))
    run(models.resolve("digits_int8"))
    assert not (tmp_path / "c").exists()
    monkeypatch.undo()
    monkeypatch.setenv("TEFLON_CACHE", str(tmp_path / "c"))
    run(models.resolve("digits_int8"))
    assert list((tmp_path / "c").iterdir())


@pytest.mark.parametrize("setting", [None, False, "off", "OFF", " off", "off\n"])
def test_ways_to_say_off(setting: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEFLON_CACHE", str(tmp_path / "c"))
    assert cache_for(setting) == Cache(None)
    with teflon.load(models.resolve("digits_int8"), "rk3588", cache=setting):
        assert not (tmp_path / "c").exists()


def test_the_folder_may_be_a_path_object(tmp_path: Path) -> None:
    assert cache_for(tmp_path) == cache_for(str(tmp_path)) == Cache(tmp_path)


@pytest.mark.parametrize("setting", [True, 0, 5, 1.5, b"c", ["c"], {"c": 1}, object()])
def test_settings_that_are_neither_path_nor_off_are_refused(
    setting: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No object becomes a folder's name."""
    monkeypatch.chdir(tmp_path)
    message = r"^cache: is .*, must be a folder's path, or off$"
    with pytest.raises(OptionError, match=message):
        teflon.load(models.resolve("digits_int8"), "rk3588", cache=setting)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["a\0b", "a" * 5000, "~nobody-of-this-name/x"])
def test_invalid_paths_are_refused(setting: str) -> None:
    with pytest.raises(OptionError, match=r"^cache: is .{,210}, must be a folder, or off$"):
        cache_for(setting)


def test_an_entry_that_is_cleared_while_it_is_written_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replace = os.replace

    def cleared_first(source: str, target: Path) -> None:
        Cache(tmp_path).clear()
        replace(source, target)

    monkeypatch.setattr(os, "replace", cleared_first)
    Cache(tmp_path).put(bytes(32), b"payload")
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").touch()
    with pytest.raises(OptionError, match="must be a folder, or off"):
        teflon.load(models.resolve("digits_int8"), "rk3588", cache=tmp_path / "c")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "c"
    monkeypatch.setenv("TEFLON_CACHE", str(folder))

    def shown(*arguments: str) -> Any:
        assert main(["cache", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    empty = shown()
    assert (empty["folder"], empty["entries"], empty["bytes"]) == (str(folder), 0, 0)
    run(models.resolve("digits_int8"))
    full = shown("show")
    assert full["entries"] == 2
    assert full["bytes"] == sum(f.stat().st_size for f in folder.iterdir())
    assert full["newest"].startswith(time.strftime("%Y-"))
    assert main(["cache"]) == 0
    assert str(folder) in capsys.readouterr().out
    assert shown("clear") == {"folder": str(folder), "removed": 2}
    assert shown()["entries"] == 0
    monkeypatch.setenv("TEFLON_CACHE", "off")
    assert shown()["folder"] == "off"


def test_a_plugin_of_one_module_depends_on_its_own_file(tmp_path: Path) -> None:
    """Its folder is site-packages: what else lies there has no part in its programs."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lone;"
        "from teflon.compile import programs; print(list(programs._files_of('lone')))"
    )
    (tmp_path / "lone.py").write_text("x = 1\n")
    (tmp_path / "other.py").touch()
    command = [sys.executable, "-P", "-c", script, str(tmp_path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "lone.py 6 " in found
    assert "other.py" not in found
