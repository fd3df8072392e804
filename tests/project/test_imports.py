"""Who does not use a runtime does not wait for it: what a process imports, by door."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUNTIMES = (
    "ai_edge_litert", "ai_edge_quantizer", "google", "onnx", "onnxruntime", "tensorflow",
    "tflite_runtime",
)  # fmt: skip

DOORS = {
    "import": ("import teflon", 131),
    "version": ("from teflon.cli import main; main(['--version'])", 180),
    "devices": ("from teflon.cli import main; main(['devices'])", 241),
    "check": ("from teflon.cli import main; main(['check', 'digits_int8', '--device', 'rk3588'])",
              595),
    "load": ("import teflon; from teflon import models;"
             " teflon.load(models.resolve('digits_int8'), 'sim:rk3588', cache='off').close()", 655),
}  # fmt: skip
"""Door -> a program, and how many modules it may import: today's number and a tenth more."""


def imported(program: str) -> list[str]:
    """Return the modules that a process has when a program has ended."""
    code = f"{program}\nimport sys; sys.stderr.write('MODULES ' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stderr.partition("MODULES ")[2].split()


@pytest.mark.parametrize("door", DOORS)
def test_no_runtime_and_not_many_modules(door: str) -> None:
    program, most = DOORS[door]
    modules = imported(program)
    assert {m.partition(".")[0] for m in modules}.isdisjoint(RUNTIMES)
    assert len(modules) <= most, len(modules)
