"""Pages are true: generated ones are fresh, commands in them parse, Python in them runs."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import make_docs
from teflon import cli, debug, pipe
from teflon.plugins import discover
from tests.paths import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
OURS = [p for p in PAGES if "hardware" not in p.parts]


def code(path: Path) -> list[str]:
    """Return the lines of indented code blocks."""
    return [line.strip() for line in path.read_text().splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("path", make_docs.pages(), ids=lambda p: p.name)
def test_generated_pages_are_fresh(path: Path) -> None:
    assert path.read_text() == make_docs.pages()[path], "run python -P tools/make_docs.py"


@pytest.mark.parametrize("kind", [pipe.Driver, pipe.Device, pipe.Program, pipe.Context])
def test_the_interface_is_documented_whole(kind: type) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    members = {*vars(kind), *inspect.get_annotations(kind)}
    for name in (name for name in members if not name.startswith("_")):
        assert f"\n### {kind.__name__}.{name}\n" in page


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_commands_parse(path: Path) -> None:
    lines = [line.partition("#")[0] for line in code(path)]
    commands = [re.sub(r"^(\w+=\S+ )+", "", line) for line in lines]
    for command in commands:
        words = shlex.split(command) if command.startswith("teflon ") else []
        if words:
            cli.parser().parse_args(words[1:])


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:teflon|drivers|tests|tools|docs|benchmarks)/[\w/.]+)`", path.read_text()
    )
    for name in named:
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_python_in_pages_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S):
        exec(compile(block, str(path), "exec"), {})
    capsys.readouterr()


def test_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    for name in commands():
        assert f"`teflon {name}`" in text, f"README.md does not name teflon {name}"


def commands() -> list[str]:
    actions = [a for a in cli.parser()._actions if isinstance(a.choices, dict)]
    return list(actions[0].choices or ())


def test_every_debug_flag_does_something() -> None:
    sources = [*ROOT.glob("teflon/**/*.py"), *ROOT.glob("drivers/*/teflon_*/**/*.py")]
    text = "\n".join(p.read_text() for p in sources)
    flags = {f for d in discover().drivers.values() for f in d.debug_flags} | debug.FLAGS.keys()
    for flag in flags:
        assert f'enabled("{flag}")' in text, f"nothing asks for TEFLON_DEBUG={flag}"
