"""An arm64 system with Mesa's newest packaged TFLite delegate, brought into a cache folder.

    python -m tests.upstream.sysroot

apt itself finds and resolves the packages, with folders of its own and the archive that this
machine uses; pip brings the wheels. Nothing is installed on this machine and no root is needed. A
sysroot of this day is used as it is; where no registry answers, an older one is. The folder is
TEFLON_UPSTREAM_CACHE, else `upstream` in the user's cache of Teflon.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from teflon.board import board

CACHE = "TEFLON_UPSTREAM_CACHE"
ARCHIVE = "TEFLON_UPSTREAM_ARCHIVE"
"""Names a Debian archive (URI), for machines whose apt has none."""

DELEGATE = "mesa-teflon-delegate"
PACKAGES = (DELEGATE, "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
SUITES = ("sid", "bookworm")
"""Where the newest delegate is; where the Python is for which there is a tflite-runtime."""
WHEELS = ("tflite-runtime", "numpy<2")
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_34_aarch64", "manylinux2014_aarch64")
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
COMPILER = "aarch64-linux-gnu-gcc"
KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")

FRESH = 24 * 3600
LIMIT = 240
"""Seconds that one command may take."""
UNREACHABLE = 3
"""Exit status of this program where packages cannot be had; 1 is an error of ours."""


class Missing(Exception):
    """What is not there, and the cure, in one sentence."""


@dataclass(frozen=True)
class Sysroot:
    """An unpacked system, and what runs its programs."""

    root: Path
    version: str
    """Of the delegate's package."""
    emulator: str

    @property
    def mesa(self) -> str:
        """Mesa's own version."""
        return self.version.partition("-")[0]

    @property
    def delegate(self) -> Path:
        return self.root / "usr/lib/teflon/libteflon.so"

    @property
    def shim(self) -> Path:
        """The board's shim, compiled for arm64."""
        return self.root / "usr/lib" / board.LIBRARY

    def command(self, script: Path, *arguments: str) -> list[str]:
        """Return a command that runs a script in the system's Python, on a board.

        The emulator itself must not have the shim of this machine: LD_PRELOAD is the program's.
        """
        return ["env", "-u", "LD_PRELOAD", self.emulator, "-L", str(self.root),
                "-E", f"LD_PRELOAD={self.shim}", str(self.root / f"usr/bin/python{PYTHON}"),
                "-P", str(script), *arguments]  # fmt: skip


def cache() -> Path:
    """Return the folder that keeps what was brought."""
    named = os.environ.get(CACHE)
    return Path(named) if named else platformdirs.user_cache_path("teflon") / "upstream"


def bring() -> Sysroot:
    """Return the sysroot, after bringing it if it is not of this day. Raises Missing."""
    emulator = tools()
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        about = _about(folder)
        if about is None or time.time() - float(about["checked"]) > FRESH:
            try:
                about = _renew(folder)
            except Missing:
                if about is None:
                    raise
        found = Sysroot(folder / str(about["root"]), str(about["version"]), emulator)
        _compile(found)
    return found


def tools() -> str:
    """Return the emulator's path. Raises Missing if a tool is not there."""
    if not sys.platform.startswith("linux"):
        raise Missing(f"this is {sys.platform}, must be Linux")
    emulator = next((path for name in EMULATORS if (path := shutil.which(name))), None)
    if emulator is None:
        raise Missing("no qemu-aarch64: install qemu-user")
    for tool, package in ((COMPILER, "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"),
                          ("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar")):  # fmt: skip
        if shutil.which(tool) is None:
            raise Missing(f"no {tool}: install {package}")
    return emulator


def _about(folder: Path) -> dict[str, float | str] | None:
    try:
        about: dict[str, float | str] = json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return None
    return about if (folder / str(about["root"])).is_dir() else None


def _renew(folder: Path) -> dict[str, float | str]:
    """Bring what is newest, unpack it if it is new, and note it."""
    packages = _packages(folder / "apt")
    wheels = _wheels(folder / "wheels")
    names = [path.name for path in (*packages, *wheels)]
    name = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    delegate = next(n for n in names if n.startswith(f"{DELEGATE}_"))
    root = folder / f"root-{name}"
    if not root.is_dir():
        for old in folder.glob("root-*"):
            shutil.rmtree(old)
        _unpack(packages, wheels, root)
    about: dict[str, float | str] = {
        "root": root.name, "version": delegate.split("_")[1], "checked": time.time(),
    }  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about))
    return about


