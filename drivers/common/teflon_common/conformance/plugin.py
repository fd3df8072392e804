"""The pytest plugin: options, nothing else. It is in every run of pytest of everybody who installed
us, so it imports nothing until the kit is used.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add a group of options, and their defaults for a project's own configuration."""
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
    parser.addini("npu_devices", "devices when --npu-device is not given", "linelist", [])
    parser.addini("npu_expectations", "folder when --npu-expectations is not given", "string", "")


def pytest_configure(config: pytest.Config) -> None:
    """Gather outcomes where a matrix is asked for, in the process that sees all of them."""
    path = config.getoption("npu_matrix", "")
    if path and not hasattr(config, "workerinput"):
        from teflon_common.conformance.matrix import Collector

        config.pluginmanager.register(Collector(Path(path)), "npu-matrix")
