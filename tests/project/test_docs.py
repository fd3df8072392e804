"""Pages are true: generated ones are fresh, commands in them parse, Python in them runs."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
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


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_links_lead_to_headings(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", path.read_text()):
        if "://" not in target:
            page = path.parent / target if target else path
            assert anchor in anchors(page), f"{path.name} links to {target}#{anchor}"


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:teflon|drivers|tests|tools|docs|benchmarks)/[\w/.]+)`", path.read_text()
    )
    for name in named:
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """Return (language, file, text) of a page's blocks.

    The first line of a block may be a comment with the name of the file that it is.
    """
    found = re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.M | re.S)
    names = [re.match(r"# ([\w/.]+)\n", text) for _, text in found]
    return [
        (language, name[1] if name else "", text)
        for (language, text), name in zip(found, names, strict=True)
    ]


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_python_in_pages_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for language, file, block in blocks(path):
        if language == "python" and not file:
            exec(compile(block, str(path), "exec"), {})
    capsys.readouterr()


def install(folder: Path, files: dict[str, str]) -> None:
    """Put a page's files into a folder; its pyproject.toml becomes an installed distribution."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (metadata / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
    points = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join([*points, ""]))


WITH_FILES = [path for path in OURS if any(file for _, file, _ in blocks(path))]


@pytest.mark.parametrize("path", WITH_FILES, ids=lambda p: p.name)
def test_plugins_in_pages_pass_their_own_tests(path: Path, tmp_path: Path) -> None:
    install(tmp_path, {file: text for _, file, text in blocks(path) if file})
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TEFLON_CACHE": "off"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_has_a_plugin() -> None:
    assert "add-a-frontend.md" in [path.name for path in WITH_FILES]


GLOSSARY = ROOT / "docs" / "glossary.md"


def glossary() -> list[list[str]]:
    """Return the terms of each row: a term and other words for it."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", GLOSSARY.read_text(), re.M)[2:]
    return [[term.strip(" `") for term in row.split(",")] for row in rows]


def test_the_glossary_is_sorted_and_has_each_term_once() -> None:
    firsts = [row[0].casefold() for row in glossary()]
    assert firsts == sorted(firsts)
    terms = [term.casefold() for row in glossary() for term in row]
    assert len(terms) > 50
    assert [term for term in set(terms) if terms.count(term) > 1] == []


def test_every_term_of_the_glossary_is_used() -> None:
    sources = [*ROOT.glob("teflon/**/*.py"), *ROOT.glob("drivers/*/teflon_*/**/*.py")]
    text = "\n".join(p.read_text() for p in (*PAGES, *sources) if p != GLOSSARY)
    for term in itertools.chain.from_iterable(glossary()):
        flags = re.I if term.islower() else 0
        assert re.search(rf"\b{re.escape(term)}(s|ed)?\b", text, flags), f"nobody says {term!r}"


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