def _packages(folder: Path) -> list[Path]:
    """Return the files of the packages and of all that they depend on."""
    archives = folder / "archives"
    for part in (folder / "lists/partial", archives / "partial"):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")
    (folder / "sources.list").write_text(_sources())
    (folder / "apt.conf").write_text(_settings(folder))
    apt = {"APT_CONFIG": str(folder / "apt.conf")}
    _done(["apt-get", "-q", "update"], "apt finds no archive", apt)
    install = ["apt-get", "-q", "-y", "install", "--no-install-recommends", *PACKAGES]
    all_of_them = ["-o", f"Dir::Cache::archives={folder / 'lists'}", "--print-uris"]
    listed = _done([*install, *all_of_them], "apt does not find the packages", apt)
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("'")]
    for old in archives.glob("*.deb"):
        if old.name not in names:
            old.unlink()
    _done([*install, "--download-only"], "apt cannot bring the packages", apt)
    return [archives / name for name in names]


def _settings(folder: Path) -> str:
    """Return an apt.conf of our own, with this machine's settings of how to reach archives."""
    reach = _done(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], "apt-config fails")
    own = {
        "Dir::Etc::parts": "/dev/null", "Dir::Etc::main": "/dev/null",
        "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null", "Dir::Etc::preferences": "/dev/null",
        "Dir::State": folder, "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status", "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives", "Dir::Log": folder,
        "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true", "APT::Get::List-Cleanup": "true",
        "Acquire::Retries": 2, "Acquire::http::Timeout": 20, "Acquire::https::Timeout": 20,
        "APT::Update::Error-Mode": "any",
    }  # fmt: skip
    return reach + "".join(f'{key} "{value}";\n' for key, value in own.items())


def _sources() -> str:
    keyring = next((p for n in KEYRINGS if (p := Path("/usr/share/keyrings") / n).is_file()), None)
    how = f"arch=arm64 signed-by={keyring}" if keyring else "arch=arm64"
    return "".join(f"deb [{how}] {_archive()} {suite} main\n" for suite in SUITES)


def _archive() -> str:
    """Return the URI of the Debian archive that this machine's apt uses."""
    if named := os.environ.get(ARCHIVE):
        return named
    rows = _done(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(ORIGIN)"],
                 "apt does not tell its archives")  # fmt: skip
    system = Path("/etc/os-release")
    debian = system.is_file() and "ID=debian" in system.read_text().splitlines()
    for row in rows.splitlines():
        uri, release, origin = row.split("|")
        unknown = origin.startswith("$")  # there is no index of it here
        if not set("-/") & set(release) and (origin == "Debian" or (unknown and debian)):
            return uri
    raise Missing(f"this machine's apt has no Debian archive: name one in {ARCHIVE}")


def _wheels(folder: Path) -> list[Path]:
    """Return the newest wheels."""
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    found = [] if not folder.is_dir() else ["--find-links", str(folder)]
    _done([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
           "--only-binary=:all:", *platforms, "--python-version", PYTHON, "--implementation", "cp",
           *found, "-d", str(new), *WHEELS], "pip cannot bring the wheels")  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return sorted(folder.glob("*.whl"))


def _unpack(packages: Sequence[Path], wheels: Sequence[Path], root: Path) -> None:
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("lib", "bin", "sbin"):
        (part / "usr" / name).mkdir(parents=True)
        (part / name).symlink_to(f"usr/{name}")
    for package in packages:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
        ) as deb:
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", part],
                           stdin=deb.stdout, check=True, timeout=LIMIT)  # fmt: skip
    site = part / "usr/lib/python3/dist-packages"
    for wheel in wheels:
        shutil.unpack_archive(wheel, site, "zip")
    part.rename(root)


def _compile(sysroot: Sysroot) -> None:
    """Compile the shim as `teflon board --shim-source` says; the source may be newer."""
    part = sysroot.shim.with_suffix(".part")
    command = [COMPILER, "-O2", "-shared", "-fPIC", "-o", str(part), str(board.source()), "-ldl"]
    _done(command, "the shim does not compile")
    part.replace(sysroot.shim)


def _done(
    command: Sequence[str], problem: str, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return what it prints. Raises Missing with the problem."""
    variables = {**os.environ, "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=LIMIT)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{problem}: not done after {LIMIT} seconds") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{problem}: {lines[-1] if lines else f'exit status {done.returncode}'}")
    return done.stdout


def main() -> int:
    """Bring the sysroot and say what it is; exit status 3 where it cannot be had."""
    start = time.monotonic()
    try:
        found = bring()
    except Missing as missing:
        sys.stderr.write(f"upstream: {missing}\n")
        return UNREACHABLE
    sys.stdout.write(
        f"{found.root}: {DELEGATE} {found.version}, {time.monotonic() - start:.1f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
