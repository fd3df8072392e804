"""The pytest plugin of the kit: command line options only.

Every pytest run in an environment with this package loads it, so it imports nothing before the kit
is used.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the kit's options, and settings for a project's configuration file."""
    group = parser.getgroup("npu", "conformance kit for NPU drivers (teflon_common.conformance)")
    group.addoption(
        "--npu-device", action="append", default=[], metavar="SPEC",
        help="device under test, e.g. sim:rk3588 or /dev/accel/accel0; may be given several times",
    )  # fmt: skip
    group.addoption(
        "--npu-option", action="append", default=[], metavar="NAME=VALUE",
        help="option for the driver under test, e.g. strategy=mesa",
    )  # fmt: skip
    group.addoption(
        "--npu-expectations", default="", metavar="DIR",
        help="folder of <driver>-<chip>-{fails,skips,flakes}.txt",
    )  # fmt: skip
    group.addoption(
        "--npu-matrix", default="", metavar="FILE",
        help="write the matrix of support to FILE.md and FILE.json",
    )  # fmt: skip
    parser.addini("npu_devices", "devices if --npu-device is not given", "linelist", [])
    parser.addini("npu_expectations", "folder if --npu-expectations is not given", "string", "")


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes for --npu-matrix, in the process that gets the reports of all workers."""
    path = config.getoption("npu_matrix", "")
    if path and not hasattr(config, "workerinput"):
        from teflon_common.conformance.matrix import Collector

        config.pluginmanager.register(Collector(Path(path)), "npu-matrix")
