"""`teflon record` and `teflon replay`: what goes to the kernel, as a file."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon import models, plugins
from teflon.cli.common import add_device, driver_options
from teflon.cli.running import add_inputs, describe_array, named_arrays, read_inputs, write_arrays
from teflon.errors import OptionError, RecordingError
from teflon.pipe import Driver


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("record", help="run a model once and keep all that was submitted")
    parser.add_argument("model", metavar="MODEL")
    add_device(parser)
    add_inputs(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE.npz")
    parser.set_defaults(run=record)
    parser = commands.add_parser("replay", help="run a recording on the simulated chip, or show it")
    parser.add_argument("recording", type=Path, metavar="FILE.npz")
    parser.add_argument("--show", action="store_true", help="print what it is about; do not run it")
    parser.add_argument("--text", action="store_true", help="print every request and command list")
    parser.add_argument("--input", metavar="FILE.npz", help="inputs instead of the recorded ones")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="outputs as .npz or .npy")
    parser.set_defaults(run=replay)


def record(options: argparse.Namespace) -> int:
    """Run a model once on a device whose driver records."""
    if options.output.suffix.lower() != ".npz":
        raise OptionError(f"-o {options.output}: must end in .npz")
    given = driver_options(options.option)
    path = models.resolve(options.model)
    with teflon.load(path, options.device, record=str(options.output), **given) as model:
        for name, array in model(read_inputs(options, model)).items():
            print(describe_array(name, array))
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


def replay(options: argparse.Namespace) -> int:
    """Show a recording, or run it and say what came out."""
    driver = _driver(options.recording)
    path = str(options.recording)
    if options.show or options.text:
        sys.stdout.write(driver.show_recording(path, whole=options.text).rstrip() + "\n")
        return 0
    inputs = named_arrays(options.input) if options.input else {}
    outputs = driver.replay(path, inputs)
    for name, array in outputs.items():
        print(describe_array(name, array))
    if options.output:
        write_arrays(options.output, outputs)
    return 0


def _driver(path: Path) -> Driver:
    """Return the driver that a recording is of. Raises RecordingError, OptionError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            name = str(json.loads(bytes(archive["meta"]).decode())["driver"])
    except OSError as error:
        raise OptionError(f"{path}: cannot be read, {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise RecordingError(
            f"{path}: is no recording, must be an .npz file with `meta`"
        ) from error
    drivers = plugins.discover().drivers
    if name not in drivers:
        raise RecordingError(f"{path}: is of driver {name!r}, must be one of {', '.join(drivers)}")
    return drivers[name]
