"""Other compilers, C libraries and machines, by the recipe that `teflon board --shim-source`
prints; and the sentence about programs that the preload library does not reach.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.board.board import source
from teflon.board.program import Elf, unreached
from tests.board.helpers import (
    TEFLON,
    compiled,
    needs_compiler,
    small_board,
    teflon_board,
)

ARM, EMULATOR, SYSROOT = "aarch64-linux-gnu-gcc", "qemu-aarch64", Path("/usr/aarch64-linux-gnu")
PROGRAMS = ("files.c", "paths.c", "nodes.c", "processes.c")
STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror")


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if not shutil.which(tool)]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")


def recipe(compiler: str) -> tuple[list[str], str]:
    """Return the printed commands: that compiles the shim, and what a board runs."""
    done = subprocess.run([*TEFLON, "board", "--shim-source"], capture_output=True, text=True)
    lines = [line.partition(":")[2].strip() for line in done.stdout.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith(compiler))
    return shlex.split(lines[at]), lines[at + 1].removeprefix("teflon board CHIP -- ")


def check_by_recipe(folder: Path, compiler: str, *options: str) -> None:
    """Compile the shim as the recipe says, and run the programs of this folder as it says."""
    command, run = recipe(compiler)
    subprocess.run(command, cwd=folder, check=True)
    with small_board() as board:
        for program in PROGRAMS:
            (folder / program).mkdir()
            built = compiled(program, *options, compiler=compiler)
            words = shlex.join(
                [str(built), *([str(folder / program)] if program == "paths.c" else [])]
            )
            line = run.replace("SYSROOT", str(SYSROOT)).replace("PROGRAM", words)
            environment = os.environ | {"TEFLON_BOARD": str(board.root)}
            done = subprocess.run(
                ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
                timeout=100, check=False,
            )  # fmt: skip
            assert done.stderr == "0 bad\n", program


@needs(ARM, EMULATOR)
def test_arm64(tmp_path: Path) -> None:
    """The same programs for arm64, emulated."""
    check_by_recipe(tmp_path, ARM, "-DEMULATED=1")


@needs("musl-gcc")
def test_musl(tmp_path: Path) -> None:
    check_by_recipe(tmp_path, "musl-gcc")


@pytest.mark.parametrize("compiler", ["gcc", "clang", "musl-gcc", ARM])
def test_the_shim_has_no_warnings(tmp_path: Path, compiler: str) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} not installed")
    target = tmp_path / "shim.so"
    for level in ("-O0", "-O2"):
        command = [
            compiler,
            "-std=gnu11",
            level,
            *STRICT,
            "-shared",
            "-fPIC",
            "-o",
            target,
            source(),
        ]
        subprocess.run([*command, "-ldl"], check=True)


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        ("-D_FILE_OFFSET_BITS=64", "-D_TIME_BITS=64"),
        ("-O2", "-D_FORTIFY_SOURCE=2"),
        ("-D_LARGEFILE64_SOURCE", "-Dopen=open64", "-Dmmap=mmap64"),
    ],
)
@pytest.mark.parametrize("program", ["paths.c", "nodes.c"])
def test_other_entry_points(tmp_path: Path, program: str, options: tuple[str, ...]) -> None:
    with small_board() as board:
        board.passes(program, tmp_path, options=options)


@needs("gcc")
def test_the_shim_under_sanitisers(tmp_path: Path) -> None:
    """Nothing that address and undefined-behaviour sanitisers know is wrong in the shim itself."""
    shim = tmp_path / "shim.so"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    command = ["gcc", "-std=gnu11", "-g", *checks, "-shared", "-fPIC", "-o", str(shim)]
    command += [str(source()), "-ldl"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("gcc has no sanitiser libraries")
    options = "verify_asan_link_order=0:detect_leaks=0"
    with small_board() as board:
        for program in PROGRAMS:
            built = compiled(program, "-g", "-fsanitize=address")
            (tmp_path / program).mkdir()
            words = [tmp_path / program] if program == "paths.c" else []
            done = board.run([built, *words], board.environment(shim, ASAN_OPTIONS=options))
            assert done.stderr == "0 bad\n"


@needs_compiler
def test_a_static_program_is_named_before_it_runs() -> None:
    static = compiled("probe.c", "-static")
    done = teflon_board("rk3588", [static])
    assert done.returncode == 1
    assert done.stderr == (
        f"{static}: is linked statically; it will not see the board's nodes (link it dynamically)\n"
        "open: No such file or directory\n"
    )


@needs(ARM)
def test_a_program_for_another_machine_is_named() -> None:
    built = compiled("probe.c", compiler=ARM)
    assert unreached(str(built)).startswith(f"{built}: is for arm64, this machine is ")
    assert "teflon board --shim-source" in unreached(str(built))


@needs("musl-gcc")
def test_a_program_with_another_c_library_is_named() -> None:
    built = compiled("probe.c", compiler="musl-gcc")
    assert ": uses the C library of " in unreached(str(built))


def test_programs_that_are_reached(tmp_path: Path) -> None:
    """The shell, scripts, and what cannot be read: nothing to say."""
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env -S A=1 sh\n")
    script.chmod(0o755)
    empty = tmp_path / "empty"
    empty.touch(0o755)
    for program in ("sh", str(script), str(empty), "no-such-program", str(tmp_path)):
        assert unreached(program) == ""


@needs_compiler
def test_scripts_of_a_static_interpreter_and_programs_of_others(tmp_path: Path) -> None:
    static = compiled("probe.c", "-static")
    script = tmp_path / "script"
    script.write_text(f"#!{static}\n")
    script.chmod(0o755)
    assert unreached(str(script)).startswith(f"{static}: is linked statically")
    if os.geteuid() == 0:
        other = Path(shutil.copy(compiled("probe.c"), tmp_path / "other"))
        os.chown(other, 1234, -1)
        other.chmod(stat.S_ISUID | 0o755)
        assert ": runs as another user" in unreached(str(other))


@given(st.binary(max_size=300), st.booleans())
def test_no_file_is_too_strange(data: bytes, elf: bool) -> None:
    found = Elf.of(b"\x7fELF" + data if elf else data)
    assert found is None or found.bits in (32, 64)


@given(st.binary(min_size=16, max_size=60).filter(lambda b: b"\0" not in b), st.integers(0, 5))
def test_the_dynamic_linker_is_found(name: bytes, others: int) -> None:
    """In an ELF file made here, wherever its program header stands."""
    count, end = others + 1, 64 + 56 * (others + 1)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 0xB7, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 9, 9, 1) * others
    segments += struct.pack("<IIQQQQQQ", 3, 4, end, 0, 0, len(name) + 1, len(name) + 1, 1)
    found = Elf.of(header + segments + name + b"\0")
    assert found == Elf(64, "arm64", os.fsdecode(name))
