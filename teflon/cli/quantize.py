"""`teflon quantize`: makes an 8-bit model of a float one, and shows what that changes."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teflon import plugins
from teflon.cli.common import (
    brief,
    check_target,
    driver_options,
    nonzero,
    number,
    progress,
    table,
    write_whole,
)
from teflon.cli.planning import describe
from teflon.cli.run import positive
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.devices import CPU
from teflon.errors import ModelError, OptionError, TeflonError
from teflon.inspect.precision import INT8 as EIGHT_BITS
from teflon.inspect.precision import INT16, PACKED, precision_of
from teflon.inspect.report import Report
from teflon.ir.graph import Graph
from teflon.pipe import Device
from teflon.quantize.settings import AVERAGE, FLOAT, INT8, MINMAX, Settings
from teflon.samples import models

if TYPE_CHECKING:
    from teflon.quantize.changes import Changes
    from teflon.quantize.model import FloatModel
    from teflon.quantize.tensors import Samples

SAMPLES = 100


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "quantize", help="make an 8-bit model of a float one, and show what that changes"
    )
    parser.add_argument("model", metavar="MODEL", help="a float .tflite or .onnx file")
    parser.add_argument(
        "--calibrate", type=Path, required=True, metavar="FOLDER|FILE",
        help="a folder of pictures or .npz files; a .npz file with an array for each input, whose"
        " first axis counts samples; or a .npy file for one input",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the 8-bit model"
    )
    parser.add_argument(
        "--samples", type=positive, default=SAMPLES, metavar="N",
        help="use at most N samples, evenly spread (default: %(default)s)",
    )  # fmt: skip
    _add_pictures(parser)
    _add_settings(parser)
    parser.add_argument(
        "--device", metavar="SPEC",
        help="the chip whose multiplications are counted (default: every chip that is known)",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="an option of the driver of --device; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=quantize)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "pictures", "What the training of the model did with pictures; not for .npz and .npy files"
    )
    group.add_argument(
        "--preset", metavar="NAME",
        help="tf: -1 to 1 (default); torchvision, imagenet: mean and deviation of ImageNet; caffe:"
        " BGR less the mean; 0..1, unit; 0..255, none; efficientnet-lite; clip",
    )  # fmt: skip
    group.add_argument(
        "--mean", type=numbers, metavar="M[,M,M]",
        help="pixels become (pixel - M) / S; of pixels from 0 to 255, or from 0 to 1 if each S is"
        " below 1",
    )  # fmt: skip
    group.add_argument("--std", type=stds, metavar="S[,S,S]")
    group.add_argument("--bgr", action="store_true", help="the model takes BGR, not RGB")
    group.add_argument(
        "--layout", choices=("NHWC", "NCHW"), help="default: found in the input's shape"
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--per-tensor", action="store_true",
        help="one scale for all weights of a layer, not one for each channel: faster on some chips"
        " (a311d, s905d3, imx8mp), less exact",
    )  # fmt: skip
    parser.add_argument(
        "--io", choices=(FLOAT, INT8), default=FLOAT,
        help="type of inputs and outputs: float, so that programs need no change (default), or"
        " int8, so that nothing is converted on the processor",
    )  # fmt: skip
    parser.add_argument(
        "--range", choices=(MINMAX, AVERAGE), default=MINMAX,
        help="range of an activation: of all samples (default), or the average of the samples'"
        " ranges, which ignores outliers",
    )  # fmt: skip
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=N,N,...",
        help="shape of an input whose size the file leaves open; may be repeated",
    )  # fmt: skip


def numbers(text: str) -> tuple[float, ...]:
    """Return 1 or 3 finite numbers, for argparse."""
    found = tuple(number(part) for part in text.split(","))
    if len(found) not in (1, 3):
        raise argparse.ArgumentTypeError(f"has {len(found)} numbers, must have 1 or 3")
    return found


def stds(text: str) -> tuple[float, ...]:
    """Return 1 or 3 positive numbers, for argparse."""
    found = tuple(nonzero(part) for part in text.split(","))
    if len(found) not in (1, 3) or min(found) < 0:
        raise argparse.ArgumentTypeError(f"is {text}, must be 1 or 3 positive numbers")
    return found


def quantize(options: argparse.Namespace) -> int:
    """Quantise, measure, write, print."""
    from teflon.quantize.changes import measure
    from teflon.quantize.model import open_float_model

    path = models.resolve(options.model)
    _check_output(options.output, path)
    devices = _described(options)
    _check_tflite(path)
    model = open_float_model(path)
    settings = Settings(options.per_tensor, options.io, options.range)
    model, samples = _with_samples(model, options)
    content = model.quantized(progress(samples, "calibrate", "sample"), settings)
    changes = measure(model.probe(), model.probe(content), progress(samples, "compare", "sample"))
    write_whole(options.output, content)
    chips = _chips(devices, options.output)
    told = _Told(path, options.output, settings, samples.source, changes, chips)
    print(json.dumps(told.as_dict(), indent=2) if options.json else told)
    return 0


def _check_output(output: Path, model: Path) -> None:
    """Raise OptionError for an output that cannot be written or would replace the float model."""
    check_target(output)
    if output.exists() and model.exists() and output.samefile(model):
        raise OptionError(f"-o {output}: is the float model itself, must be another file")
    known = model.suffix.lower()
    if output.suffix.lower() != known:
        raise OptionError(f"-o {output}: must end in {known}, as the model does")


def _check_tflite(path: Path) -> None:
    """Raise ModelError for a .tflite file that is broken, 8 bits already, or cannot become so.

    Runtimes trust such files and may crash on broken ones; our reader does not. The library for
    ONNX checks them itself.
    """
    from teflon.quantize.model import is_tflite

    if not is_tflite(path):
        return
    precision = precision_of(read_graph(path))
    if precision.foreign in (INT16, PACKED):
        raise ModelError(f"{path}: {precision.advice(str(path))}")
    if precision.macs.get(EIGHT_BITS) and not precision.foreign:
        raise ModelError(f"{path}: multiplies in 8 bits already, must be a float model")


def _with_samples(model: FloatModel, options: argparse.Namespace) -> tuple[FloatModel, Samples]:
    """Return the model for fixed shapes, and the calibration data."""
    from teflon.quantize.calibration import Reading, read_samples
    from teflon.quantize.pictures import normalization

    how = Reading(
        options.samples,
        normalization(options.preset, options.mean, options.std, options.bgr),
        options.layout,
    )
    wanted = _shapes(options.shape, [i.name for i in model.inputs])
    inputs = [replace(i, shape=wanted[i.name]) if i.name in wanted else i for i in model.inputs]
    samples = read_samples(options.calibrate, inputs, how)
    first = next(iter(samples))
    return model.with_shapes({name: array.shape for name, array in first.items()}), samples


def _shapes(texts: Sequence[str], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of --shape. Raises OptionError."""
    found = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        numbers = [part.strip() for part in sizes.split(",")]
        if not name or not all(part.isdecimal() and int(part) for part in numbers):
            raise OptionError(f"--shape {text!r}: must be NAME=N,N,... with numbers above 0")
        if name not in names:
            raise OptionError(f"--shape {name}: must be one of {', '.join(names)}")
        found[name] = tuple(int(part) for part in numbers)
    return found


