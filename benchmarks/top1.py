"""Ask each classifier what is in 50 pictures, on a device and on the reference.

python benchmarks/top1.py [--device sim:rk3588] [--pictures 50] [MODEL ...]

Without models: the 8-bit ones that `coverage.py` chooses. A classifier takes one picture and gives
one row of scores. The pictures are cut out of photos that matplotlib and scikit-learn ship. `same`
counts the pictures for which both name the same class; `ties` those of the others for which the
reference gives both classes the same score. `steps` is the largest difference of a score, `gap` the
largest by which the reference prefers its own class to the device's; both in steps of the output.
`xnnpack`: for how many pictures LiteRT's default kernels name the class of its reference kernels,
where it is installed: two classes may be so near that a rounding decides.
Returns 1 if a picture is neither the same nor a tie.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from choose import kind_of, paths_of
from common import OUT, keep, tflite_interpreter
from pictures import crops, takes_pictures
from teflon.cli.common import table
from teflon.compile.source import read_graph
from teflon.errors import TeflonError
from teflon.ir import Array
from teflon.samples.images import to_input


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print."""
    options = _arguments(argv)
    paths = [path for path in paths_of(options.models) if _is_classifier(path)]
    rows = [_row(path, options.device, options.pictures) for path in paths]
    if not rows:
        print("no 8-bit classifiers (name files, or their folder in TEFLON_MODELS)")
        return 1
    print(table([list(row.values()) for row in rows], list(rows[0])))
    keep("Classes of pictures", rows, options, "top1")
    return 0 if all(row["same"] + row["ties"] == row["pictures"] for row in rows) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--device", default="sim:rk3588", metavar="SPEC")
    parser.add_argument("--pictures", type=int, default=50, metavar="N")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    return parser.parse_args(argv)


def _is_classifier(path: Path) -> bool:
    """Whether a model takes one picture and gives one row of scores."""
    if kind_of(path).reason:
        return False
    graph = read_graph(path)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return False
    scores = graph.outputs[0].type
    return takes_pictures(graph.inputs[0].type) and scores.size == scores.shape[-1] > 1


def _row(path: Path, device: str, count: int) -> dict[str, Any]:
    graph = read_graph(path)
    pictures = [to_input(picture, graph.inputs[0].type) for picture in crops(count)]
    row: dict[str, Any] = {"model": path.stem, "pictures": len(pictures)}
    try:
        ours, theirs = (_scores(path, spec, pictures) for spec in (device, "cpu"))
    except TeflonError as error:
        return row | {
            "same": 0,
            "ties": 0,
            "steps": 0.0,
            "gap": 0.0,
            "xnnpack": "",
            "error": f"{error}"[:90],
        }
    first, best = ours.argmax(axis=1), theirs.argmax(axis=1)
    chosen, most = (np.take_along_axis(theirs, n[:, None], 1)[:, 0] for n in (first, best))
    scale = graph.outputs[0].type.scale if theirs.dtype.kind == "f" else 1.0
    far = np.abs(ours.astype(np.float64) - theirs).max()
    gap = (most.astype(np.float64) - chosen).max()
    return row | {
        "same": int((first == best).sum()),
        "ties": int(((first != best) & (chosen == most)).sum()),
        "steps": round(float(far / scale), 1),
        "gap": round(float(gap / scale), 1),
        "xnnpack": _agreement(path, pictures, best),
        "error": "",
    }


def _agreement(path: Path, pictures: Sequence[Array], best: Array) -> int | str:
    """Return for how many pictures LiteRT's default kernels name the reference's class."""
    try:
        interpreter = tflite_interpreter(path, 1)
    except ValueError:  # a file that LiteRT does not open
        interpreter = None
    if interpreter is None:
        return ""
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], picture)
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"]).argmax())
    return int((np.array(found) == best).sum())


def _scores(path: Path, device: str, pictures: Sequence[Array]) -> Array:
    """Return the scores of each picture."""
    with teflon.load(path, device, cache="off") as model:
        return np.stack([model.run(picture)[0].reshape(-1) for picture in pictures])


if __name__ == "__main__":
    sys.exit(main())
