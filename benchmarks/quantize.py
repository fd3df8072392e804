"""Quantise float networks, and show how much of them each chip takes and what it changes.

python benchmarks/quantize.py [--pictures 100] [--size 224] [--width 1.0] [MODEL ...]

Without models: a float MobileNetV2 that is made here, and the direction classifier of
rapidocr-onnxruntime if that package is installed. `same` counts the pictures with the same best
class as the float model's; calibrated and compared with the same pictures. `SQNR` is that of the
first output, `worst` the least of a layer. The columns of the chips are the part of the
multiplications that their NPUs take.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import OUT, keep
from float_nets import mobilenet_v2
from pictures import crops, photos
from teflon.cli import main as teflon
from teflon.cli.common import table

_LEARN = 24
"""Pictures that the MobileNetV2 is made with."""
_OCR = ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", "x=1,3,48,192")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--pictures", type=int, default=100, metavar="N")
    parser.add_argument("--size", type=int, default=224, help="of the MobileNetV2's input")
    parser.add_argument("--width", type=float, default=1.0, help="of the MobileNetV2")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    options = parser.parse_args(argv)
    options.device = "all"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, picture in enumerate(crops(options.pictures)):
            picture.save(folder / f"{number:04}.png")
        rows = [
            _row(model, shape, weights, folder)
            for model, shape in _models(options, folder)
            for weights in ("channel", "tensor")
        ]
    print(table([list(row.values()) for row in rows], list(rows[0])))
    keep("Float models, quantised", rows, options, "quantize")
    return 0


def _models(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files, and the shape of an input whose size is open."""
    if options.models:
        yield from ((path, "") for path in options.models)
        return
    made = folder / "models" / f"mobilenet_v2_{options.width:g}_{options.size}.tflite"
    made.parent.mkdir()
    made.write_bytes(_mobilenet(options.size, options.width))
    yield made, ""
    package, file, shape = _OCR
    spec = importlib.util.find_spec(package)  # not imported: it needs OpenCV
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place) / file, shape


def _mobilenet(size: int, width: float) -> bytes:
    found = [np.asarray(c.resize((size, size)), np.float32) / 127.5 - 1 for c in crops(_LEARN)]
    return mobilenet_v2(np.stack(found), [n % len(photos()) for n in range(_LEARN)], width)


def _row(model: Path, shape: str, weights: str, pictures: Path) -> dict[str, Any]:
    words = ["quantize", str(model), "--calibrate", str(pictures), "--json", "--samples", "9999"]
    words += ["-o", str(pictures / "models" / f"out{model.suffix}")]
    (pictures / "models").mkdir(exist_ok=True)
    words += ["--shape", shape] if shape else []
    words += ["--per-tensor"] if weights == "tensor" else []
    printed, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(printed):
        code = teflon(words)
    if code:
        raise SystemExit(f"{model}: teflon quantize failed")
    seconds = time.perf_counter() - start
    found = json.loads(printed.getvalue())
    out = found["outputs"][0]
    same = out["top1_agreement"]
    return {
        "model": model.stem,
        "scales": weights,
        "same": "" if same is None else f"{round(same * found['samples'])}/{found['samples']}",
        "SQNR": out["sqnr_db"],
        "worst": min(la["sqnr_db"] for la in found["layers"] if la["sqnr_db"] is not None),
        **{chip["device"]: _share(chip) for chip in found["chips"]},
        "s": seconds,
    }


def _share(chip: dict[str, Any]) -> str:
    return "?" if chip["problem"] else f"{chip['npu_macs'] / chip['macs']:.2%}"


if __name__ == "__main__":
    sys.exit(main())