@dataclass(frozen=True)
class _Chip:
    """How much of the 8-bit model a chip takes; or why that is not known."""

    spec: str
    operations: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    """Of the NPU, of all."""
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"MACs: {self.problem}"
        (mine, macs), (ops, all_ops) = self.macs, self.operations
        share = f" ({mine / macs:.1%})" if macs else ""
        return (
            f"{self.spec}: {ops} of {all_ops} operations, {mine:,} of {macs:,} MACs{share}"
            " on the NPU"
        )


def _described(options: argparse.Namespace) -> dict[str, Device]:
    """Return the chip of --device, or every known one. Raises what opening a device raises."""
    given = driver_options(options.option)
    if options.device:
        return {options.device: describe(options.device, given)}
    if given:
        raise OptionError("--option: is of a driver, must come with --device")
    drivers = plugins.discover().drivers.values()
    chips = [chip for d in drivers if d.name != CPU and not d.runs for chip in d.chips]
    return {chip: describe(chip, {}) for chip in chips}


def _chips(devices: Mapping[str, Device], path: Path) -> list[_Chip]:
    """Plan the 8-bit model for chips."""
    try:
        graph = read_graph(path)
    except TeflonError as error:
        return [_Chip(spec, problem=f"not counted, {error}") for spec in devices]
    return [_chip(spec, graph, device) for spec, device in devices.items()]


def _chip(spec: str, graph: Graph, device: Device) -> _Chip:
    try:
        plan = plan_model(graph, device)
    except TeflonError as error:
        return _Chip(spec, problem=f"not counted, {error}")
    totals, name = Report(plan).totals(), plan.devices[0]
    ops, macs = totals["operations"], totals["macs"]
    return _Chip(
        spec,
        (ops.get(name, 0), sum(ops.values())),
        (macs.get(name, 0), sum(macs.values())),
    )


@dataclass(frozen=True)
class _Told:
    """What the command tells when all is done."""

    model: Path
    output: Path
    settings: Settings
    source: str
    changes: Changes
    chips: Sequence[_Chip]

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": str(self.model),
            "output": str(self.output),
            "weights": "per tensor" if self.settings.per_tensor else "per channel",
            "io": self.settings.io,
            "range": self.settings.range,
            "calibration": self.source,
            **self.changes.as_dict(),
            "chips": [
                {
                    "device": c.spec,
                    "npu_operations": c.operations[0],
                    "operations": c.operations[1],
                    "npu_macs": c.macs[0],
                    "macs": c.macs[1],
                    "problem": c.problem,
                }
                for c in self.chips
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = [
            (number, layer.kind, brief(layer.name), _decibels(noise.decibels))
            for number, (layer, noise) in enumerate(self.changes.layers.items())
        ]
        yield table(rows, ("", "operation", "result", "SQNR"))
        yield ""
        each = "tensor" if self.settings.per_tensor else "channel"
        yield f"{self.output}: {self._size()}, int8 with a weight scale for each {each}"
        yield f"calibrated and compared with {self.source}"
        yield from self._outputs()
        yield from dict.fromkeys(map(str, self.chips))

    def _size(self) -> str:
        before, after = (p.stat().st_size / 1e6 for p in (self.model, self.output))
        return f"{after:.2f} MB of {before:.2f} MB"

    def _outputs(self) -> Iterator[str]:
        for out in self.changes.outputs:
            noise, total = out.noise, self.changes.samples
            same = (
                f"same best class for {out.same_top} of {total} ({out.same_top / total:.1%}), "
                if out.classes
                else ""
            )
            yield (
                f"output {out.name!r}: {same}SQNR {_decibels(noise.decibels)}, difference"
                f" {noise.absolute / max(1, noise.count):.3g} on average, {noise.largest:.3g} at"
                " most"
            )


def _decibels(value: float) -> str:
    if math.isinf(value):
        return "exact" if value > 0 else "lost"
    return f"{value:.1f} dB"
